"""Layers by themselves: `primitives.npz`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

from tests.golden.av_mae.pretraining import near
from tests.golden.checks import Checks, Golden
from tests.golden.eao.models import EMBEDDING, davenet
from vatt.methods.eao import published
from vatt.methods.eao.avlnet import LargestWord
from vatt.modeling.backbones.davenet import DAVEnet
from vatt.modeling.layers.attention import padding_bias
from vatt.modeling.layers.encoder import EncoderBlock, EncoderOptions
from vatt.modeling.layers.gated import GatedUnit

NORM = {"momentum": 0.9, "epsilon": 1e-5, "scale": True, "synchronized": False, "unbiased": True}
HEADS = 4
Weights = Mapping[str, np.ndarray]


def _of(arrays: Golden, prefix: str) -> Weights:
    start = f"{prefix}/w/"
    return {name[len(start) :]: x for name, x in arrays.items() if name.startswith(start)}


def _assign(layer: keras.layers.Layer, weights: Weights, name: Callable[[str], str]) -> None:
    """Gives a layer its weights; `name` is the published name of a path below it."""
    for variable in layer.variables:
        local = variable.path.removeprefix(f"{layer.path}/")
        variable.assign(published.from_published(f"/{local}", weights[name(local)]))


def primitives_file(arrays: Golden) -> Checks:
    """DAVEnet, the gated unit, the largest word, the block of the transformer."""
    for version in ("v1", "v2"):
        yield from _davenet(arrays, version)
    weights = _of(arrays, "gated")
    unit = GatedUnit(len(weights["fc.bias"]), name="unit")
    unit.build((None, weights["fc.weight"].shape[1]))
    _assign(unit, weights, lambda p: published.name_of(f"audio_unit/{p}", published.BASELINE)[9:])
    for axes in ("2", "3"):
        ours = unit(tf.constant(arrays[f"gated/in{axes}"]))
        yield near(f"gated/out{axes}", ours, arrays[f"gated/out{axes}"], EMBEDDING)
    weights = _of(arrays, "sentmax")
    words = LargestWord(len(weights["fc.bias"]), name="words")
    words.build((None, None, weights["fc.weight"].shape[1]))
    _assign(words, weights, lambda p: published.name_of(f"text/{p}", published.BASELINE)[21:])
    ours = words(tf.constant(arrays["sentmax/in"]))
    yield near("sentmax/out", ours, arrays["sentmax/out"], EMBEDDING)
    yield from _block(arrays)


def _davenet(arrays: Golden, version: str) -> Checks:
    weights = _of(arrays, version)
    layer = DAVEnet(*davenet(weights, ""), NORM, arrays[f"{version}/in"].shape[1], name="audio")
    layer.build((None, None, arrays[f"{version}/in"].shape[1]))
    _assign(layer, weights, lambda p: published.name_of(f"audio/{p}", published.BASELINE)[8:])
    x = tf.transpose(tf.constant(arrays[f"{version}/in"]), (0, 2, 1))
    for mode, training in (("eval", False), ("train", True)):
        ours = tf.transpose(layer(x, training=training)["features"], (0, 2, 1))
        name = f"{version}/{mode}_out"
        yield near(name, ours, arrays[name], EMBEDDING)


def _block(arrays: Golden) -> Checks:
    weights = _of(arrays, "block")
    width, inner = len(weights["norm1.bias"]), len(weights["mlp.fc1.bias"])
    options = EncoderOptions(1, width, HEADS, d_kv=width // HEADS, d_ff=inner)
    block = EncoderBlock(options, name="layer_0")
    block.build((None, None, width))
    start = "fusion/encoder/layer_0/"
    _assign(
        block,
        weights,
        lambda p: published.name_of(start + p, published.FUSION).removeprefix("fusion.blocks.0."),
    )
    x, bias = tf.constant(arrays["block/in"]), padding_bias(tf.constant(arrays["block/mask"]))
    for name, given in (("block/out", bias), ("block/out_nomask", None)):
        yield near(name, block(x, bias=given)[0], arrays[name], EMBEDDING)


HANDLERS = {"primitives.npz": primitives_file}
