"""Files and functions one can hold in the head, and types in signatures."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import parsed
import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "vatt"
FILES = sorted(PACKAGE.rglob("*.py"))
FILE_LINES, FUNCTION_LINES, TYPED = 400, 60, 0.98

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(path: Path) -> Iterator[Function]:
    for node in parsed.nodes(path):
        if isinstance(node, Function):
            yield node


def _arguments(function: Function) -> Iterator[ast.arg]:
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    yield from (a for a in every if a is not None and a.arg not in ("self", "cls"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path):
    assert len(path.read_text().splitlines()) <= FILE_LINES
    for function in _functions(path):
        lines = function.end_lineno - function.lineno + 1
        assert lines <= FUNCTION_LINES, f"{path}:{function.lineno}: {function.name}: {lines} lines"


def test_arguments_have_types():
    """All but a few: of lambdas that stand as functions, where a library gives them."""
    arguments = [(p, f, a) for p in FILES for f in _functions(p) for a in _arguments(f)]
    untyped = [f"{p}:{f.lineno}: {f.name}({a.arg})" for p, f, a in arguments if not a.annotation]
    assert len(untyped) <= (1 - TYPED) * len(arguments), untyped
