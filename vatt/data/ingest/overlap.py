"""Finds the files whose clips are in several splits, also where other commands made those.

So it does with the sound of a video that lies beside it, `a.wav` of `a.mp4`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vatt.data.features import other_folds, splits_of
from vatt.data.ingest import manifest
from vatt.data.ingest.sources import files

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
    names: dict[str, str] = {}  # by place
    alike: dict[str, dict[str, set[str]]] = {}  # splits by place, by the place without ending
    for row in listing.rows:
        if any(manifest.place_in_pickle(name) for _, name in row.features):
            continue  # its name is that of no file
        place = _place(root, row.source)
        names.setdefault(place, row.source)
        alike.setdefault(_stem(place), {}).setdefault(place, set()).add(row.split)
    for shard in kept:
        for name in _files(shard, folder):
            place = _place(shard.get("root", root), name)
            if _stem(place) in alike:
                names.setdefault(place, name)
                others = alike[_stem(place)].setdefault(place, set())
                others.update(splits_of(shard["split"]))
    for splits in alike.values():
        several = {place: _shared(found) for place, found in splits.items() if _shared(found)}
        for place, shared in several.items():
            kind = "files with clips in several splits"
            listing.notice(kind, [names[place]], ", ".join(shared))
        if not several and _shared(set().union(*splits.values())):
            kind = "files that differ in their ending alone, in several splits"
            each = (f"{names[place]}: {', '.join(sorted(splits[place]))}" for place in splits)
            listing.notice(kind, [names[next(iter(splits))]], "; ".join(each))


def _shared(splits: set[str]) -> list[str]:
    """Those of splits that should share no file with another one of them."""
    pairs = itertools.combinations(sorted(splits), 2)
    return sorted({split for pair in pairs if not other_folds(*pair) for split in pair})


def _stem(place: str) -> str:
    """The place without the ending, if that is one of media."""
    stem, ending = os.path.splitext(place)
    return stem if ending.lower() in files.VIDEO + files.AUDIO + files.IMAGES else place


def _place(root: str, name: str) -> str:
    return os.path.normpath(os.path.join(root, name))


def _files(shard: dict[str, Any], folder: Path) -> list[str]:
    """The files a shard was made of; of one from before this was kept, those of its records."""
    if "files" in shard or not shard["records"]:
        return shard.get("files", [])
    from vatt.data import records

    return [records.decode(record).source for record in records.read_shard(folder / shard["file"])]
