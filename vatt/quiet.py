"""Imports TensorFlow without the messages it prints when it starts.

    tf = import_tensorflow_quietly()

They come from C++ before TensorFlow reads its own log level (oneDNN, missing CUDA drivers), so the
process's error stream itself goes to a file for that moment. If the import fails, what was held
back is printed.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType


def import_tensorflow_quietly(verbose: bool = False) -> ModuleType:
    """Returns the tensorflow module; `verbose` keeps its start-up messages.

    Looks for devices too, because that prints as well; it does not initialise them, so logical
    devices can still be configured afterwards.
    """
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    if not verbose:
        # 2: errors are still shown. Set before the import, which reads it.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with contextlib.nullcontext() if verbose else _error_stream_held():
        with _not_collecting():
            import tensorflow as tf
        tf.config.list_physical_devices()
    return tf


def hide_advice_on_tracing() -> None:
    """Hides what TensorFlow advises where a function is traced often.

    For functions that are given batches of several sizes on purpose.
    """
    logging.getLogger("tensorflow").addFilter(_is_no_advice)


def _is_no_advice(record: logging.LogRecord) -> bool:
    return "triggered tf.function retracing" not in str(record.msg)


@contextlib.contextmanager
def _not_collecting() -> Iterator[None]:
    """Makes objects that stay: they are not searched for garbage, neither now nor later."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if collecting:
            gc.enable()


@contextlib.contextmanager
def _error_stream_held() -> Iterator[None]:
    """Sends file descriptor 2 to a temporary file; on an exception replays the file."""
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)
            if failed:
                held.seek(0)
                os.write(2, held.read())
