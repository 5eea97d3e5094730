"""Golden files of single layers: resampled position tables, relative positions of T5."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tests.golden.checks import (
    FEATURES,
    GRADIENT,
    INTERPOLATED,
    LONG_SPLINE,
    Arrays,
    Checks,
    Note,
    absolute,
    relative,
)
from vatt.modeling.backbones import language_models
from vatt.modeling.layers import positions


def spline_file(arrays: Arrays) -> Checks:
    """`spline.npz`: resampled position tables and the gradient of the table."""
    for case in arrays["case_names"]:
        table = tf.convert_to_tensor(arrays[f"{case}/in:table"])
        cotangent = arrays[f"{case}/in:R"]
        with tf.GradientTape() as tape:
            tape.watch(table)
            ours = positions.resample(table, len(cotangent))
            value = tf.reduce_sum(ours * cotangent)
        tolerance = FEATURES if len(table) < 100 else LONG_SPLINE
        yield absolute(f"{case}/exact64", ours, arrays[f"{case}/exact64:table"], tolerance)
        published_error = np.max(
            np.abs(arrays[f"{case}/out:table"] - arrays[f"{case}/exact64:table"])
        )
        if published_error > INTERPOLATED:
            yield Note(f"{case}: published float32 values are off by {published_error:.3g}")
        else:
            yield absolute(f"{case}/out", ours, arrays[f"{case}/out:table"], INTERPOLATED)
        if f"{case}/exact64:grad" in arrays:
            gradient = tape.gradient(value, table)
            yield relative(f"{case}/grad", gradient, arrays[f"{case}/exact64:grad"], GRADIENT)


def relative_buckets_file(arrays: Arrays) -> Checks:
    """`t5_relative_buckets.npz`: bucket ids, exact."""
    for case in arrays["case_names"]:
        buckets, distance, direction = str(case).split("_")
        ours = language_models.relative_buckets(
            arrays["relative_position"],
            int(buckets.removeprefix("buckets")),
            int(distance.removeprefix("maxdist")),
            bidirectional=direction == "bidirectional",
        )
        yield absolute(str(case), ours, arrays[case], 0.0)
