"""What TensorFlow says and nobody needs."""

from __future__ import annotations

import logging

import tensorflow as tf

from vatt import quiet


def traced_often():
    """A function that is given eight shapes."""
    function = tf.function(lambda x: x + 1, autograph=False)
    for size in range(1, 9):
        function(tf.zeros(size))


def test_advice_on_tracing_is_hidden_and_nothing_else(monkeypatch):
    told, logger = [], logging.getLogger("tensorflow")
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    monkeypatch.setattr(logger, "filters", [])
    monkeypatch.setattr(logger, "handlers", [handler])
    traced_often()
    assert told and all("retracing" in message for message in told)
    told.clear()
    quiet.hide_advice_on_tracing()
    quiet.hide_advice_on_tracing()  # once for each model
    traced_often()
    tf.get_logger().warning("of %s", "use")
    assert told == ["of use"] and len(logger.filters) == 1
