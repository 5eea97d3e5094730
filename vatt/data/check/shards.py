"""Reads one shard of a data set and says what is in it and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vatt.data.ingest import summary
from vatt.files import sha256

if TYPE_CHECKING:
    from vatt.data.cards import Card
    from vatt.data.framing import Damage, RawRecord
    from vatt.data.ingest.samples import Sample
    from vatt.data.records import ClipRecord


AUDIO_TASK = "audio_classification"


@dataclass(frozen=True)
class Job:
    """One shard to be read."""

    path: Path
    split: str  # or several, joined by "+"
    expected: int | None  # records, where known
    sha256: str  # "" where unknown
    show: tuple[int, ...]  # records wanted as samples; a bad one is replaced by the next good one


def check_shard(job: Job, card: Card) -> dict[str, Any]:
    """Reads one shard; returns the stats of `summary.Tally` and what is wrong."""
    from vatt.data import framing, workers

    reading = _Reading(job, card)
    try:
        for record in framing.walk(job.path):
            reading.add(record)
            workers.tick()
        lost = framing.losses(job.path, reading.damaged, reading.found, job.expected)
        changed = job.sha256 and sha256(job.path) != job.sha256
    except OSError as error:
        return reading.stats([], f"{job.path.name} cannot be read: {error.strerror}")
    return reading.stats(
        lost, f"{job.path.name}: its SHA-256 is not that of manifest.json" * bool(changed)
    )


class _Reading:
    """What is known of a shard while it is read."""

    def __init__(self, job: Job, card: Card) -> None:
        self.job, self.card = job, card
        self.tally = summary.Tally(job.split)
        self.damaged: list[RawRecord] = []
        self.found = 0
        self.unusable: list[tuple[int, int, str]] = []  # index, offset, reason
        self.clips: list[tuple[str, float, float, str]] = []  # source, start, end, content
        self.shown: list[Sample] = []
        self.misnamed = 0
        self.example = ""

    def add(self, record: RawRecord) -> None:
        """Takes in one record of the walk."""
        from vatt.data.ingest import samples

        self.found += 1
        if record.problem:
            self.damaged.append(record)
            return
        clip, fault = self._examine(record.data)
        if fault:
            self.unusable.append((record.index, record.offset, fault))
            return
        names = [self.card.labels[k] for k in clip.label_indices] if self.card.labels else []
        if names and clip.labels and names != clip.labels:
            self.misnamed += 1
            self.example = self.example or f"record {record.index}: {clip.labels}, card: {names}"
        clip.labels = clip.labels or names or [str(index) for index in clip.label_indices]
        self.tally.add(clip)
        content = _content(clip)
        alike = "" if _empty(clip) else content
        self.clips.append((clip.source or content, clip.start, clip.end, alike))
        if len(self.shown) < len(self.job.show) and record.index >= self.job.show[len(self.shown)]:
            self.shown.append(samples.make(clip, self.job.split, frames=8, width=200))

    def _examine(self, data: bytes) -> tuple[ClipRecord | None, str]:
        """Judges a record by what the set is for: a sound need not have pictures to be heard."""
        from vatt.data import records

        clip, fault = records.examine(data, self.card)
        tasks, sound = self.card.tasks, clip is not None and _is_heard(clip, self.card)
        if fault and sound and not clip.frames and (AUDIO_TASK in tasks or not tasks):
            return records.examine(data, self.card.model_copy(update={"video": None}))
        if not fault and not sound and tasks == [AUDIO_TASK]:
            fault = f"no sound, and the set is for {AUDIO_TASK} only"
        return clip, fault

    def stats(self, lost: Sequence[Damage], problem: str) -> dict[str, Any]:
        """Everything found, when the shard has been read."""
        from vatt.data import framing

        job, shard = self.job, self.job.path.name
        rows = [
            (framing.true_index(index, offset, lost), offset, reason)
            for index, offset, reason in self.unusable
        ]
        problems = [problem] if problem else []
        for damage in lost:
            several = f"; {damage.records} records lost" if damage.records > 1 else ""
            if damage.records < 0:
                problems.append(f"{shard}: {damage.reason}")
            else:
                rows.append((damage.index, damage.offset, damage.reason + several))
        if self.misnamed:
            problems.append(
                f"{shard}: label texts are not the card's names for their indices, in "
                f"{self.misnamed} of the records; {self.example}"
            )
        return self.tally.stats() | {
            "split": job.split,
            "bad": len(self.unusable) + sum(max(damage.records, 0) for damage in lost),
            "rows": [[self.card.name, job.split, shard, *row] for row in sorted(rows)],
            "problems": problems,
            "clips": self.clips,
            "shown": self.shown,
        }


def _is_heard(clip: ClipRecord, card: Card) -> bool:
    """Whether a clip has sound: a waveform, or the feature that the card names in its place."""
    stored = card.audio.feature if card.audio else None
    if stored is None:
        return clip.waveform is not None
    return len(clip.features.get(stored, ())) > 0


def _empty(clip: ClipRecord) -> bool:
    """Whether nothing moves and nothing is heard: such clips are alike without being copies."""
    frames, sound = clip.frames or (), clip.waveform
    still = len(frames) != 1 and len(set(frames)) < 2
    silent = sound is None or not len(sound) or sound.min() == sound.max()
    return still and silent and not clip.features


def _content(clip: ClipRecord) -> str:
    """Stands for what a clip shows and sounds like, and for its source where it names none."""
    import hashlib

    digest = hashlib.blake2b(digest_size=12)
    for frame in clip.frames or ():
        digest.update(frame)
    if clip.waveform is not None:
        digest.update(clip.waveform.tobytes())
    for vectors in clip.features.values():
        digest.update(vectors.tobytes())
    return f"content {digest.hexdigest()}"
