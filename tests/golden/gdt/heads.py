"""Golden files of projection heads, pooling over time, the text encoder, and steps of training."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.golden.checks import Arrays, Check, Checks, absolute
from tests.golden.gdt import procedural
from tests.golden.gdt.objectives import MODALITIES, SETS
from tests.golden.replicas import simulate
from vatt.configs import text
from vatt.configs.model import ProjectionConfig
from vatt.methods.gdt import hypotheses, published
from vatt.methods.gdt.objective import HypothesisLoss
from vatt.modeling import factory
from vatt.modeling.layers import projection
from vatt.modeling.layers.pooling import TemporalPooling
from vatt.objectives.replica import Replica
from vatt.training import optimizers
from vatt.training.published_names import Rules

SMALL = 1e-4  # absolute, of small networks
STEP = 1e-5  # absolute, of losses and of weights after steps of training

# Heads, pooling, text ----------------------------------------------------------------------------


def parts(arrays: Arrays) -> Checks:
    """`heads_pooling_text.npz`."""
    yield from _mlp(arrays)
    linear = _head(
        arrays, "linear_head", ProjectionConfig(d_model=7, use_mlp=False, norm_feat=False)
    )
    yield absolute("linear_head/out", linear(arrays["mlp/in"]), arrays["linear_head/out"], SMALL)
    for case in sorted({name.split("/")[0] for name in arrays if name.startswith("pool_")}):
        yield from _pooling(arrays, case)
    yield from _text(arrays)


def _mlp(arrays: Arrays) -> Checks:
    config = ProjectionConfig(d_model=16, d_hidden=20, dropout_rate=0.0, norm_feat=False)
    raw = _head(arrays, "mlp", config)
    unit = _head(arrays, "mlp", config.model_copy(update={"norm_feat": True}))
    x = arrays["mlp/in"]
    yield absolute("mlp/eval_out", raw(x), arrays["mlp/eval_out"], SMALL)
    yield absolute("mlp/eval_out_l2", unit(x), arrays["mlp/eval_out_l2"], SMALL)
    reference = arrays["mlp/train_out_no_dropout"]
    yield absolute("mlp/train_out_no_dropout", raw(x, training=True), reference, SMALL)
    for ours, name in ((raw.norm.moving_mean, "mean"), (raw.norm.moving_variance, "var")):
        reference = arrays[f"mlp/train_running_{name}_after"]
        yield absolute(f"mlp/train_running_{name}_after", ours.numpy(), reference, SMALL)


def _head(arrays: Arrays, case: str, config: ProjectionConfig) -> projection.ProjectionHead:
    head = projection.build(config, name="head")
    head.build((None, arrays["mlp/in"].shape[-1]))
    # One dense layer alone is stored under the name that it has inside the larger head.
    rules = [(ours, name or "block_forward.2") for ours, name in published.HEAD]
    _load(head, rules, arrays, f"{case}/w/")
    return head


def _load(layer: keras.layers.Layer, rules: Rules, arrays: Arrays, prefix: str) -> None:
    known = [name.removeprefix(prefix) for name in arrays if name.startswith(prefix)]
    names = published.layer_names(layer, rules)
    procedural.fill(layer.variables, names, lambda name: arrays[prefix + name], known)


def _pooling(arrays: Arrays, case: str) -> Checks:
    pattern = r"pool_qkv(\d)_pos(\d)_layers(\d+)_heads(\d+)"
    values, positions, layers, heads = map(int, re.fullmatch(pattern, case).groups())
    sequence = arrays[f"{case}/in"]
    pooling = TemporalPooling(
        sequence.shape[-1],
        layers,
        heads,
        steps=sequence.shape[1],
        positions=bool(positions),
        project_values=bool(values),
        name="pooling",
    )
    pooling.build((None, None, None, None, sequence.shape[-1]))
    _load(pooling, published.POOLING, arrays, f"{case}/w/")
    states = pooling.states(sequence)
    yield absolute(f"{case}/out_all", states, arrays[f"{case}/out_all"], SMALL)
    # As a map of one place, whose steps are those of the transformer.
    yield absolute(f"{case}/out", pooling(sequence[:, :, None, None]), arrays[f"{case}/out"], SMALL)


def _text(arrays: Arrays) -> Checks:
    rows, width = arrays["text/w/word_embd.weight"].shape
    config = text.LinearModel(
        vocab_size=rows, d_embedding=width, d_model=arrays["text/out"].shape[-1]
    )
    encoder = factory.build_backbone(config)
    encoder.build((None, arrays["text/ids"].shape[-1]))
    _load(encoder, published.TEXT, arrays, "text/w/")
    for name, ids in (
        ("out", arrays["text/ids"]),
        ("out_reversed_ids", arrays["text/ids"][:, ::-1]),
    ):
        ours = encoder(tf.constant(ids, tf.int32))["features_pooled"]
        yield absolute(f"text/{name}", ours, arrays[f"text/{name}"], SMALL)


# Training ----------------------------------------------------------------------------------------


def training_steps(arrays: Arrays) -> Checks:
    """`training_steps.npz`: steps of SGD through heads, hypotheses on two replicas."""
    meta = json.loads(str(arrays["meta"]))
    for number in meta["hypotheses"]:
        for mode in ("distinct", "published"):
            loss = HypothesisLoss(hypotheses.of(number), meta["nce_t"], mode == "published")
            yield from _trained(arrays, meta, f"h{number}/{mode}", loss, hypotheses.of(number))


def _trained(
    arrays: Arrays,
    meta: Mapping[str, Any],
    case: str,
    loss: HypothesisLoss,
    hypothesis: hypotheses.Hypothesis,
) -> Checks:
    heads, names = _heads(meta)
    variables = [v for head in heads.values() for v in head.trainable_variables]
    optimizer = optimizers.TorchSGD(0.0, meta["momentum"], meta["weight_decay"])
    optimizer.build(variables)
    for step, rate in enumerate(meta["lrs"]):
        with tf.GradientTape() as tape:
            embeddings = _passes(meta, step, heads, hypothesis)
            on = functools.partial(_on, embeddings=embeddings, loss=loss, meta=meta)
            losses = simulate(on, meta["world_size"])
            total = sum(losses) / len(losses)
        yield absolute(
            f"{case}/step{step}/rank_losses", losses, arrays[f"{case}/step{step}/rank_losses"], STEP
        )
        gradients = tape.gradient(total, [v.value for v in variables])
        optimizer.learning_rate = rate
        optimizer.apply(gradients, variables)
        after = f"{case}/step{step}/after/"
        for head in heads.values():
            for variable in head.variables:
                if (name := after + names[variable.path]) in arrays:
                    ours = published.to_published(variable.path, variable.numpy())
                    yield absolute(name, ours, arrays[name], STEP)
    passes = len(meta["lrs"]) * len(hypothesis.passes)
    for name in (n for n in arrays if n.startswith(after) and n.endswith("num_batches_tracked")):
        yield Check(name, float(abs(passes - arrays[name])), 0.0)


def _heads(meta: Mapping[str, Any]) -> tuple[dict[str, projection.ProjectionHead], dict[str, str]]:
    inputs, hidden, width = meta["dims"]
    config = ProjectionConfig(d_model=width, d_hidden=hidden, dropout_rate=0.0)
    heads, names = {}, {}
    for short in MODALITIES:
        root = f"mlp_{short}"
        heads[short] = head = projection.build(config, name=root)
        head.build((None, inputs))
        own = published.layer_names(head, published.HEAD, root)
        known = [name for name in meta["shapes"] if name.startswith(f"{root}.")]
        procedural.fill(head.variables, own, _drawn(meta), known)
        names |= own
    return heads, names


def _drawn(meta: Mapping[str, Any]) -> Callable[[str], np.ndarray]:
    return lambda name: procedural.value(meta["salt"], name, meta["shapes"][name])


def _passes(
    meta: Mapping[str, Any],
    step: int,
    heads: Mapping[str, projection.ProjectionHead],
    hypothesis: hypotheses.Hypothesis,
) -> dict[str, dict[str, tf.Tensor]]:
    """Returns embeddings of the rows of all replicas: statistics are those of the global batch."""
    published_name = {ours: name for name, ours in SETS.items()}
    shape = (meta["batch_per_rank"], meta["dims"][0])
    found: dict[str, dict[str, tf.Tensor]] = {short: {} for short in heads}
    for own in hypothesis.passes:
        for short, head in heads.items():
            name = f"input/step{step}/{short}{published_name[own]}"
            ranks = [f"{name}/rank{rank}" for rank in range(meta["world_size"])]
            rows = [procedural.sample(meta["salt"], rank, shape) for rank in ranks]
            found[short][own] = head(tf.concat(rows, axis=0), training=True)
    return found


def _on(
    rank: int,
    replica: Replica,
    embeddings: Mapping[str, Mapping[str, tf.Tensor]],
    loss: HypothesisLoss,
    meta: Mapping[str, Any],
) -> tf.Tensor:
    """Returns the loss of one replica's rows."""
    rows = slice(rank * meta["batch_per_rank"], (rank + 1) * meta["batch_per_rank"])
    outputs = {
        long: {name: x[rows] for name, x in embeddings[short].items()}
        for short, long in MODALITIES.items()
    }
    return loss(outputs, {}, replica)["total_loss"]


HANDLERS = {
    "heads_pooling_text.npz": parts,
    "training_steps.npz": training_steps,
}
