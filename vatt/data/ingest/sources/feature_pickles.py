"""Sets of extracted features in pickles, as they are published for Everything at Once.

    --input train=msrvtt/resnet/msrvtt_train.pkl test=msrvtt/resnet/msrvtt_jsfusion_test.pkl

A pickle is a list of clips: `id`, `caption` (a sentence, or several), `eval_caption` (the one to
test with), `audio` [40, windows] and features [steps, width], `2d_full` and `3d_full` or, where no
clip has them, `2d` and `3d`. Of another network they are in a pickle of the same name beside the
folder, such as `../clip/msrvtt_train.pkl`, whose row i is the same clip. No code in them is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vatt.data.features import SPECTROGRAM, split_part
from vatt.data.ingest import manifest, pickled
from vatt.data.ingest.manifest import Row
from vatt.data.ingest.sources import WHOLE, Listing, Options
from vatt.data.pickled_arrays import Array, TensorArray
from vatt.errors import DataError, nearest, short

RATES = {"resnet152": 1.0, "resnext101": 1.5, "s3d": 1.0, "clip": 1.0, SPECTROGRAM: 100.0}
_OWN = {"resnet152": ("2d_full", "2d"), "resnext101": ("3d_full", "3d"), SPECTROGRAM: ("audio",)}
_BESIDE = ("s3d", "clip")  # folders of other networks, which are also the keys in their pickles


class _Kind(NamedTuple):
    """Where the features of one kind are."""

    feature: str
    path: str  # of the pickle, relative to the root
    key: str
    rows: list[dict[str, Any]]
    needed: bool  # a clip without it is left out


def from_pickles(path: Path, options: Options) -> Listing:
    """Clips of a pickle, with the features of other networks that are beside it."""
    path = path.resolve()
    rows = pickled.of_file(path)
    if not rows:
        raise DataError(f"{path}: there is no clip in it")
    root = path.parent.parent
    kinds = list(_kinds(path, root, rows))
    split = options.split or "train"
    listing = Listing(root, [])
    for number, clip in enumerate(rows):
        name = str(clip.get("id", f"{path.stem}/{number}"))
        lacking = [kind.key for kind in kinds if kind.needed and not _is_there(kind, number)]
        try:
            if lacking:
                raise DataError(f"row {number} has no {' and no '.join(lacking)}")
            listing.rows.append(_row(clip, number, name, split, kinds))
        except DataError as error:
            listing.fail(split, name, WHOLE, str(error))
    there = {feature for row in listing.rows for feature, _ in row.features}
    listing.feature_rate = {feature: RATES[feature] for feature in sorted(there)}
    return listing


def _kinds(path: Path, root: Path, rows: list[dict[str, Any]]) -> Iterator[_Kind]:
    """Yields what there is: features over time of the pickle, and of those beside it."""
    own = path.relative_to(root).as_posix()
    there = {key for row in rows for key in row}
    found = False
    for feature, keys in _OWN.items():
        key = next((key for key in keys if key in there), None)
        if key is not None:
            found |= feature != SPECTROGRAM
            yield _Kind(feature, own, key, rows, needed=feature != SPECTROGRAM)
    if not found:
        raise DataError(
            f"{path}: its clips have {', '.join(sorted(map(str, there))) or 'nothing'}, no features"
            f" over time (2d_full, 3d_full, 2d or 3d).{nearest('2d_full', map(str, there))}"
        )
    for folder in _BESIDE:
        other = root / folder / path.name
        if other == path or not other.is_file():
            continue
        others = pickled.of_file(other)
        if len(others) != len(rows):
            raise DataError(
                f"{other}: {len(others)} clips, but {path} has {len(rows)}: row by row they must be"
                " the same clips"
            )
        yield _Kind(folder, other.relative_to(root).as_posix(), folder, others, needed=False)


def _is_there(kind: _Kind, number: int) -> bool:
    return isinstance(kind.rows[number].get(kind.key), Array | TensorArray)


def _row(clip: Mapping[str, Any], number: int, name: str, split: str, kinds: list[_Kind]) -> Row:
    features = []
    for kind in kinds:
        found = kind.rows[number].get(kind.key)
        if found is None:
            continue
        if not isinstance(found, Array | TensorArray) or len(found.shape) != 2:
            what = list(getattr(found, "shape", ())) or type(found).__name__
            raise DataError(f"row {number}: '{kind.key}' is {what}, not two axes of numbers")
        if 0 not in found.shape:  # an empty one is none
            features.append((kind.feature, manifest.in_pickle(kind.path, number, kind.key)))
    if not features:
        raise DataError(f"row {number}: all its features are empty")
    captions = tuple((0.0, float("inf"), text) for text in _captions(clip, number, split))
    return Row(
        "", split=split, timed_captions=captions, features=tuple(sorted(features)), name=name
    )


def _captions(clip: Mapping[str, Any], number: int, split: str) -> list[str]:
    """What is said of a clip: outside of training the one that is tested with, where there is."""
    tested = clip.get("eval_caption")
    told = clip.get("caption", ())
    if isinstance(tested, str) and split_part(split)[0] != "train":
        told = tested
    told = [told] if isinstance(told, str) else told
    if not (isinstance(told, list | tuple) and all(isinstance(text, str) for text in told)):
        raise DataError(f"row {number}: 'caption' is {short(repr(told))}, not text")
    return [" ".join(text.split()) for text in told if text.strip()]
