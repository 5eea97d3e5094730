"""A TPU that is not there is told at once, whatever stands in its place."""

from __future__ import annotations

import socket

import pytest
import tensorflow as tf

from vatt import configs
from vatt.errors import UserError
from vatt.training import strategy


@pytest.fixture
def listener():
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def build(kind, address):
    return strategy.build(configs.experiment.RuntimeConfig(distribution_strategy=kind, tpu=address))


@pytest.mark.parametrize("kind", ["tpu", "auto"])
def test_nobody_listens(kind):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(UserError, match=f"--tpu=grpc://127.0.0.1:{port}: .*Connection refused"):
        build(kind, f"grpc://127.0.0.1:{port}")


def test_something_listens_that_is_no_tpu(listener, monkeypatch):
    monkeypatch.setattr(strategy, "ANSWER_S", 0.1)
    with pytest.raises(UserError, match=f"127.0.0.1:{listener}: no answer within 0.1 s"):
        build("tpu", f"grpc://127.0.0.1:{listener}")


def test_a_server_of_tensorflow_answers(listener):
    server = tf.distribute.Server({"worker": ["127.0.0.1:0"]}, job_name="worker", task_index=0)
    address = server.target.removeprefix("grpc://")
    strategy._check_answers(tf.train.ClusterSpec({"worker": [address]}))
