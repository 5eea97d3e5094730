"""Gradients that layers bring themselves, which take fewer passes over memory."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import keras
from keras import ops

from vatt.modeling.typing import Tensor

_plain = contextvars.ContextVar("plain", default=False)
_wanted = contextvars.ContextVar("wanted", default=True)


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Within it, models are traced with the backend's operations alone, without own gradients.

    So they are exported: other runtimes know those operations. The values differ by rounding.
    """
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


@contextlib.contextmanager
def only_if(training: bool) -> Iterator[None]:
    """Within it, layers bring no gradients of their own where nothing is being trained.

    The values are the same. TensorFlow remembers every gradient it was ever given, and with it the
    graph and the weights: a process that loads one model after another would keep them all.
    """
    token = _wanted.set(training)
    try:
        yield
    finally:
        _wanted.reset(token)


def is_plain() -> bool:
    """Whether the backend's operations alone are wanted."""
    return _plain.get()


def with_closures() -> bool:
    """Whether a layer may bring a gradient that uses traced values which are not its arguments.

    JAX does not allow them.
    """
    return _wanted.get() and not _plain.get() and keras.backend.backend() == "tensorflow"


def custom(function: Callable[..., tuple[Tensor, Callable]]) -> Callable[..., Tensor]:
    """Returns a function of tensors from one that returns its value and its gradient function."""

    def call(*arguments: Tensor) -> Tensor:
        if _wanted.get():
            return ops.custom_gradient(function)(*arguments)
        return function(*arguments)[0]

    return call
