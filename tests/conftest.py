"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Iterator
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

# Tracing makes objects by the million, nearly all of which stay: looking through them as often as
# Python does by default is a sixth of the time.
gc.set_threshold(50_000, 10, 10)

REPOSITORY = Path(__file__).resolve().parents[1]
LONGEST = (
    "test_several_workers.py",
    "test_launch.py",
    "test_finetune.py",
    "test_every_architecture.py",
    "test_pretrain.py",
    "test_pretrain_eval.py",
    "test_reload_every_architecture.py",
    "test_kill.py",
    "test_golden.py",
    "test_toy_method.py",
    "test_convert_checkpoint.py",
    "test_seeds.py",
    "test_folds.py",
    "test_sets_and_views.py",
    "test_flops.py",
    "test_pipeline.py",
    "test_labelled.py",
    "test_bad_records.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the files that take minutes: one that is left for the end is waited for."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def pytest_collection_finish() -> None:
    """What all tests have imported is never garbage."""
    gc.collect()
    gc.freeze()


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


@pytest.fixture(scope="module", autouse=True)
def _seeded_file(_two_cpu_devices) -> None:
    """Gives the fixtures of a file the same random numbers, whichever files ran before it."""
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module", autouse=True)
def _graphs_of_the_file(_two_cpu_devices) -> Iterator[None]:
    """Lets go of the graphs and weights that were traced for training in a file.

    TensorFlow keeps every gradient function that was given to it, and all that it refers to.
    """
    yield
    from tensorflow.python.framework import ops

    registered = ops.gradient_registry._registry
    own = [name for name in registered if str(name).startswith("CustomGradient")]
    for name in own:
        del registered[name]
    if own:
        gc.collect()


@pytest.fixture(autouse=True)
def _seeded_test(_seeded_file) -> None:
    """Gives every test the same random numbers, whichever tests ran before it."""
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def _log_as_at_first() -> None:
    """Takes back what a command in the test process, or a library, did to the log of the others.

    TensorFlow leaves absl's logger at WARNING when it writes a SavedModel.
    """
    logger = logging.getLogger("absl")
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def two_replicas():
    """The one mirrored strategy of the test process: a second one breaks collective operations."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
