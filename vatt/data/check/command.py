"""The command line of check."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vatt.data.arguments import MOST_WORKERS, whole
from vatt.data.check.report import describe, write
from vatt.data.check.splits import check_splits
from vatt.ended import ended
from vatt.errors import EXIT_DATA, DataError

if TYPE_CHECKING:
    from vatt.data.cards import Card


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the checked command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vatt.data.check",
        description="Read a data set end to end and say what is wrong with it.",
    )
    add = parser.add_argument
    add("card", help="folder of the data set, its card.yaml, or a name in --data_dir")
    add("--data_dir", metavar="DIR", help="folder of the data sets ($VATT_DATA_DIR)")
    add("--splits", nargs="+", metavar="SPLIT", help="only these (all)")
    add("--contact_sheet", type=Path, metavar="PNG", help="picture of clips to be written")
    add("--samples", type=whole(1, 10**4), default=12, help="clips on the contact sheet (12)")
    add("--workers", type=whole(1, MOST_WORKERS), help="processes (one per core)")
    return parser.parse_args(argv)


def find_card(name: str, data_dir: str | None = None) -> Card:
    """Returns the card in a folder or file, or that of a data set in `data_dir`.

    Raises:
      DataError: there is none, or it is not valid.
    """
    from vatt.data import cards

    path = Path(name)
    if not os.path.exists(path):  # maybe what cannot be a name at all
        is_path = path.suffix or len(path.parts) != 1
        return cards.read(path) if is_path else cards.load(name, data_dir)
    if path.is_dir() and not (path / cards.CARD_FILE).is_file():
        inside = ", ".join(sorted(p.parent.name for p in path.glob(f"*/{cards.CARD_FILE}")))
        hint = f"; data sets in it: {inside}" if inside else ""
        raise DataError(f"{path}: there is no {cards.CARD_FILE} in this folder{hint}")
    if path.is_dir():
        return cards.read(path / cards.CARD_FILE)
    return cards.read(path)


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    return ended(lambda: _run(parse_arguments(argv)), "stopped; nothing was written.")


def _run(arguments: argparse.Namespace) -> int:
    shown = arguments.samples if arguments.contact_sheet else 0
    card = find_card(arguments.card, arguments.data_dir)
    report = check_splits(card, arguments.splits, samples=shown, workers=arguments.workers)
    print(describe(report))
    write(report)
    if arguments.contact_sheet:
        from vatt.data.check import contact_sheet

        contact_sheet.write(arguments.contact_sheet, report.samples, card.name)
        print(f"contact sheet: {arguments.contact_sheet}")
    return 0 if report.fine else EXIT_DATA
