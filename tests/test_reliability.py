"""The table of docs/reliability.md: every promise once, with tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/reliability.md"
PROMISES = [f"R{number}" for number in range(1, 45)] + [f"S{number}" for number in range(1, 10)]


def rows() -> list[list[str]]:
    """Cells of the rows that begin with the number of a promise."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    found = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    return [cells for cells in found if re.fullmatch(r"[RS]\d+", cells[0])]


def test_every_promise_is_there_once_and_nothing_is_left_open():
    assert [cells[0] for cells in rows()] == PROMISES
    for cells in rows():
        assert len(cells) == 5 and all(len(cell) > 5 for cell in cells[1:]), cells


def test_every_test_that_is_named_exists():
    for number, _, _, tests, _ in rows():
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
        assert named and len(named) == tests.count("::"), number
        for file, name in named:
            tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
            functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert name in functions and name.startswith("test_"), f"{number}: {file}::{name}"
