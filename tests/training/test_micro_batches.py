"""Parts of a batch wait for one another, masks of dropout too: only one part is in memory."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from vatt.modeling.random import Randomness
from vatt.training import micro_batches

sys.path.insert(0, str(Path(__file__).parents[1] / "methods" / "av_mae"))
import small

PARTS, ROWS = 3, 6
CALLS = ("PartitionedCall", "StatefulPartitionedCall")
DRAWS = "StatelessRandom"  # beginning of the operations that draw


def traced() -> tf.Graph:
    """Returns the graph of a step in parts with dropout: forward, then backward."""
    model = small.built(small.config(dropout_rate=0.5))

    def towers(inputs, seed, first_row):
        return model.towers(inputs, training=True, rng=Randomness(seed, first_row))

    in_parts = micro_batches.InParts(towers, PARTS, model)

    @tf.function(autograph=False)
    def step(inputs, seed):
        with tf.GradientTape() as tape:
            features = in_parts(inputs, seed, tf.constant(0))
            total = sum(tf.reduce_sum(of["predicted"] ** 2) for of in features.values())
        return tape.gradient(total, [v.value for v in model.trainable_variables])

    clips = {m: tf.TensorSpec(x.shape) for m, x in small.batch(ROWS).items()}
    return step.get_concrete_function(clips, tf.TensorSpec([2], tf.int32)).graph


def before(op: tf.Operation) -> set[tf.Operation]:
    """Returns all that has to be done before an operation."""
    found, ahead = set(), [op]
    while ahead:
        one = ahead.pop()
        for other in (*(x.op for x in one.inputs), *one.control_inputs):
            if other not in found:
                found.add(other)
                ahead.append(other)
    return found


def draws_after(function, argument: str) -> list[bool]:
    """Returns, of each operation in a function that draws, whether it waits for an argument."""
    nodes = {node.name: node for node in function.node_def}

    def waits(name: str, seen: set[str]) -> bool:
        name = name.removeprefix("^").partition(":")[0]
        if name == argument or name in seen:
            return name == argument
        seen.add(name)
        return name in nodes and any(waits(x, seen) for x in nodes[name].input)

    return [waits(n.name, set()) for n in nodes.values() if n.op.startswith(DRAWS)]


def test_a_part_begins_when_the_one_before_has_ended():
    graph = traced()
    calls = [op for op in graph.get_operations() if op.type in CALLS]
    assert len(calls) == 2 * PARTS  # forward and backward
    library = {one.signature.name: one for one in graph.as_graph_def().library.function}
    for earlier, call in zip([None, *calls], calls, strict=False):
        waiting = [x for x in call.inputs if earlier is not None and earlier in before(x.op)]
        seeds = [x for x in waiting if x.dtype == tf.int32 and x.shape == (2,)]
        clips = [x for x in waiting if x.dtype == tf.float32 and x.shape.rank > 3]
        assert (len(seeds), len(clips)) == ((1, 2) if earlier is not None else (0, 0))
        if earlier is None:
            continue
        # What is drawn depends on nothing but that seed, which has to wait.
        function = library[call.get_attr("f").name]
        place = [x is seeds[0] for x in call.inputs].index(True)
        drawn = draws_after(function, function.signature.input_arg[place].name)
        assert len(drawn) > 5 and np.all(drawn)
