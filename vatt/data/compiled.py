"""Functions of the input pipeline compiled by XLA: one pass over the pixels, not one per operation.

    @compiled
    def blend(a, b, share): ...

A compiled function is built at its first call and again for each new shape of its arguments, which
takes up to half a second: give it few different shapes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf
from absl import logging

Function = TypeVar("Function", bound=Callable)


@functools.cache
def available() -> bool:
    """Whether this TensorFlow can compile for the CPU; warns once if not."""
    try:
        with tf.init_scope(), tf.device("CPU:0"):
            tf.function(tf.negative, jit_compile=True)(tf.constant(1.0))
    except (tf.errors.OpError, ValueError) as error:
        logging.warning("XLA is not available, frames are prepared more slowly: %s", error)
        return False
    return True


def compiled(function: Function) -> Function:
    """Compiles a function of tensors; without XLA it runs as it is, equal up to rounding."""
    fast = tf.function(function, jit_compile=True, autograph=False)

    @functools.wraps(function)
    def call(*arguments: tf.Tensor) -> tf.Tensor | tuple[tf.Tensor, ...]:
        return fast(*arguments) if available() else function(*arguments)

    return call
