"""Operations and activations of a model, counted from the geometry of its layers.

    layer = factory.build_backbone(configs.registry.backbone("vit_base"))
    tower = flops.count(layer, (32, 224, 224, 3), training=True)
    print(tower.tokens, tower.cost.step / 1e9, tower.cost.activation_bytes("float32") / 2**20)

Layers need not be built. Operations are those of matrix products and convolutions that grow with
the batch, a multiply-add counted as two, padding included; what is done once per batch (resampling
of positions, T5's bias) and element by element is left out. A training step counts three times the
forward pass: one forward, two backward.

Activations are what the backward pass of a graph that is not compiled reads: patches; of every
norm the normalised values (float32 always) and the result; q, k, v, the probabilities and their
product with v; masks of dropout; inputs of products; inner values of activation
functions; of a convolution its result before (float32 always) and after batch norm. Left out are
weights, gradients, optimizer, working memory and what is small: statistics, padding masks, indices,
DropBlock.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import keras

from vatt.modeling.backbones.basic_resnet import BasicResNet
from vatt.modeling.backbones.i3d import I3D, POOLS, Mixed
from vatt.modeling.backbones.language_models import BertEncoder, LinearBase
from vatt.modeling.backbones.patch_transformer import PatchTransformer
from vatt.modeling.backbones.r2plus1d import SpaceTimeConv
from vatt.modeling.backbones.resnet2d import Bottleneck, ResNet2D
from vatt.modeling.backbones.text import TextModel
from vatt.modeling.backbones.unified import WordTransformer
from vatt.modeling.classifier import ClassificationModel
from vatt.modeling.layers import activations
from vatt.modeling.layers.conv import ConvNorm
from vatt.modeling.layers.encoder import Encoder, EncoderBlock
from vatt.modeling.layers.norm import RMSNorm
from vatt.modeling.layers.pooling import TemporalPooling
from vatt.modeling.layers.projection import ProjectionHead
from vatt.modeling.layers.tokens import num_kept
from vatt.modeling.typing import Tensor

if TYPE_CHECKING:
    from vatt.modeling.pretraining import PretrainingModel

Shape: TypeAlias = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one clip (of text: one sentence) costs.

    Attributes:
      forward: operations of the forward pass.
      step: operations of a training step.
      attention: the part of `forward` that is attention's two products.
      values: activations in the precision of the layer.
      float32: activations that are float32 whatever that is.
      half: activations that only half precision keeps.
      masks: entries that dropout says to keep or not, a byte each.
    """

    forward: float = 0.0
    step: float = 0.0
    attention: float = 0.0
    values: float = 0.0
    float32: float = 0.0
    half: float = 0.0
    masks: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Cost(*(a + b for a, b in pairs))

    def __mul__(self, times: int) -> Cost:
        return Cost(*(times * value for value in dataclasses.astuple(self)))

    def frozen(self) -> Cost:
        """Returns the cost of layers that no gradient passes through."""
        return Cost(forward=self.forward, step=self.forward, attention=self.attention)

    def activation_bytes(self, precision: str) -> float:
        """Returns the memory that activations take in 'float32' or 'mixed_bfloat16'."""
        if precision == "float32":
            return 4.0 * (self.values + self.float32) + self.masks
        return 2.0 * (self.values + self.half) + 4.0 * self.float32 + self.masks


@dataclasses.dataclass(frozen=True)
class Tower:
    """A backbone at work on one clip.

    Attributes:
      grid: patches or words along each axis; of a convolutional backbone, places of its result.
      tokens: length of the sequence in the encoder after DropToken, learned tokens included; None
        without an encoder.
      cost: of one clip or sentence.
    """

    grid: Shape
    tokens: int | None
    cost: Cost


def pretraining_step(model: PretrainingModel, shapes: Mapping[str, Shape]) -> float:
    """Returns the operations that one example costs in a training step.

    `shapes` are those of an example by modality, text as `(candidates, words)`. Heads and losses
    are left out: they are thousandths of the towers.
    """
    total = model.joint_cost(shapes).step
    for modality in model.modalities:
        rows, shape = model.rows_of(modality, tuple(shapes[modality]))
        total += rows * count(model.backbone(modality), shape, training=True).cost.step
    return total


def classification_step(model: ClassificationModel, shapes: Mapping[str, Shape]) -> float:
    """Returns the operations that one clip costs in a step of fine-tuning; `shapes` by modality.

    A frozen backbone only runs forward, on all tokens.
    """
    trained = bool(model.backbone.trainable_variables)
    own = [shapes[modality] for modality in model.modalities]
    shape = own[0] if len(own) == 1 else dict(zip(model.modalities, own, strict=True))
    cost = count(model.backbone, shape, training=trained).cost
    return (cost.step if trained else cost.forward) + classifier(
        model.backbone.features_dim, model.num_classes
    ).step


@functools.singledispatch
def count(layer: keras.layers.Layer, shape: Shape, training: bool = False) -> Tower:
    """Returns what a backbone does with one clip of `shape`, `(*axes, channels)`, or `(words,)`.

    `training` lets DropToken work; activations are those of training either way.

    Raises:
      ValueError: an axis shorter than one patch.
      TypeError: nothing counts the operations of this layer.
    """
    raise TypeError(
        f"{type(layer).__name__} is no backbone whose operations are counted: count.register adds "
        "a function that does"
    )


# Transformers ----------------------------------------------------------------------------------


@count.register
def _(layer: PatchTransformer, shape: Shape, training: bool = False) -> Tower:
    training = training and not layer.frozen
    grid = layer.patches.grid((None, *shape))
    kept = projected = math.prod(grid)
    if training:
        kept = num_kept(projected, layer.num_buckets, layer.patch_sampling_rate)
        # Masking may put any token of the batch anywhere, so all are projected first.
        projected = kept if layer.masking is None else projected
    volume = math.prod(layer.patches.patch) * shape[-1]
    cost = product(projected, volume, layer.d_model) + Cost(values=projected * volume)
    cost += _dense(layer.pre_projection, kept, layer.d_model)
    cost += Cost(masks=kept * layer.d_model)  # of the dropout on positions
    cost += encoder(layer.encoder, kept + 1)
    cost += _dense(layer.post_projection, kept + 1, layer.d_model)
    return Tower(grid, kept + 1, cost.frozen() if layer.frozen else cost)


@count.register
def _(layer: TextModel, shape: Shape, training: bool = False) -> Tower:
    tokens, width = shape[0] + (layer.aggregation is not None), layer.d_embedding
    cost = _dense(layer.pre_projection, tokens, width)
    if layer.pre_projection is not None:
        width = layer.pre_projection.units
    base, encoded = layer.base, None
    if isinstance(base, LinearBase):
        cost += product(tokens, width, base.d_model)
        cost += Cost(values=tokens * (width + base.d_model))
    else:
        if isinstance(base, BertEncoder):
            cost += Cost(masks=tokens * base.d_model)  # of the dropout on positions
            tokens += 1
        elif base.dropout_rate:
            cost += Cost(masks=tokens * base.d_model)
        cost += encoder(base.encoder, tokens)
        encoded = tokens
    cost += _dense(layer.post_projection, tokens, base.d_model)
    return Tower(shape, encoded, cost)


@count.register
def _(layer: WordTransformer, shape: Shape, training: bool = False) -> Tower:
    words, width = shape[0], layer.encoder.d_model
    cost = _dense(layer.pre_projection, words, layer.embedding.output_dim)
    cost += Cost(masks=words * width)  # of the dropout on positions
    cost += encoder(layer.encoder, words + 1)
    cost += _dense(layer.post_projection, words + 1, width)
    return Tower(shape, words + 1, cost)


def encoder(layer: Encoder, tokens: int) -> Cost:
    """Returns what an encoder costs for so many tokens."""
    cost = sum((encoder_block(block, tokens) for block in layer.blocks), Cost())
    if layer.final_norm is not None:
        cost += _norm(layer.final_norm, tokens * layer.d_model)
        cost += Cost(masks=tokens * layer.d_model * bool(layer.dropout_rate))
    return cost


def encoder_block(block: EncoderBlock, tokens: int) -> Cost:
    """Returns the cost of a layer on so many tokens."""
    attention, hidden = block.attention, block.feed_forward
    d_model, d_ff = attention.d_model, hidden.d_ff
    inner, dropped = attention.num_heads * attention.d_kv, bool(block.dropout_rate)
    late = bool(block.late_rate)
    pairs = tokens * tokens  # of query and key
    scores = attention.num_heads * pairs
    products = 4.0 * pairs * inner
    cost = Cost(products, 3 * products, products)
    if attention.v is None:
        cost += product(tokens, d_model, 2 * inner)
    else:
        cost += product(tokens, d_model, 3 * inner) + product(tokens, inner, d_model)
    cost += Cost(values=scores, masks=scores * dropped)
    cost += Cost(values=5 * tokens * inner)  # q, k, v, what they are mixed to, and that reordered
    gates = int(hidden.gate is not None)
    cost += product(tokens, d_model, (1 + gates) * d_ff) + product(tokens, d_ff, d_model)
    cost += Cost(values=tokens * d_ff * (1 + 2 * gates), masks=tokens * d_ff * late)
    cost += _activation(hidden.activation, tokens * d_ff)
    for norm, masked in ((block.attention_norm, dropped), (block.feed_forward_norm, late)):
        cost += _norm(norm, tokens * d_model)
        cost += Cost(values=tokens * d_model, masks=tokens * d_model * masked)  # result, dropout
    return cost


def _norm(layer: keras.layers.Layer, values: int) -> Cost:
    return Cost(float32=values * (2 if isinstance(layer, RMSNorm) else 1))


def _dense(layer: keras.layers.Dense | None, rows: int, inputs: int) -> Cost:
    if layer is None:
        return Cost()
    inner = _activation(layer.activation, rows * layer.units)
    return product(rows, inputs, layer.units) + Cost(values=rows * inputs) + inner


def _activation(function: Callable[[Tensor], Tensor], values: int) -> Cost:
    """Returns what an activation function keeps beside its result."""
    if function in (activations.gelu, activations.gelu_tanh):
        return Cost(values=2 * values, half=values)
    return Cost(values=values if function is activations.ACTIVATIONS["swish"] else 0)


def product(rows: int, inputs: int, outputs: int) -> Cost:
    operations = 2.0 * rows * inputs * outputs
    return Cost(operations, 3 * operations)


# Convolutional backbones -----------------------------------------------------------------------


@count.register
def _(layer: I3D, shape: Shape, training: bool = False) -> Tower:
    cost = Cost(values=math.prod(shape))
    for stage in layer.stages:
        if stage.name in POOLS:
            shape = _strided(shape, stage.strides)
            cost += Cost(values=math.prod(shape))
        else:
            added, shape = (_mixed if isinstance(stage, Mixed) else _conv)(stage, shape)
            cost += added
    return Tower(shape[:-1], None, cost.frozen() if layer.frozen else cost)


def _mixed(layer: Mixed, shape: Shape) -> tuple[Cost, Shape]:
    result = (*shape[:-1], layer.filters)
    cost = Cost(values=math.prod(shape) + math.prod(result))  # of pooling and concatenation
    first, second = (layer.b1_0, layer.b1_1), (layer.b2_0, layer.b2_1)
    for branch in ((layer.b0_0,), first, second, (layer.b3_1,)):
        cost += _convs(branch, shape)[0]
    return cost, result


@count.register
def _(layer: ResNet2D, shape: Shape, training: bool = False) -> Tower:
    cost = Cost(values=math.prod(shape))
    added, shape = _conv(layer.stem, shape)
    cost += added
    if layer.pool is not None:
        shape = _strided(shape, layer.pool.strides)
        cost += Cost(values=math.prod(shape))
    for index, group in enumerate(layer.groups):
        cost = cost.frozen() if index == layer.stop_gradient_point else cost
        for block in group.blocks:
            added, shape = _bottleneck(block, shape)
            cost += added
    nowhere = layer.frozen or layer.stop_gradient_point == len(layer.groups)
    return Tower(shape[:-1], None, cost.frozen() if nowhere else cost)


@count.register
def _(layer: BasicResNet, shape: Shape, training: bool = False) -> Tower:
    cost, shape = _convs(_units(layer.stem), shape)
    if layer.pools:
        cost += Cost(values=shape[-1] * math.prod(size + 2 for size in shape[:-1]))
        shape = _strided(shape, (2,) * (len(shape) - 1))
        cost += Cost(values=math.prod(shape))
    for block in layer.blocks:
        shortcut = Cost() if block.shortcut is None else _conv(block.shortcut, shape)[0]
        added, shape = _convs((*_units(block.conv1), *_units(block.conv2)), shape)
        cost += added + shortcut + Cost(values=math.prod(shape))
    if (last := getattr(layer, "pooling", None)) is not None:
        cost += pooling(last)
    return Tower(shape[:-1], None, cost.frozen() if layer.frozen else cost)


def _units(layer: ConvNorm | SpaceTimeConv) -> tuple[ConvNorm, ...]:
    return (layer.spatial, layer.temporal) if isinstance(layer, SpaceTimeConv) else (layer,)


def _bottleneck(block: Bottleneck, shape: Shape) -> tuple[Cost, Shape]:
    shortcut = Cost() if block.projection is None else _conv(block.projection, shape)[0]
    cost, shape = _convs((block.conv_0, block.conv_1, block.conv_2), shape)
    return cost + shortcut + Cost(values=math.prod(shape)), shape  # the result of the last relu


def _convs(layers: Iterable[ConvNorm], shape: Shape) -> tuple[Cost, Shape]:
    total = Cost()
    for layer in layers:
        cost, shape = _conv(layer, shape)
        total += cost
    return total, shape


def _conv(layer: ConvNorm, shape: Shape) -> tuple[Cost, Shape]:
    result = (*_strided(shape, layer.conv.strides)[:-1], layer.filters)
    volume = math.prod(layer.conv.kernel_size) * shape[-1]
    values = math.prod(result)
    kept = Cost(float32=values, values=values * layer.relu)
    if layer.padding is not None:
        pairs = zip(shape, layer.padding[1:], strict=True)
        kept += Cost(values=math.prod(size + sum(pair) for size, pair in pairs))
    return product(math.prod(result[:-1]), volume, layer.filters) + kept, result


def _strided(shape: Shape, strides: Shape) -> Shape:
    """Returns the shape after a 'same' operation with strides along all axes but the last."""
    sizes = (-(-size // step) for size, step in zip(shape[:-1], strides, strict=True))
    return (*sizes, shape[-1])


# Heads, classifier -----------------------------------------------------------------------------


def projection(head: ProjectionHead, features: int) -> Cost:
    """Returns the cost of a projection head on one clip."""
    width, total = features, Cost(float32=features)
    if head.hidden is not None:
        width = head.hidden.units
        total += product(1, features, width) + Cost(float32=3 * width)
    return total + product(1, width, head.last.units)


def pooling(layer: TemporalPooling) -> Cost:
    """Returns the cost of pooling one map."""
    return Cost() if layer.encoder is None else encoder(layer.encoder, layer.steps)


def classifier(features: int, classes: int) -> Cost:
    """Returns the cost of the classifier on one clip."""
    return product(1, features, classes) + Cost(float32=features + classes)
