"""What writing a format leaves behind in the process."""

from __future__ import annotations

import logging

import pytest
import tensorflow as tf

from vatt.export import formats
from vatt.export.signatures import Signature, Value


@pytest.mark.parametrize(
    ("name", "written"), [("saved_model", "saved_model.pb"), ("litert", "twice.tflite")]
)
def test_what_is_logged_afterwards_is_shown_as_before(tmp_path, name, written):
    value = Value(("batch", 2), "float32", "two numbers")
    function = tf.function(
        lambda x: {"y": 2.0 * x}, input_signature=[value.spec("x")], autograph=False
    )
    signature = Signature("twice", {"x": value}, {"y": value}, function)
    formats.FORMATS[name].write([signature], tmp_path)
    assert (tmp_path / written).is_file()
    assert logging.getLogger("absl").level == logging.NOTSET
