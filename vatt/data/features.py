"""The names of everything in a record and in a batch: the one place where they are written.

A record is a `tf.train.SequenceExample`. A modality that a clip does not have is an absent feature.
Data sets with other names on disk give a `fields` map in their card; see `RecordSchema.renamed`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass

from vatt.errors import DataError, nearest

MAX_NAME = 100  # bytes; with it, names of files stay below the 255 that file systems take
SPLIT_NAMES = {  # of a split to train on, to test on, and to choose by; the first is the usual one
    "train": ("train", "training"),
    "test": ("test", "testing", "eval", "evaluation"),
    "valid": ("valid", "val", "validation", "dev"),
}
JOINED = "+"  # between the names of splits, in the name of a shard that they share and when reading


@dataclass(frozen=True)
class RecordSchema:
    """Names of the features on disk. Attribute names are how code and cards refer to them.

    `image`, `waveform` and what begins with `feature` are feature lists, all others context
    features.
    """

    image: str = "image/encoded"  # bytes, one JPEG per step
    waveform: str = "waveform/floats"  # float, one step with the whole mono waveform in [-1, 1]
    caption: str = "caption/string"  # bytes, any number
    caption_start: str = "caption/start"  # float, s from the start of the clip, may be negative
    caption_end: str = "caption/end"  # float, s from the start of the clip
    label_index: str = "label/index"  # int64, position in the card's label list, any number
    label_text: str = "label/text"  # bytes, any number
    source: str = "clip/source"  # bytes, path of the media file as written in the manifest
    start: str = "clip/start"  # float, s in the media file
    end: str = "clip/end"  # float, s in the media file
    fps: str = "clip/fps"  # float, frames per second of `image`
    sample_rate: str = "clip/sample_rate"  # int64, Hz of `waveform`
    feature: str = "feature/"  # and a name of FEATURE_NAME: float, one vector per step

    def renamed(self, fields: Mapping[str, str]) -> RecordSchema:
        """Returns the schema with some names replaced, {attribute name: name on disk}.

        Raises:
          DataError: a key is not an attribute of the schema.
        """
        known = [field.name for field in dataclasses.fields(self)]
        for key in fields:
            if key not in known:
                raise DataError(
                    f"fields: '{key}' is not a part of a record; known: {', '.join(known)}."
                    f"{nearest(key, known)}"
                )
        return dataclasses.replace(self, **fields)


RECORD = RecordSchema()
FEATURE_NAME = re.compile(r"[A-Za-z0-9_]+")  # of extracted features: feature/<name>
SPECTROGRAM = "logmel"  # the usual name of the one that is a log-mel spectrogram
SPECTROGRAM_RATE = 16_000  # Hz of the sound that it is made of

# Batches, as the pipeline delivers them and the model takes them.
VIDEO = "video"  # float32 [batch, frames, height, width, 3]
AUDIO = "audio"  # float32 [batch, samples, 1] or [batch, time, mel, 1]
TEXT = "text"  # int32 [batch, candidates, words]
VIDEO_MASK = "video_mask"  # float32 [batch, positions]
AUDIO_MASK = "audio_mask"  # float32 [batch], or [batch, positions]
TEXT_MASK = "text_mask"  # float32 [batch], or [batch, positions]
LABEL = "label"  # float32 [batch, classes]


def name_fault(name: str) -> str:
    """Returns what is wrong with the name of a set or split, which files have; "" if nothing."""
    if not name.strip() or name in (".", ".."):
        return "must be a name"
    if "/" in name or "\\" in name or not name.isprintable():
        return "must not hold '/', '\\' or characters that cannot be seen"
    if len(name.encode("utf-8", "replace")) > MAX_NAME:
        return f"must not be longer than {MAX_NAME} bytes"
    return ""


def splits_of(joined: str) -> list[str]:
    """Returns the names of the splits in "test_2+train_1", or the only one."""
    return joined.split(JOINED)


def split_part(name: str) -> tuple[str, int | None]:
    """Returns which part of a set a split is, "" for none of SPLIT_NAMES, and its number."""
    word, number = re.fullmatch(r"(.*?)(?:_?(\d+))?", name, re.DOTALL).groups()
    parts = [part for part, words in SPLIT_NAMES.items() if word.lower() in words]
    return (parts[0] if parts else ""), (int(number) if number else None)


def other_folds(first: str, second: str) -> bool:
    """Says whether two splits are of two folds of cross-validation, which share their clips."""
    numbers = [re.search(r"\d+$", name) for name in (first, second)]
    return all(numbers) and int(numbers[0][0]) != int(numbers[1][0])
