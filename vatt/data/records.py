"""Records on disk: clips to `tf.train.SequenceExample`, and shards of them.

    with ShardWriter(path) as shard:
        shard.write(encode(clip))

A shard appears under its name only when it is complete. TensorFlow is imported on first use.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vatt.data.features import RECORD, RecordSchema
from vatt.quiet import import_tensorflow_quietly

PARTIAL = ".partial"


@dataclass
class ClipRecord:
    """What is stored of a clip. None and empty mean that the clip does not have it."""

    source: str
    start: float = 0.0  # s in the media file
    end: float = 0.0
    fps: float = 0.0
    sample_rate: int = 0
    frames: Sequence[bytes] | None = None  # JPEG
    waveform: np.ndarray | None = None  # float32 [samples]
    captions: Sequence[tuple[float, float, str]] = ()  # start, end (s from clip start), text
    labels: Sequence[str] = ()
    label_indices: Sequence[int] = field(default=())


def shard_name(split: str, index: int, count: int) -> str:
    """Returns the file name of a shard."""
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord"


def encode(clip: ClipRecord, schema: RecordSchema = RECORD) -> bytes:
    """Returns a clip as a serialised SequenceExample; equal clips give equal bytes."""
    tf = import_tensorflow_quietly()

    example = tf.train.SequenceExample()
    context, lists = example.context.feature, example.feature_lists.feature_list
    context[schema.source].bytes_list.value.append(clip.source.encode())
    context[schema.start].float_list.value.append(clip.start)
    context[schema.end].float_list.value.append(clip.end)
    if clip.frames:
        context[schema.fps].float_list.value.append(clip.fps)
        steps = lists[schema.image].feature
        for frame in clip.frames:
            steps.add().bytes_list.value.append(frame)
    if clip.waveform is not None and len(clip.waveform):
        context[schema.sample_rate].int64_list.value.append(clip.sample_rate)
        step = lists[schema.waveform].feature.add()
        step.float_list.value.extend(np.asarray(clip.waveform, np.float32).tolist())
    if clip.captions:
        starts, ends, texts = zip(*clip.captions, strict=True)
        context[schema.caption_start].float_list.value.extend(starts)
        context[schema.caption_end].float_list.value.extend(ends)
        context[schema.caption].bytes_list.value.extend(text.encode() for text in texts)
    if clip.labels:
        context[schema.label_text].bytes_list.value.extend(text.encode() for text in clip.labels)
        context[schema.label_index].int64_list.value.extend(clip.label_indices)
    return example.SerializeToString(deterministic=True)


def decode(serialised: bytes, schema: RecordSchema = RECORD) -> ClipRecord:
    """Returns the clip of a serialised SequenceExample: for tools and tests, not for training."""
    tf = import_tensorflow_quietly()

    example = tf.train.SequenceExample.FromString(serialised)
    lists = example.feature_lists.feature_list

    def value(name: str, kind: str, default: Any = 0) -> Any:
        found = list(getattr(example.context.feature[name], kind).value)
        return found[0] if found else default

    def values(name: str, kind: str) -> list:
        return list(getattr(example.context.feature[name], kind).value)

    frames = waveform = None
    if schema.image in lists:
        frames = [step.bytes_list.value[0] for step in lists[schema.image].feature]
    if schema.waveform in lists:
        waveform = np.array(lists[schema.waveform].feature[0].float_list.value, np.float32)
    texts = [text.decode() for text in values(schema.caption, "bytes_list")]
    starts = values(schema.caption_start, "float_list") or [0.0] * len(texts)
    ends = values(schema.caption_end, "float_list") or [0.0] * len(texts)
    return ClipRecord(
        source=value(schema.source, "bytes_list", b"").decode(),
        start=value(schema.start, "float_list", 0.0),
        end=value(schema.end, "float_list", 0.0),
        fps=value(schema.fps, "float_list", 0.0),
        sample_rate=value(schema.sample_rate, "int64_list"),
        frames=frames,
        waveform=waveform,
        captions=list(zip(starts, ends, texts, strict=True)),
        labels=[text.decode() for text in values(schema.label_text, "bytes_list")],
        label_indices=values(schema.label_index, "int64_list"),
    )


class ShardWriter:
    """Writes a TFRecord file under a temporary name and gives it its name when it is complete."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.records = 0
        self._partial = self.path.with_name(self.path.name + PARTIAL)
        self._writer: Any = None

    def __enter__(self) -> ShardWriter:
        tf = import_tensorflow_quietly()

        self._writer = tf.io.TFRecordWriter(str(self._partial))
        return self

    def write(self, serialised: bytes) -> None:
        """Appends one record."""
        self._writer.write(serialised)
        self.records += 1

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._writer.close()
        if kind is None:
            os.replace(self._partial, self.path)
        else:
            self._partial.unlink(missing_ok=True)


def read_shard(path: Path) -> Iterator[bytes]:
    """Yields the serialised records of a shard."""
    tf = import_tensorflow_quietly()

    yield from tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
