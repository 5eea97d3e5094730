"""The classes of a data set to be: which there are, in which order, and how they are spelled.

A class keeps its number: `labels.txt` in the folder of the set holds from one command to the next.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from vatt.data.ingest import sources, summary
from vatt.data.ingest.log import Log
from vatt.errors import DataError, nearest
from vatt.files import replace_text


def settle(listing: sources.Listing, given: Path | None, folder: Path) -> tuple[str, ...]:
    """Returns the names of all classes in their order.

    Given by the format or `--labels`, else by an earlier run into the folder, else alphabetical.
    Rows get the one spelling of a class. Names that differ little, and numbers that are not their
    own index, become notices of the listing.

    Raises:
      DataError: a class is not among those, or they are not those of the earlier run.
    """
    known = summary.read_labels(folder)
    where = folder / summary.LABELS_FILE
    way_out = "choose a new --output_dir, or name all classes in order by --labels FILE"
    if listing.labels is not None:
        names, where = list(listing.labels), "the table of classes"
        if known is not None and known != names and given is None:
            raise DataError(f"{folder / summary.LABELS_FILE} has other classes: {way_out}")
    elif given is not None:
        names, where = _read_names(given), given
    else:
        names = known
    _join_spellings(listing, names or ())
    used = {label: row for row in listing.rows for label in row.labels}
    by_alphabet = listing.labels is None and given is None
    names = sorted(used) if names is None else names
    for label in sorted(set(used) - set(names)):
        raise DataError(
            f"{used[label].source}: class '{label}' is not in {where}.{nearest(label, names)} "
            f"Classes keep their numbers: {way_out}"
        )
    _tell(listing, names, counted=by_alphabet)
    return tuple(names)


def _join_spellings(listing: sources.Listing, known: Sequence[str]) -> None:
    """Gives classes that differ in their Unicode form alone ("é" as one sign or as two) one name.

    That of a class that is known already, else the composed one; what has one form keeps it.
    """
    names = {_composed(name): name for name in known}
    used = dict.fromkeys(label for row in listing.rows for label in row.labels)
    for form, labels in _alike(used, _composed).items():
        if len(labels) > 1:
            listing.notice(
                "spellings of one class in several Unicode forms, joined", [names.get(form, form)]
            )
            names.setdefault(form, form)
    one = {label: names.get(_composed(label), label) for label in used if label not in known}
    if any(label != name for label, name in one.items()):
        listing.rows = [
            dataclasses.replace(
                row, labels=tuple(dict.fromkeys(one.get(label, label) for label in row.labels))
            )
            for row in listing.rows
        ]


def _tell(listing: sources.Listing, names: Sequence[str], counted: bool) -> None:
    """Notices of classes that are easily taken for others."""
    kind = "classes whose names differ in case or width of letters alone"
    for group in _alike(names, _folded).values():
        if len(group) > 1:
            listing.notice(kind, [", ".join(group)])
    if counted:
        for index, name in enumerate(names):
            if name.isdecimal() and int(name) != index:
                kind = "classes that are numbers and have another index"
                listing.notice(kind, [name], f"index {index}")


def _alike(names: Iterable[str], form: Callable[[str], str]) -> dict[str, list[str]]:
    """Names by what is the same in them."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(form(name), []).append(name)
    return found


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _read_names(path: Path) -> list[str]:
    from vatt.data import cards

    try:
        return cards.read_labels(path)
    except DataError as error:
        raise DataError(f"--labels: {error}") from None


def write(folder: Path, labels: Sequence[str]) -> None:
    """Writes the classes of a data set, one per line, before any record has their numbers."""
    for label in labels:
        if not label or label != label.strip() or len(label.splitlines()) > 1:
            raise DataError(f"class {label!r}: must be one line without spaces at its ends")
    if labels and list(labels) != summary.read_labels(folder):
        replace_text(folder / summary.LABELS_FILE, "".join(f"{label}\n" for label in labels))


def say_if_missing(name: str, labels: Sequence[str], log: Log) -> None:
    """Says it when a set that is known has fewer classes here than it should."""
    from vatt.data import cards

    classes = (cards.describe(name).num_classes or 0) if name in cards.known() else 0
    if 0 < len(labels) < classes:
        log.say(
            f"only {len(labels)} of the {classes} classes of {name} are "
            "there; to give classes the numbers of the whole set, name all of them by "
            "--labels FILE"
        )
