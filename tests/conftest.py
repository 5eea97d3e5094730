"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
for _number, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        # In the background of a shell, and under nohup, also by the commands that tests start.
        signal.signal(_number, _handler)

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with the golden numbers of the published code; tests that need it skip without it."""
    candidates = [os.environ.get("VATT_SHARED"), REPOSITORY.parent / "shared"]
    for candidate in candidates:
        if candidate and (Path(candidate) / "conformance").is_dir():
            return Path(candidate)
    pytest.skip("golden numbers not found: set VATT_SHARED to the folder that holds conformance/")


@pytest.fixture(scope="session", autouse=True)
def _two_cpu_devices() -> None:
    """Splits the CPU before TensorFlow starts, so that any test may ask for two replicas."""
    from vatt import quiet

    tf = quiet.import_tensorflow_quietly()
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.fixture(scope="session")
def two_replicas():
    """The one mirrored strategy of the test process: a second one breaks collective operations."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
