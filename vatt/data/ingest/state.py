"""What earlier commands left in the folder of a data set, and whether it can be kept.

Beside the shards, the folder `.shards` holds what is known of each: with it the same command starts
again where it stopped, and adds splits to a set.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vatt.data.features import JOINED, RECORD, splits_of
from vatt.data.ingest import summary
from vatt.errors import DataError
from vatt.files import make_folder, read_json, replace_text

if TYPE_CHECKING:
    from vatt.data.ingest.features import Kind
    from vatt.data.ingest.shards import Settings, Shard

_STATE = ".shards"  # folder of what is known of finished shards
_UNUSED = "unused.json"  # in it: what was found but could not become a clip
_DRAWN = "drawn.json"  # the splits into which files were drawn
_NOTICED = "noticed.json"  # and what was noticed of the input as a whole


def write(folder: Path, stats: dict[str, Any]) -> None:
    """Keeps what is known of a shard, when it is complete."""
    make_folder(folder / _STATE)
    replace_text(_state_file(folder, stats["file"]), json.dumps(stats))


def _state_file(folder: Path, shard: str) -> Path:
    return folder / _STATE / f"{shard}.json"


def finished(shard: Shard, folder: Path) -> dict[str, Any] | None:
    """Stats of a shard that is there already, made from the same clips with the same settings.

    A shard with failures is made again: the reason may be gone.
    """
    stats = made(shard, folder)
    same = stats is not None and stats.get("fingerprint") == shard.fingerprint
    return stats if same and not stats["failures"] else None


def made(shard: Shard, folder: Path) -> dict[str, Any] | None:
    """Stats of a complete shard of this name; None if there is none."""
    return _complete(_state_file(folder, shard.name), folder)


def _complete(state: Path, folder: Path) -> dict[str, Any] | None:
    from vatt.data.ingest import facts  # the command line does without

    stats = _read(state)
    if not facts.believed(stats) or (stats["file"], stats["split"]) != (state.stem, _joined(state)):
        return None
    try:
        size = (folder / state.stem).stat().st_size if stats["records"] else 0
    except OSError:
        return None
    return stats if size == stats["bytes"] else None


def remove_others(folder: Path, splits: set[str], shards: list[Shard]) -> None:
    """Removes partial files, and shards of these splits that earlier commands made otherwise."""
    wanted = {shard.name for shard in shards}
    for state in (folder / _STATE).glob("*.tfrecord.json"):
        if splits.issuperset(splits_of(_joined(state))) and state.stem not in wanted:
            (folder / state.stem).unlink(missing_ok=True)  # only what we wrote has such a file
            state.unlink()
    for partial in folder.glob("*.tfrecord.partial"):
        partial.unlink()


def replaced(folder: Path, splits: set[str], root: str) -> dict[str, int]:
    """Clips of these splits that earlier commands took from another folder than `root`, by it."""
    found: dict[str, int] = {}
    for state in sorted((folder / _STATE).glob("*.tfrecord.json")):
        known = _complete(state, folder) if splits.issuperset(splits_of(_joined(state))) else None
        if known and known["records"] and (other := str(known.get("root", root))) != root:
            found[other] = found.get(other, 0) + known["records"]
    return found


def keep_drawn(folder: Path, splits: set[str], drawn: Sequence[str]) -> None:
    """Keeps which splits have come from one drawing; those are made together or not at all.

    Args:
      folder: of the data set.
      splits: those this command makes.
      drawn: those of them into which it has drawn the files.

    Raises:
      DataError: the command would make only some of the splits that an earlier one has drawn.
    """
    path = folder / _STATE / _DRAWN
    known = _read(path)
    known = {str(split) for split in known} if isinstance(known, list) else set()
    left = {
        split
        for state in (folder / _STATE).glob("*.tfrecord.json")
        for split in known.intersection(splits_of(_joined(state))) - splits
    }
    if left and splits & known:
        raise DataError(
            f"{folder} holds the splits {' and '.join(sorted(known))} as --test_share has divided "
            f"the files; this command would make '{', '.join(sorted(splits & known))}' anew beside "
            f"the old '{', '.join(sorted(left))}', and a file could be in both: give --test_share "
            "again, or choose a new --output_dir"
        )
    if drawn or splits & known:
        make_folder(path.parent)
        replace_text(path, json.dumps(sorted(drawn)))


def kept(folder: Path, splits: set[str], settings: Settings) -> list[dict[str, Any]]:
    """Stats of the shards of other splits, which earlier commands made.

    Raises:
      DataError: they are not complete, or cannot stand in one data set with these shards.
    """
    others: dict[str, list[Path]] = {}
    for state in sorted((folder / _STATE).glob("*.tfrecord.json")):
        split = _joined(state)
        if splits.isdisjoint(splits_of(split)):
            others.setdefault(split, []).append(state)
        elif not splits.issuperset(splits_of(split)):
            raise DataError(
                f"{folder} holds clips that are in several splits ({', '.join(splits_of(split))}) "
                "once for all of them: make these splits by one command, or choose a new folder"
            )
    stats = []
    for split, states in others.items():
        found = [known for state in states if (known := _complete(state, folder))]
        count = int(states[0].name.partition("-of-")[2].partition(".")[0])
        accepted = [basis(settings, labelled) for labelled in (True, False)]
        if len(found) != count:
            problem = f"which has {len(found)} of {count} shards: complete it by its own command"
        elif any(known.get("basis") not in accepted for known in found):
            problem = (
                "which was made with another --fps, --min_side, --sample_rate, --jpeg_quality or "
                "--downmix, or with other classes: make all splits by one command"
            )
        elif other := _other_features(found, settings.features):
            problem = f"{other}: make all splits by one command"
        else:
            stats += found
            continue
        raise DataError(f"{folder} holds the split '{split}', {problem}, or choose a new folder")
    return stats


def _other_features(shards: Sequence[dict[str, Any]], kinds: Sequence[Kind]) -> str:
    """Says which features of finished shards are of another width or rate; "" if none are."""
    for shard in shards:
        for kind in kinds:
            there = shard.get("features", {}).get(kind.name)
            if there and kind.width and (there["width"], there["rate"]) != (kind.width, kind.rate):
                return (
                    f"whose {RECORD.feature}{kind.name} has {there['width']} values per vector, "
                    f"{there['rate']:g} vectors per second, not {kind.width} and {kind.rate:g}"
                )
    return ""


def _joined(state: Path) -> str:
    return state.name.partition("-")[0]  # the name of a split has no "-"


def basis(settings: Settings, labelled: bool) -> list:
    """What shards of one data set must have in common; the order of classes only with labels."""
    common = [settings.fps, settings.min_side, settings.sample_rate, settings.jpeg_quality]
    common += [settings.downmix] if settings.downmix != "auto" else []  # as before it was asked
    labels = "\n".join(settings.labels) if labelled else ""
    return [*common, hashlib.sha256(labels.encode()).hexdigest()]


def settings_of(folder: Path) -> tuple[float, int, int, int, str] | None:
    """What the media files of a set were read with, None where nobody has kept it.

    Returns:
      fps, min_side, sample_rate, jpeg_quality and downmix, as of `Settings`.
    """
    for path in sorted((folder / _STATE).glob("*.tfrecord.json")):
        known = _read(path)
        found = known.get("basis") if isinstance(known, dict) else None
        match found if isinstance(found, list) else None:
            case [int() | float() as fps, int() as side, int() as rate, int() as quality, *others]:
                return fps, side, rate, quality, others[0] if len(others) == 2 else "auto"
    return None


def unused(folder: Path, splits: set[str], found: dict[str, list[list]]) -> list[dict[str, Any]]:
    """Keeps what could not become a clip, by split, and returns it in the form of stats.

    Args:
      folder: of the data set.
      splits: those this command makes.
      found: {split: [path, start, end, reason]} of this command.
    """
    return [
        _no_shard(split) | {"failures": rows}
        for split, rows in _merged("Failure", folder / _STATE / _UNUSED, splits, found).items()
        if rows
    ]


def noticed(folder: Path, splits: set[str], found: list[list]) -> list[dict[str, Any]]:
    """Keeps what was noticed of the input as a whole, and returns it in the form of stats.

    Args:
      folder: of the data set.
      splits: those this command makes.
      found: [path, start, end, kind, detail] of this command.
    """
    by_splits = {JOINED.join(sorted(splits)): found}
    return [
        _no_shard(joined) | {"notices": rows}
        for joined, rows in _merged("Notice", folder / _STATE / _NOTICED, splits, by_splits).items()
        if rows
    ]


def _merged(
    kind: str, path: Path, splits: set[str], found: dict[str, list[list]]
) -> dict[str, list[list]]:
    """Rows, of a kind in `facts`, of this command with those of earlier ones for other splits."""
    from vatt.data.ingest import facts

    known = _read(path)
    known = known if isinstance(known, dict) else {}
    others = {
        key: rows
        for key, rows in known.items()
        if splits.isdisjoint(splits_of(key)) and facts.rows(getattr(facts, kind), rows)
    }
    merged = others | found
    if known or any(merged.values()):
        make_folder(path.parent)
        replace_text(path, json.dumps(merged))
    return dict(sorted(merged.items()))


def _read(path: Path) -> Any:
    """What a file of the state says; None without one that can be read."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


def _no_shard(split: str) -> dict[str, Any]:
    empty = {"file": "", "bytes": 0, "sha256": "", "failures": []}
    return {**empty, "split": split, **summary.Tally(split).stats()}
