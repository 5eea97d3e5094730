"""Records on disk: clips to `tf.train.SequenceExample`, and shards of them.

    with ShardWriter(path) as shard:
        shard.write(encode(clip))

    for serialised in read_shard(path):
        clip = decode(serialised)

Damaged shards are read by `vatt.data.framing`, record by record; `examine` says whether a record
can be used. A shard appears under its name only when it is complete. TensorFlow is imported on
first use.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vatt.data.features import RECORD, RecordSchema
from vatt.files import writing
from vatt.quiet import import_tensorflow_quietly

if TYPE_CHECKING:
    from tensorflow.train import Feature

    from vatt.data.cards import Card

PARTIAL = ".partial"
SEQUENCE_EXAMPLE, EXAMPLE = "SequenceExample", "Example"  # kinds of record, as cards name them


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
    features: Mapping[str, np.ndarray] = field(default_factory=dict)  # float32 [steps, width]


def said_inside(start: Any, end: Any, seconds: Any) -> Any:
    """Says whether captions are said in a clip of so many seconds, and not before or after it.

    The greater part of the caption lies in the clip, or it fills the greater part of the clip: the
    middle of one lies in the other. Numbers or tensors; without a length, what begins in it counts.
    """
    middle = (start + end) / 2
    in_clip = (middle >= 0) & ((middle < seconds) | (seconds <= 0))
    return in_clip | ((start <= seconds / 2) & (seconds / 2 < end))


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
        step.float_list.MergeFromString(_packed(clip.waveform))
    if clip.captions:
        starts, ends, texts = zip(*clip.captions, strict=True)
        context[schema.caption_start].float_list.value.extend(starts)
        context[schema.caption_end].float_list.value.extend(ends)
        context[schema.caption].bytes_list.value.extend(text.encode() for text in texts)
    if clip.labels:
        context[schema.label_text].bytes_list.value.extend(text.encode() for text in clip.labels)
        context[schema.label_index].int64_list.value.extend(clip.label_indices)
    for name, vectors in clip.features.items():
        for vector in vectors:
            step = lists[schema.feature + name].feature.add()
            step.float_list.MergeFromString(_packed(vector))
    return example.SerializeToString(deterministic=True)


def _packed(numbers: np.ndarray) -> bytes:
    """A FloatList as protobuf writes it; its own way through Python floats takes fifty times as
    long.
    """
    content = np.asarray(numbers, "<f4").tobytes()
    length, size = bytearray(), len(content)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return b"\x0a" + bytes([*length, size]) + content


def decode(
    serialised: bytes, schema: RecordSchema = RECORD, record_type: str = SEQUENCE_EXAMPLE
) -> ClipRecord:
    """Returns the clip of a serialised record: for tools and tests, not for training.

    A `tf.train.Example` holds frames as one bytes list and the waveform as one float list, and no
    features.

    Raises:
      DecodeError: it is no record of that type (google.protobuf.message).
      ValueError: its parts do not fit together.
    """
    context, lists = _features(serialised, record_type)

    def values(name: str, kind: str) -> list:
        return list(getattr(context[name], kind).value) if name in context else []

    def value(name: str, kind: str, default: Any = 0) -> Any:
        return (values(name, kind) or [default])[0]

    if record_type == EXAMPLE:
        frames = values(schema.image, "bytes_list")
        samples = values(schema.waveform, "float_list")
    else:
        steps = lists[schema.image].feature if schema.image in lists else ()
        frames = [picture for step in steps for picture in step.bytes_list.value[:1]]
        steps = lists[schema.waveform].feature if schema.waveform in lists else ()
        samples = list(steps[0].float_list.value) if steps else []
    texts = [_text(text) for text in values(schema.caption, "bytes_list")]
    starts = values(schema.caption_start, "float_list") or [0.0] * len(texts)
    ends = values(schema.caption_end, "float_list") or [0.0] * len(texts)
    if not len(starts) == len(ends) == len(texts):
        raise ValueError(f"captions without times: {schema.caption_start}, {schema.caption_end}")
    return ClipRecord(
        source=_text(value(schema.source, "bytes_list", b"")),
        start=value(schema.start, "float_list", 0.0),
        end=value(schema.end, "float_list", 0.0),
        fps=value(schema.fps, "float_list", 0.0),
        sample_rate=value(schema.sample_rate, "int64_list"),
        frames=frames or None,
        waveform=np.array(samples, np.float32) if samples else None,
        captions=list(zip(starts, ends, texts, strict=True)),
        labels=[_text(text) for text in values(schema.label_text, "bytes_list")],
        label_indices=values(schema.label_index, "int64_list"),
        features={
            name.removeprefix(schema.feature): _vectors(name, lists[name].feature)
            for name in sorted(lists)
            if name.startswith(schema.feature)
        },
    )


def _vectors(name: str, steps: Sequence[Feature]) -> np.ndarray:
    """Float32 [steps, width] of a feature list."""
    vectors = [np.array(step.float_list.value, np.float32) for step in steps]
    for number, vector in enumerate(vectors):
        if len(vector) != len(vectors[0]):
            raise ValueError(
                f"'{name}': vector {number} has {len(vector)} values, vector 0 has "
                f"{len(vectors[0])}"
            )
    return np.stack(vectors) if vectors else np.zeros([0, 0], np.float32)


def _features(serialised: bytes, record_type: str) -> tuple[Any, Any]:
    """Returns the plain features and the feature lists of a record, both by name."""
    tf = import_tensorflow_quietly()

    if record_type == EXAMPLE:
        return tf.train.Example.FromString(serialised).features.feature, {}
    example = tf.train.SequenceExample.FromString(serialised)
    return example.context.feature, example.feature_lists.feature_list


def _text(encoded: bytes) -> str:
    return encoded.decode("utf-8", errors="replace")  # others wrote it, perhaps in Latin-1


class ShardWriter:
    """Writes a TFRecord file under a temporary name and gives it its name when it is complete."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.records = 0
        self._partial = self.path.with_name(self.path.name + PARTIAL)
        self._writer: Any = None

    def __enter__(self) -> ShardWriter:
        tf = import_tensorflow_quietly()

        with self._writing():
            self._writer = tf.io.TFRecordWriter(str(self._partial))
        return self

    def _writing(self) -> contextlib.AbstractContextManager:
        return writing(self.path, import_tensorflow_quietly().errors.OpError)

    def write(self, serialised: bytes) -> None:
        """Appends one record."""
        with self._writing():
            self._writer.write(serialised)
        self.records += 1

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            with self._writing():
                self._writer.close()
                if kind is None:
                    os.replace(self._partial, self.path)
        finally:
            with contextlib.suppress(OSError):
                self._partial.unlink(missing_ok=True)


def read_shard(path: Path) -> Iterator[bytes]:
    """Yields the serialised records of a shard."""
    tf = import_tensorflow_quietly()

    yield from tf.data.TFRecordDataset(str(path)).as_numpy_iterator()


# Faults of a record ------------------------------------------------------------------------------


def diagnose(serialised: bytes, card: Card) -> str:
    """Returns why a record cannot be used as one of `card`'s, or "" when it can."""
    return examine(serialised, card)[1]


def examine(serialised: bytes, card: Card) -> tuple[ClipRecord | None, str]:
    """Returns a record of `card`, None if it cannot be parsed, and what `diagnose` says of it."""
    from google.protobuf.message import DecodeError

    schema, kind = RECORD.renamed(card.fields), card.record_type
    try:
        clip = decode(serialised, schema, kind)
    except DecodeError:
        return None, f"not a tf.train.{kind}"
    except ValueError as error:
        return None, str(error)
    if card.video and not clip.frames:
        return clip, _no_frames(serialised, schema, kind)
    return clip, _bad_frames(clip.frames or ()) or _bad_values(clip, card)


def _bad_values(clip: ClipRecord, card: Card) -> str:
    classes = card.classes
    if clip.waveform is not None and not np.isfinite(clip.waveform).all():
        return "a sample of the waveform is not finite"
    for index in clip.label_indices:
        if classes and not 0 <= index < classes:
            return f"label index {index}, but the card has {classes} classes"
    for name, about in card.features.items():
        vectors = clip.features.get(name, np.zeros([0, 0]))
        if len(vectors) and vectors.shape[1] != about.width:
            width = vectors.shape[1]
            return f"feature '{name}': {width} values per vector, but the card says {about.width}"
        if not np.isfinite(vectors).all():
            first = np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0]
            return f"feature '{name}': vector {first} is not finite"
    return ""


def _no_frames(serialised: bytes, schema: RecordSchema, kind: str) -> str:
    """Says what is there instead: most often the card names another field or kind of record."""
    context, lists = _features(serialised, kind)
    if kind == SEQUENCE_EXAMPLE and schema.image in context:
        return f"no frames: '{schema.image}' is no feature list; a tf.train.Example?"
    if schema.image in context or schema.image in lists:
        return f"no frames in '{schema.image}'"
    found = ", ".join(sorted([*context, *lists])[:12]) or "nothing"
    return f"no frames: '{schema.image}' is not there, but {found}"


def _bad_frames(frames: Sequence[bytes]) -> str:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return _first_bad_frame(frames)


def _first_bad_frame(frames: Sequence[bytes]) -> str:
    from PIL import Image

    too_large = Image.DecompressionBombError, Image.DecompressionBombWarning
    sizes = []
    for number, encoded in enumerate(frames):
        try:
            with Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG")) as image:
                sizes.append(image.size)
                image.draft(None, (1, 1))  # reads all of a JPEG, computes an eighth of its pixels
                image.load()
        except Image.UnidentifiedImageError:
            return f"frame {number} is not a JPEG or PNG"
        except (OSError, SyntaxError, ValueError, *too_large) as error:
            return f"frame {number} cannot be decoded: {error}"
        if sizes[number] != sizes[0]:
            size, first = ("x".join(map(str, sizes[k])) for k in (number, 0))
            return f"frame {number} is {size} pixels, frame 0 is {first}"
    return ""
