"""Lists published checkpoints: name, architecture, data, published figures, and what is here.

    python -m vatt.tools.zoo                    # all of them
    python -m vatt.tools.zoo gdt kinetics       # those that all of the words are said of
    python -m vatt.tools.zoo gdt_k400           # all that is known of one

python -m vatt.tools.download NAME fetches one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from vatt import zoo
from vatt.ended import ended
from vatt.errors import UserError, nearest
from vatt.printing import show
from vatt.zoo import cache

_HEAD = ("NAME", "ARCHITECTURE", "DATA", "PUBLISHED FIGURES", "FILE")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m vatt.tools.zoo",
        description=__doc__.split("\n")[0],
        epilog="python -m vatt.tools.download NAME fetches one.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="a name, or words that must be said of it"
    )
    parser.add_argument("--cache_dir", help="folder of fetched checkpoints; by default $VATT_CACHE")
    options = parser.parse_args(arguments)
    return ended(lambda: _run(options), "stopped")


def _run(options: argparse.Namespace) -> int:
    show(_listed(options.words, options.cache_dir))
    return 0


def _listed(words: list[str], cache_dir: str | None) -> str:
    if len(words) == 1 and words[0].lower().replace("-", "_") in zoo.known():
        return _described(zoo.find(words[0]), cache_dir)
    rows = zoo.having(words)
    if not rows:
        hint = nearest(words[0], zoo.known())
        raise UserError(f"no published checkpoint has to do with '{' '.join(words)}'.{hint}")
    if len(rows) == 1:
        return _described(rows[0], cache_dir)
    table = [_HEAD]
    for row in rows:
        architecture = row.architecture or f"({row.method})"
        state = _state(row, cache_dir)
        table.append((row.name, architecture, row.data, row.published or "-", state))
    lines = _aligned(table)
    if any(not row.loadable for row in rows):
        lines.append("(method): this version does not have it; such files can be fetched, not read")
    lines.append(
        "needs --url: its address is not known here, python -m vatt.tools.download asks for it."
    )
    lines.append("Figures are published ones, none measured here. One name alone tells more.")
    return "\n".join(lines)


def _state(row: zoo.Checkpoint, cache_dir: str | None) -> str:
    if cache.fetched(row.name, cache_dir):
        return "here"
    return "can be fetched" if row.address else "needs --url"


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def _described(row: zoo.Checkpoint, cache_dir: str | None) -> str:
    here = cache.fetched(row.name, cache_dir)
    sizes = ", ".join(f"{name}: {size} bytes" for name, size in row.sizes.items())
    facts = {
        "model": row.model,
        "method": row.method + ("" if row.loadable else " (not in this version: cannot be loaded)"),
        "task": row.task,
        "options": " ".join(map(_quoted, row.options())) or None,
        "data": row.data,
        "published": row.published or None,
        "file": f"{row.file or 'name not known'} ({row.kind})",
        "size": sizes or "not known",
        "address": row.address or "not known; see the page",
        "page": row.page,
        "note": row.note,
        "here": str(here) if here else None,
    }
    return "\n".join(
        [row.name, *(f"  {name + ':':11}{text}" for name, text in facts.items() if text)]
    )


def _quoted(option: str) -> str:
    return f"'{option}'" if " " in option else option


if __name__ == "__main__":
    sys.exit(main())
