"""Files of Python as syntax trees, each parsed once for all the tests that look into it.

for node in parsed.nodes(path): ...
for name, call in parsed.calls(path): ...
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path


def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Returns every node of a file, in the order of `ast.walk`; to be read only."""
    return _nodes(path.read_text(encoding="utf-8"))


def calls(path: Path) -> tuple[tuple[str, ast.Call], ...]:
    """Returns (what is called, as it is written; the node) of every call in a file."""
    return _calls(path.read_text(encoding="utf-8"))


@functools.cache  # by what stands in the file, which may be written again
def _nodes(text: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(text)))


@functools.cache
def _calls(text: str) -> tuple[tuple[str, ast.Call], ...]:
    found = (node for node in _nodes(text) if isinstance(node, ast.Call))
    return tuple((ast.unparse(call.func), call) for call in found)
