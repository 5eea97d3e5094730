"""Features of whole videos in a file each, with their captions, as HowTo100M has them.

    --format feature_files --input caption.json --list videos.csv --media_root howto/
    --feature resnet152=features:2d --feature resnext101=features:3d --feature logmel=audio:spec

Captions are as for `howto100m`, also a pickle of the same form, of which no code is run. The column
`path` of the list names the videos, `food/video_j/jEyaTUyJ-rs` (a leading "None/" does not count);
the last part is the id. A feature is in a folder below `media_root`, in one of these files:

| form | files | vectors per second |
|---|---|---|
| 2d | PATH/ID_2d.npz, PATH_2d.npz | 1 |
| 3d | PATH/ID_3d.npz, PATH/ID.npz | 1.5 |
| spec | PATH/ID_spec.npz, [bands, windows] | 100 |

`--feature_rate` names other rates. A clip is a whole video.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from vatt.data.features import SPECTROGRAM
from vatt.data.ingest import manifest
from vatt.data.ingest.captions import Caption
from vatt.data.ingest.manifest import Row
from vatt.data.ingest.sources import WHOLE, Listing, Options, howto100m
from vatt.data.ingest.tables import Table
from vatt.errors import DataError, UserError, nearest

FORMS = {  # files of a video, and vectors per second
    "2d": (("{path}/{id}_2d.npz", "{path}_2d.npz"), 1.0),
    "3d": (("{path}/{id}_3d.npz", "{path}/{id}.npz"), 1.5),
    "spec": (("{path}/{id}_spec.npz",), 100.0),
}
USUAL = {
    "resnet152": ("features", "2d"),
    "resnext101": ("features", "3d"),
    SPECTROGRAM: ("audio_features", "spec"),
}
_NO_CATEGORY = "None/"


def from_videos(path: Path, options: Options) -> Listing:
    """Whole videos of a list, with their captions and all features that are asked for."""
    if options.media_root is None or options.list is None:
        missing = "--media_root" if options.media_root is None else "--list"
        what = {"--media_root": "the folder of the features", "--list": "a table of the videos"}
        raise UserError(f"{missing}: features in files need {what[missing]}")
    kinds = dict(options.feature or USUAL)
    for name, (folder, _) in kinds.items():
        if not (options.media_root / folder).is_dir():
            raise DataError(
                f"--feature {name}: there is no folder {options.media_root / folder}"
                f"{nearest(folder, _folders(options.media_root))}"
            )
    rates = {name: FORMS[form][1] for name, (_, form) in kinds.items()}
    listing = Listing(options.media_root, [], feature_rate=rates)
    split = options.split or "train"
    videos = _videos(options.list)
    told = _told(path, set(videos.values()), listing, split)
    for video, name in videos.items():
        captions = told.get(name)
        try:
            if isinstance(captions, DataError):
                raise captions
            if captions is None:
                raise DataError(f"no captions in {path}")
            features = tuple(sorted(_files(video, name, kinds, options.media_root).items()))
        except DataError as error:
            listing.fail(split, video, WHOLE, str(error))
            continue
        row = Row("", split=split, timed_captions=captions, features=features, name=video)
        listing.rows.append(row)
    return listing


def _folders(root: Path) -> list[str]:
    return [place.name for place in root.iterdir() if place.is_dir()] if root.is_dir() else []


def _files(
    video: str, name: str, kinds: Mapping[str, tuple[str, str]], root: Path
) -> dict[str, str]:
    """The files of a video, by feature.

    Raises:
      DataError: it has none of a kind.
    """
    found = {}
    for feature, (folder, form) in kinds.items():
        wanted = [f"{folder}/{place.format(path=video, id=name)}" for place in FORMS[form][0]]
        found[feature] = next((file for file in wanted if _is_file(root, file)), "")
        if not found[feature]:
            raise DataError(f"no {feature}: there is no {' nor '.join(wanted)}")
    return found


def _is_file(root: Path, name: str) -> bool:
    try:
        return manifest.locate(root, name).is_file()
    except ValueError:
        return False


def _told(
    path: Path, wanted: set[str], listing: Listing, split: str
) -> dict[str, tuple[Caption, ...] | DataError]:
    """Captions of the wanted videos by id, or why they cannot be used."""
    found: dict[str, tuple[Caption, ...] | DataError] = {}
    for name, place, captions in howto100m.found(path, listing):
        if name not in wanted or name in found:
            continue
        try:
            usable, bad = howto100m.usable(captions, place)
        except DataError as error:
            found[name] = error
            continue
        found[name] = tuple(usable)
        if bad:
            kind = "captions without text or with impossible times, left out"
            listing.notice(kind, [name], str(bad))
    return found


def _videos(path: Path) -> dict[str, str]:
    """The ids of the videos in a list, by their paths, in its order."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = Table(file, "path".__eq__, skipinitialspace=True)
            if "path" not in table.columns:
                raise DataError(
                    f"--list: {path} has no column 'path'; found: "
                    f"{table.shown}.{nearest('path', table.named)}"
                )
            place = table.columns.index("path")
            names = [values[place].strip() for _, values in table if len(values) > place]
    except OSError as error:
        raise DataError(f"--list: {path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"--list: {path} is not a CSV file in UTF-8 ({error})") from None
    videos = (name.removeprefix(_NO_CATEGORY).strip("/") for name in names)
    return {video: PurePosixPath(video).name for video in videos if video}
