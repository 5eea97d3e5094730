"""A serialized record as tensors, nothing of it decoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from vatt.data.features import RECORD, RecordSchema


class Record(NamedTuple):
    """A parsed record, nothing decoded; what a record lacks is empty."""

    frames: tf.Tensor  # string [frames], one JPEG each
    waveform: tf.Tensor  # float32 [samples]
    captions: tf.Tensor  # string [captions]
    caption_starts: tf.Tensor  # float32 [captions] or [0], s
    caption_ends: tf.Tensor  # float32 [captions] or [0], s
    label_index: tf.Tensor  # int64 [labels]
    label_text: tf.Tensor  # string [labels]
    source: tf.Tensor  # string, "" when unknown
    features: Mapping[str, tf.Tensor] = {}  # float32 [steps, width] of those asked for, by name


def parse(
    serialized: tf.Tensor,
    schema: RecordSchema = RECORD,
    record_type: str = "SequenceExample",
    features: Mapping[str, int] | None = None,
) -> Record:
    """`unchecked`, but samples of sound and values of features that are not finite fail."""
    record = unchecked(serialized, schema, record_type, features)
    return record._replace(
        waveform=_finite(record.waveform, "a sample of the waveform"),
        features={
            name: _finite(vectors, f"a value of feature {name}")
            for name, vectors in record.features.items()
        },
    )


def unchecked(
    serialized: tf.Tensor,
    schema: RecordSchema = RECORD,
    record_type: str = "SequenceExample",
    features: Mapping[str, int] | None = None,
) -> Record:
    """Reads a serialized tf.train.SequenceExample or tf.train.Example; an empty string fails.

    `features` are widths by name (`Card.feature_widths`); vectors of another width fail. What is
    not named there is not read.
    """
    features = features or {}
    if features and record_type == "Example":
        raise ValueError("features are lists, which a tf.train.Example does not have")
    present = tf.debugging.Assert(tf.strings.length(serialized) > 0, ["the record is lost"])
    with tf.control_dependencies([present]):
        serialized = tf.identity(serialized)
    context_features = {
        schema.caption: tf.io.RaggedFeature(tf.string),
        schema.caption_start: tf.io.RaggedFeature(tf.float32),
        schema.caption_end: tf.io.RaggedFeature(tf.float32),
        schema.label_index: tf.io.RaggedFeature(tf.int64),
        schema.label_text: tf.io.RaggedFeature(tf.string),
        schema.source: tf.io.FixedLenFeature((), tf.string, ""),
    }
    image, waveform = tf.io.RaggedFeature(tf.string), tf.io.RaggedFeature(tf.float32)
    if record_type == "Example":
        context = tf.io.parse_single_example(
            serialized, context_features | {schema.image: image, schema.waveform: waveform}
        )
        frames, samples = context[schema.image], context[schema.waveform]
    else:
        frame = tf.io.FixedLenSequenceFeature((), tf.string, allow_missing=True)
        list_features = {schema.image: frame, schema.waveform: waveform}
        for name, width in features.items():
            list_features[schema.feature + name] = tf.io.FixedLenSequenceFeature(
                (width,), tf.float32, allow_missing=True
            )
        context, lists = tf.io.parse_single_sequence_example(
            serialized, context_features, list_features
        )
        frames, steps = lists[schema.image], lists[schema.waveform]
        # [steps, (samples)]; the first step holds everything
        first_end = tf.concat([steps.row_splits, steps.row_splits[-1:]], 0)[1]
        samples = steps.flat_values[:first_end]
    return Record(
        frames=frames,
        waveform=samples,
        captions=context[schema.caption],
        caption_starts=context[schema.caption_start],
        caption_ends=context[schema.caption_end],
        label_index=context[schema.label_index],
        label_text=context[schema.label_text],
        source=context[schema.source],
        features={name: lists[schema.feature + name] for name in features},
    )


def _finite(values: tf.Tensor, what: str) -> tf.Tensor:
    check = tf.debugging.Assert(tf.reduce_all(tf.math.is_finite(values)), [f"{what} is not finite"])
    with tf.control_dependencies([check]):
        return tf.identity(values)
