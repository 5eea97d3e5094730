"""How loud the sounds of a data set are: counted clip by clip, added up over shards, judged.

    counts = levels.of(waveform, sample_rate)        # of a clip
    counts = levels.total([counts, ...])             # of a split
    levels.figures(counts)                           # {"RMS": "-21 dB", ...}
    levels.notices(counts)                           # [Notice("quiet sounds, ...", "half of ...")]
    levels.is_silent(waveform, sample_rate)          # told clip by clip in ingest

Decibels are relative to full scale: 0 dB is a square wave from -1 to 1. What is softer than
`SILENCE` counts as silent, in pieces of `PIECE` seconds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from vatt.notices import Notice, Notices

if TYPE_CHECKING:
    import numpy as np

SILENCE = -60.0  # dB
PIECE = 0.05  # s
QUIET = -30.0  # dB, RMS: models on waveforms learn little from what is softer
WIDE = 30.0  # dB between soft and loud sounds of one set
FULL = 1.0 - 2.0**-14  # where 16 bits end
CLIPPED = 0.01  # share of samples there; a sine that just reaches it has 0.007
MUCH = 0.5  # share of the time or of the clips

SILENT = f"silent sounds: nothing is above {SILENCE:.0f} dB"
WAY_OUT = (
    "train.input.audio_level=-20 and eval.input.audio_level=-20 bring them to one level"
    " (docs/configuration.md)"
)

Counts = dict[str, Any]


def of(waveform: np.ndarray, sample_rate: int) -> Counts:
    """Counts one clip; nothing for one without samples."""
    import numpy as np  # the command line of ingest does without

    if not len(waveform):
        return {}
    samples = np.asarray(waveform, np.float32)
    power = np.square(samples)
    size = max(1, round(PIECE * (sample_rate or len(samples))))
    pieces = np.add.reduceat(power, np.arange(0, len(power), size))
    lengths = np.minimum(size, len(power) - np.arange(0, len(power), size))
    soft = pieces < 10 ** (SILENCE / 10) * lengths
    peak = float(np.max(np.abs(samples)))
    return {
        "clips": 1,
        "silent_clips": int(soft.all()),
        "full_scale_clips": int(np.mean(np.abs(samples) >= FULL) > CLIPPED),
        "samples": len(samples),
        "silent_samples": int(lengths[soft].sum()),
        "peak": round(peak, 5),
        "rms": {} if soft.all() else {str(math.floor(_decibels(float(power.mean())))): 1},
    }


def is_silent(waveform: np.ndarray, sample_rate: int) -> bool:
    """Whether a clip counts as silent."""
    import numpy as np

    samples = np.asarray(waveform, np.float32)
    if np.dot(samples, samples) >= 10 ** (SILENCE / 10) * len(samples):  # quick, and nearly always
        return False
    return bool(of(samples, sample_rate).get("silent_clips"))


def total(parts: Iterable[Counts]) -> Counts:
    """Adds up counts; those of sets made before there were any are empty."""
    parts = [part for part in parts if part]
    if not parts:
        return {}
    loudness: Counter[str] = Counter()
    for part in parts:
        loudness.update(part["rms"])
    summed = ("clips", "silent_clips", "full_scale_clips", "samples", "silent_samples")
    return {
        **{name: sum(part[name] for part in parts) for name in summed},
        "peak": max(part["peak"] for part in parts),
        "rms": dict(sorted(loudness.items(), key=lambda item: int(item[0]))),
    }


def figures(counts: Counts) -> dict[str, str]:
    """What is shown of a split with sound, by heading."""
    soft, middle, loud = (percentile(counts, share) for share in (0.05, 0.5, 0.95))
    return {
        "RMS, middle": _shown(middle),
        "5 %": _shown(soft),
        "95 %": _shown(loud),
        "peak": _shown(_decibels(counts["peak"] ** 2)),
        "silent time": f"{100 * counts['silent_samples'] / counts['samples']:.0f} %",
        "silent clips": f"{counts['silent_clips']:,}",
    }


def notices(counts: Counts) -> list[Notice]:
    """What of the level may stand in the way of learning."""
    if not counts:
        return []
    found = Notices()
    soft, middle, loud = (percentile(counts, share) for share in (0.05, 0.5, 0.95))
    if middle is not None and middle < QUIET:
        detail = f"half of them are below {middle + 1:.0f} dB (RMS)"
        found.add(f"quiet sounds, from which models learn little: {WAY_OUT}", detail)
    elif middle is not None and loud - soft > WIDE:
        detail = f"from {soft:.0f} to {loud:.0f} dB (RMS)"
        found.add(f"sounds of very different levels: {WAY_OUT}", detail)
    clips, silent = counts["clips"], counts["silent_samples"] / counts["samples"]
    if silent > MUCH:
        detail = f"{silent:.0%} of it is below {SILENCE:.0f} dB"
        found.add("silent for most of the time", detail)
    elif counts["silent_clips"]:
        found.add(SILENT, f"{counts['silent_clips']:,} of {clips:,}")
    if counts["full_scale_clips"] > MUCH * clips:
        detail = f"{counts['full_scale_clips']:,} of {clips:,}"
        found.add(f"sounds at full scale for more than {CLIPPED:.0%} of the time", detail)
    return list(found)


def by_split(splits: Mapping[str, Mapping[str, Any]]) -> list[list]:
    """The notices of all splits, as of `summary.by_split`, in rows of notices.csv.

    Not that some are silent: their clips tell it themselves.
    """
    return [
        [f"split {split}", None, None, notice.kind, notice.detail]
        for split, about in splits.items()
        for notice in notices(about.get("levels", {}))
        if notice.kind != SILENT
    ]


def percentile(counts: Counts, share: float) -> float | None:
    """The RMS in whole dB that so large a share of the sounds does not exceed; of sounds alone."""
    loudness = counts["rms"]
    wanted, seen = share * sum(loudness.values()), 0
    for level, clips in loudness.items():
        seen += clips
        if seen >= wanted:
            return float(level)
    return None


def _decibels(power: float) -> float:
    return 10 * math.log10(max(power, 1e-12))


def _shown(level: float | None) -> str:
    return "none" if level is None else f"{level:.0f} dB"
