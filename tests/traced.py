"""What is in the graph of a traced function, and how many graphs are left when it is let go."""

from __future__ import annotations

import gc
from collections.abc import Callable

import tensorflow as tf


def operations(graph: tf.Graph) -> list:
    """Returns the nodes of a graph, and those of the functions that it calls."""
    whole = graph.as_graph_def()
    return [*whole.node, *(node for one in whole.library.function for node in one.node_def)]


def graphs_left_by(trace: Callable[[], object]) -> int:
    """Returns how many more graphs there are after a call than before."""
    before = _graphs()
    trace()
    return _graphs() - before


def _graphs() -> int:
    gc.collect()
    return sum(type(thing).__name__ == "FuncGraph" for thing in gc.get_objects())
