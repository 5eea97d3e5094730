"""What describes an ingested data set as a whole: counts, card, labels, manifest and failures.

    tally = Tally(split)          # in the worker that writes a shard
    tally.add(record)
    stats = {"split": split, ..., **tally.stats()}

    failures, notices = write_summary(folder, all_facts)  # when all shards are there
    write_card(name, folder, all_facts, ...)

Everything is a function of the stats in the order of the shards, so that it does not depend on who
made them when.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vatt.data.features import SPECTROGRAM, SPECTROGRAM_RATE, splits_of
from vatt.data.ingest import levels
from vatt.files import replace_text

if TYPE_CHECKING:
    from vatt.data import cards
    from vatt.data.ingest.samples import Sample
    from vatt.data.records import ClipRecord

LABELS_FILE = "labels.txt"
FAILURES_FILE = "failures.csv"
NOTICES_FILE = "notices.csv"
MODALITIES = ("video", "audio", "text", "labels")
_AROUND = "with_text_around"  # clips around which something is said, but nothing in them
DURATION_EDGES = (
    *(0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45),
    *(60, 90, 120, 180, 300, 600, 1800),
)  # s
DURATIONS = (
    f"under {DURATION_EDGES[0]} s",
    *(f"{a} - {b} s" for a, b in itertools.pairwise(DURATION_EDGES)),
    f"{DURATION_EDGES[-1]} s or more",
)


class Tally:
    """Counts what the records of a shard hold."""

    def __init__(self, split: str, show: int = 0) -> None:
        """`show`: how many of the first records are kept as samples."""
        self.records = 0
        self._split, self._show = split, show
        self._with: Counter[str] = Counter()
        self._around = 0
        self._classes: Counter[str] = Counter()
        self._sizes: set[tuple[int, int]] = set()
        self._seconds: list[float] = []
        self._samples: list[Sample] = []
        self._features: dict[str, dict[str, Any]] = {}
        self._levels: list[levels.Counts] = []

    def add(self, clip: ClipRecord) -> None:
        """Counts one record, whose frames can be decoded."""
        from vatt.data import records
        from vatt.data.ingest import samples

        self.records += 1
        self._with["video"] += bool(clip.frames)
        self._with["audio"] += clip.waveform is not None
        seconds = samples.seconds(clip)
        inside = any(records.said_inside(*times, seconds) for *times, _ in clip.captions)
        self._with["text"] += inside
        self._around += bool(clip.captions) and not inside
        self._with["labels"] += bool(clip.labels)
        self._classes.update(clip.labels)
        self._seconds.append(seconds)
        if clip.waveform is not None:
            self._levels.append(levels.of(clip.waveform, clip.sample_rate))
        if clip.frames:
            self._sizes.add(_size(clip.frames[0]))
        for name, vectors in clip.features.items():
            about = {"width": vectors.shape[1], "records": 0, "vectors": 0}
            about = self._features.setdefault(name, about)
            about["records"] += 1
            about["vectors"] += len(vectors)
        if len(self._samples) < self._show:
            self._samples.append(samples.make(clip, self._split))

    def stats(self) -> dict[str, Any]:
        """What was counted, as JSON can hold it; `totals` adds up those of several shards."""
        places = Counter(bisect_right(DURATION_EDGES, seconds) for seconds in self._seconds)
        return {
            "records": self.records,
            "seconds": round(sum(self._seconds), 3),
            "shortest": round(min(self._seconds, default=0.0), 3),
            "longest": round(max(self._seconds, default=0.0), 3),
            **{f"with_{modality}": self._with[modality] for modality in MODALITIES},
            "durations": {DURATIONS[place]: places[place] for place in sorted(places)},
            "classes": dict(sorted(self._classes.items())),
            "sizes": sorted(self._sizes)[:2],  # two are enough to know that they differ
            "samples": [dataclasses.asdict(sample) for sample in self._samples],
            **_optional(self._features, self._levels, self._around),
        }


def _optional(
    features: Mapping[str, dict[str, Any]], sounds: Iterable[levels.Counts], around: int
) -> dict[str, Any]:
    """The entries of a shard or a set that stand there where there is anything only."""
    by_name = {name: features[name] for name in sorted(features)}
    found = {"features": by_name, "levels": levels.total(sounds), _AROUND: around}
    return {name: counts for name, counts in found.items() if counts}


def _size(encoded: bytes) -> tuple[int, int]:
    """Height and width of a picture, from its header."""
    from PIL import Image

    with Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG")) as image:
        return image.height, image.width


def totals(stats: Iterable[dict]) -> dict[str, Any]:
    """Adds up the stats of shards."""
    shards = [shard for shard in stats if shard["records"]]
    classes: Counter[str] = Counter()
    durations: Counter[str] = Counter()
    features: dict[str, dict[str, Any]] = {}
    for shard in shards:
        classes.update(shard.get("classes", {}))
        durations.update(shard.get("durations", {}))
        for name, counts in shard.get("features", {}).items():
            about = features.setdefault(name, counts | {"records": 0, "vectors": 0})
            for key in ("records", "vectors"):
                about[key] += counts[key]
    return {
        "records": sum(shard["records"] for shard in shards),
        "seconds": round(sum(shard["seconds"] for shard in shards), 3),
        "shortest": min((shard.get("shortest", 0.0) for shard in shards), default=0.0),
        "longest": max((shard.get("longest", 0.0) for shard in shards), default=0.0),
        **{
            f"with_{modality}": sum(shard.get(f"with_{modality}", 0) for shard in shards)
            for modality in MODALITIES
        },
        "durations": {name: durations[name] for name in DURATIONS if durations[name]},
        "classes": dict(sorted(classes.items())),
        **_optional(
            features,
            (shard.get("levels", {}) for shard in shards),
            sum(shard.get(_AROUND, 0) for shard in shards),
        ),
    }


def by_split(stats: Sequence[dict]) -> dict[str, dict[str, Any]]:
    """Totals of each split, with the clips that failed; a split without any record has zeros.

    A clip counts in each split it is in.
    """
    parts: dict[str, list[dict]] = {}
    for shard in stats:
        for split in splits_of(shard["split"]):
            parts.setdefault(split, []).append(shard)
    return {
        split: totals(part) | {"failures": sum(len(shard["failures"]) for shard in part)}
        for split, part in sorted(parts.items())
    }


# Labels ------------------------------------------------------------------------------------------


def read_labels(folder: Path) -> list[str] | None:
    """Returns the classes of an ingested data set by index, or None when it has no such list yet.

    An earlier run into the folder wrote it; an index means the same class in all that follow.

    Raises:
      DataError: the file is damaged.
    """
    from vatt.data import cards

    path = folder / LABELS_FILE
    return cards.read_labels(path) if path.exists() else None


# Files -------------------------------------------------------------------------------------------


def write_card(
    name: str, folder: Path, stats: list[dict], *, fps: float, sample_rate: int,
    labels: Sequence[str], multi_label: bool,
) -> cards.Card:  # fmt: skip
    """Writes `card.yaml`: what was measured, with the description of the card of that name.

    A split of which no clip could be stored is left out. `labels` are the classes by index; they
    stand in `labels.txt`, which is written before the first shard.
    """
    from vatt.data import cards

    known = cards.describe(name) if name in cards.known() else cards.Card(name=name)
    groups = list(dict.fromkeys(label.partition("=")[0] for label in labels if "=" in label))
    sizes = {tuple(size) for shard in stats for size in shard["sizes"]}
    height, width = sizes.pop() if len(sizes) == 1 else (None, None)
    video, audio, text = (any(s[f"with_{m}"] for s in stats) for m in ("video", "audio", "text"))
    total = totals(stats)
    text = text or _AROUND in total  # training reads those too
    pictures = video and total["longest"] <= 1.0 / fps
    features = {
        feature: cards.FeatureInfo(width=about["width"], rate=about["rate"])
        for feature, about in total.get("features", {}).items()
    }
    seen = video and 2 * total["with_video"] >= total["records"]  # not a stray video among sounds
    card = cards.Card(
        name=name,
        description=known.description,
        source=known.source,
        homepage=known.homepage,
        licence=known.licence,
        notes=known.notes,
        tasks=known.tasks or _tasks(seen or bool(features), audio, text, bool(labels), pictures),
        video=cards.VideoInfo(fps=fps, height=height, width=width) if video else None,
        audio=_sound(sample_rate if audio else None, features),
        text=cards.TextInfo() if text else None,
        features=features,
        splits=_splits(stats),
        paper_splits=known.paper_splits,
        complete_splits=known.complete_splits,
        label_file=LABELS_FILE if labels else None,
        num_classes=None if labels else known.num_classes,
        multi_label=multi_label or known.multi_label,
        attributes=known.attributes or groups,
        prompts={label: known.prompts[label] for label in labels if label in known.prompts},
    )
    card.labels = list(labels) or None  # as reading the card again would give
    cards.write(card, folder)
    return card


def _sound(sample_rate: int | None, features: Mapping[str, Any]) -> cards.AudioInfo | None:
    """Waveforms, or the feature that is a spectrogram; None where there is neither."""
    from vatt.data import cards

    if sample_rate is not None:
        return cards.AudioInfo(sample_rate=sample_rate)
    if SPECTROGRAM in features:
        return cards.AudioInfo(sample_rate=SPECTROGRAM_RATE, feature=SPECTROGRAM)
    return None


def _tasks(video: bool, audio: bool, text: bool, labels: bool, pictures: bool) -> list[str]:
    """What a set without a description of its own can be used for."""
    possible = {
        "pretrain": video and (text or audio) and not pictures,
        "retrieval": video and (text or audio) and not pictures,
        "image_classification": pictures and labels,
        "video_classification": video and labels and not pictures,
        "audio_classification": audio and labels,
    }
    return [task for task, possible_here in possible.items() if possible_here]


def _splits(stats: list[dict]) -> dict[str, Any]:
    from vatt.data import cards

    counts = Counter(shard["split"] for shard in stats)
    splits = {}
    for split in by_split(stats):
        part = [shard for shard in stats if split in splits_of(shard["split"])]
        filled = [shard for shard in part if shard["records"]]  # the others have no file
        joined = dict.fromkeys(shard["split"] for shard in filled)
        patterns = [f"{name}-?????-of-{counts[name]:05d}.tfrecord" for name in joined]
        if filled:
            splits[split] = cards.Split(
                pattern=patterns if len(patterns) > 1 else patterns[0],
                num_shards=len(filled),
                records=sum(shard["records"] for shard in filled),
            )
    return splits


def write_summary(folder: Path, stats: list[dict]) -> tuple[list[list], list[list]]:
    """Writes `manifest.json`, `failures.csv` and `notices.csv`; returns failures and notices."""
    failures = sorted((f for shard in stats for f in shard["failures"]), key=str)
    splits = by_split(stats)
    told = itertools.chain(*(shard.get("notices", ()) for shard in stats), levels.by_split(splits))
    # What is noticed of a whole file, each of its clips may tell.
    notices = sorted(map(list, dict.fromkeys(map(tuple, told))), key=str)
    keys = ("file", "split", "records", "bytes", "sha256", "seconds")
    stored = totals(stats)
    total = {
        "records": stored["records"],
        "seconds": stored["seconds"],
        "failures": len(failures),
        "notices": {kind: len(rows) for kind, rows in by_kind(notices)},
        "splits": splits,
        "shards": [{key: shard[key] for key in keys} for shard in stats if shard["records"]],
    }
    text = json.dumps(total, indent=1, ensure_ascii=False) + "\n"
    replace_text(folder / "manifest.json", text)
    _write_table(folder / FAILURES_FILE, ["path", "start", "end", "reason"], failures)
    _write_table(folder / NOTICES_FILE, ["path", "start", "end", "kind", "detail"], notices)
    return failures, notices


def by_kind(notices: Iterable[list]) -> list[tuple[str, list[list]]]:
    """Notices of each kind, the commonest first."""
    kinds: dict[str, list[list]] = {}
    for row in notices:
        kinds.setdefault(row[3], []).append(row)
    return sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0]))


def _write_table(path: Path, columns: list[str], rows: list[list]) -> None:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    replace_text(path, table.getvalue())
