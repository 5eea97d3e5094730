"""Sums of several terms in one order, so that equal steps are equal to the last bit.

TensorFlow's `AddN` begins with a term whose memory nobody else needs any more. Of three terms or
more the order, and so the rounding, is then a matter of which other operation was done first; that
is so under `enable_op_determinism`, too. Such sums are made by two: by gradient tapes, of a tensor
that is used more than twice, and by Grappler, of `a + b + c` in a traced function.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import backprop


def in_one_order() -> None:
    """Has every sum of gradients and of a traced function added up from left to right.

    It holds for the whole process, and for functions that are traced after it.
    """
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    pywrap_tfe.TFE_Py_RegisterVSpace(_SPACE)


def _added_up(gradients: Sequence[tf.Tensor | tf.IndexedSlices]) -> tf.Tensor | tf.IndexedSlices:
    """Returns the sum of gradients that meet in one tensor."""
    of_numbers = all(isinstance(g, tf.Tensor) and g.dtype != tf.variant for g in gradients)
    # Rows of an embedding are put one behind the other, and lists of tensors have a sum of theirs.
    return sum(gradients[1:], gradients[0]) if of_numbers else _DEFAULT.aggregate_fn(gradients)


_DEFAULT = backprop._default_vspace
_SPACE = _DEFAULT._replace(aggregate_fn=_added_up)
