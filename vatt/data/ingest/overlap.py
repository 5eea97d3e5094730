"""Finds the files whose clips are in several splits, also where other commands made those."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vatt.data.features import other_folds, splits_of

if TYPE_CHECKING:
    from vatt.data.ingest.sources import Listing


def tell(listing: Listing, kept: Sequence[dict[str, Any]], folder: Path) -> None:
    """Lists the files of a listing that are in two splits which should share none.

    Args:
      listing: what the command makes.
      kept: stats of the shards of other splits, which stay.
      folder: of the data set.
    """
    root = str(listing.root.resolve())
    names: dict[str, str] = {}
    splits: dict[str, set[str]] = {}
    for row in listing.rows:
        place = _place(root, row.source)
        names.setdefault(place, row.source)
        splits.setdefault(place, set()).add(row.split)
    for shard in kept:
        for name in _files(shard, folder):
            place = _place(shard.get("root", root), name)
            if place in splits:
                splits[place].update(splits_of(shard["split"]))
    for place, found in splits.items():
        pairs = itertools.combinations(sorted(found), 2)
        shared = {split for pair in pairs if not other_folds(*pair) for split in pair}
        if shared:
            kind = "files with clips in several splits"
            listing.notice(kind, [names[place]], ", ".join(sorted(shared)))


def _place(root: str, name: str) -> str:
    return os.path.normpath(os.path.join(root, name))


def _files(shard: dict[str, Any], folder: Path) -> list[str]:
    """The files a shard was made of; of one from before this was kept, those of its records."""
    if "files" in shard or not shard["records"]:
        return shard.get("files", [])
    from vatt.data import records

    return [records.decode(record).source for record in records.read_shard(folder / shard["file"])]
