"""The transformer encoder: one block for pre- and post-norm, either norm, any feed-forward."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Self, Unpack

import keras

from vatt.configs.base import Config
from vatt.modeling.layers import activations, gradients, norm
from vatt.modeling.layers.attention import Attention
from vatt.modeling.layers.base import ConfiguredLayer, LayerOptions, build_each
from vatt.modeling.layers.dropout import dropout, left_out
from vatt.modeling.random import Randomness, child
from vatt.modeling.typing import Shape, Tensor


@dataclasses.dataclass(frozen=True)
class EncoderOptions:
    """What an encoder is like: the one list of its fields and their defaults.

    Attributes:
      num_layers: number of blocks.
      d_model: width of the tokens.
      num_heads, d_kv, scaled, project_values: see `Attention`.
      d_ff, activation: see `FeedForward`.
      pre_norm: norms come before attention and feed-forward, and one after the last block; else
        after the residual connections.
      use_bias: whether projections have biases.
      dropout_rate: of all dropout inside.
      attention_dropout: of that on attention weights; None as the rest.
      feed_forward_dropout: whether dropout is also inside and after the feed-forward part.
      layer_norm_epsilon: of all norms inside.
      attention_norm: 'layer' or 'rms'; the norm of the feed-forward part is always a layer norm,
        as published.
      feed_forward_bias_std: standard deviation of the first biases of the feed-forward part.
      final_norm: whether pre-norm stacks end with a norm.
      stochastic_depth: share of the rows for which, in training, the last block leaves out what its
        attention would add, and what its feed-forward part would; of the blocks before it less, of
        the first none.
      scaled_depth: what is added to the other rows is scaled up; AV-MAE published it without.
    """

    num_layers: int
    d_model: int
    num_heads: int
    d_kv: int
    d_ff: int
    activation: str | None = "gelu"
    pre_norm: bool = True
    use_bias: bool = True
    dropout_rate: float = 0.0
    layer_norm_epsilon: float = 1e-6
    attention_norm: str = "layer"
    scaled: bool = True
    project_values: bool = True
    feed_forward_dropout: bool = True
    feed_forward_bias_std: float = 0.0
    final_norm: bool = True
    stochastic_depth: float = 0.0
    scaled_depth: bool = False
    attention_dropout: float | None = None

    @classmethod
    def of(cls, given: EncoderOptions | Mapping[str, Any]) -> EncoderOptions:
        """Returns options as they are, or made from the mapping that `get_config` of layers has."""
        return given if isinstance(given, EncoderOptions) else cls(**given)

    @classmethod
    def from_config(cls, config: Config, **changes: Any) -> Self:
        """Returns the options a backbone's configuration has, and `changes`.

        Fields that the configuration lacks get their default.
        """
        names = {field.name for field in dataclasses.fields(cls)} - changes.keys()
        found = {name: getattr(config, name) for name in names if hasattr(config, name)}
        return cls(**found, **changes)


@keras.saving.register_keras_serializable("vatt")
class FeedForward(ConfiguredLayer):
    """`dropout(activation(x wi)) wo`; 'geglu' is `dropout(gelu(x wi_0) * (x wi_1)) wo`."""

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        activation: str | None = "gelu",
        use_bias: bool = True,
        dropout_rate: float = 0.0,
        bias_std: float = 0.0,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        self.d_ff = d_ff
        self.activation = activations.get(activation)
        self.gated = activation == activations.GATED
        self.dropout_rate = dropout_rate
        self.wi = self._dense(d_ff, "wi_0" if self.gated else "wi", use_bias=use_bias)
        self.gate = self._dense(d_ff, "wi_1", use_bias=use_bias) if self.gated else None
        self.wo = self._dense(d_model, "wo", use_bias=use_bias)
        if bias_std:
            for layer in filter(None, (self.wi, self.gate, self.wo)):
                layer.bias_initializer = keras.initializers.RandomNormal(stddev=bias_std)

    def build(self, input_shape: Shape) -> None:
        """Creates the kernels for inputs `[batch, tokens, features]`."""
        build_each((self.wi, self.gate), input_shape)
        self.wo.build((*input_shape[:-1], self.d_ff))

    def call(self, x: Tensor, training: bool = False, rng: Randomness | None = None) -> Tensor:
        """Maps `x`, `[batch, tokens, features]`, to `[batch, tokens, d_model]`."""
        hidden = self.activation(self.wi(x))
        if self.gate is not None:
            hidden = hidden * self.gate(x)
        return self.wo(
            dropout(hidden, self.dropout_rate, training=training, rng=rng, name="hidden")
        )


@keras.saving.register_keras_serializable("vatt")
class EncoderBlock(ConfiguredLayer):
    """Attention and feed-forward, each with a residual connection, dropout and a norm.

    Pre-norm: `y = x + attention(norm(x))`, `z = y + feed_forward(norm(y))`.
    Post-norm: `y = norm(x + attention(x))`, `z = norm(y + feed_forward(y))`.

    Args:
      options: of the stack.
      index: place in it, from 0.
    """

    def __init__(
        self,
        options: EncoderOptions | Mapping[str, Any],
        index: int = 0,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        options = EncoderOptions.of(options)
        self.pre_norm, self.dropout_rate = options.pre_norm, options.dropout_rate
        self.left_out = options.stochastic_depth * index / max(options.num_layers - 1, 1)
        self.scaled_depth = options.scaled_depth
        attention_dropout = options.attention_dropout
        self.late_rate = options.dropout_rate if options.feed_forward_dropout else 0.0
        norms = {"epsilon": options.layer_norm_epsilon, "dtype": self.dtype_policy}
        common = {"use_bias": options.use_bias, "dtype": self.dtype_policy}
        self.attention_norm = norm.make(options.attention_norm, name="attention_norm", **norms)
        self.attention = Attention(
            options.d_model,
            options.num_heads,
            options.d_kv,
            scaled=options.scaled,
            dropout_rate=self.dropout_rate if attention_dropout is None else attention_dropout,
            project_values=options.project_values,
            name="attention",
            **common,
        )
        self.feed_forward_norm = norm.make("layer", name="feed_forward_norm", **norms)
        self.feed_forward = FeedForward(
            options.d_model,
            options.d_ff,
            options.activation,
            dropout_rate=self.late_rate,
            bias_std=options.feed_forward_bias_std,
            name="feed_forward",
            **common,
        )

    def build(self, input_shape: Shape) -> None:
        """Builds all parts for inputs `[batch, tokens, d_model]`."""
        parts = (self.attention_norm, self.attention, self.feed_forward_norm, self.feed_forward)
        build_each(parts, input_shape)

    def call(
        self,
        x: Tensor,
        bias: Tensor | None = None,
        training: bool = False,
        rng: Randomness | None = None,
        return_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the new states `[batch, tokens, d_model]` and what attention returns beside."""

        def drop(values: Tensor, rate: float, name: str) -> Tensor:
            values = dropout(values, rate, training=training, rng=rng, name=name)
            place = {"training": training, "rng": rng, "name": name}
            return left_out(values, self.left_out, scaled=self.scaled_depth, **place)

        attended, weights = self.attention(
            self.attention_norm(x) if self.pre_norm else x,
            bias=bias,
            training=training,
            rng=child(rng, "attention"),
            return_weights=return_weights,
        )
        x = x + drop(attended, self.dropout_rate, "attended")
        if not self.pre_norm:
            x = self.attention_norm(x)
        changed = self.feed_forward(
            self.feed_forward_norm(x) if self.pre_norm else x,
            training=training,
            rng=child(rng, "feed_forward"),
        )
        x = x + drop(changed, self.late_rate, "changed")
        return (x if self.pre_norm else self.feed_forward_norm(x)), weights


_recomputed = contextvars.ContextVar("recomputed", default=False)


@contextlib.contextmanager
def recomputed(wanted: bool = True) -> Iterator[None]:
    """Within it, blocks that are traced for training keep their inputs alone.

    The backward pass computes them once more, with the same masks (Chen et al., 2016, "Training
    Deep Nets with Sublinear Memory Cost").
    """
    token = _recomputed.set(wanted)
    try:
        yield
    finally:
        _recomputed.reset(token)


def run_block(
    block: EncoderBlock,
    x: Tensor,
    training: bool,
    rng: Randomness | None,
    bias: Tensor | None = None,
) -> Tensor:
    """Returns the new states of a block, `[batch, tokens, d_model]`, computed as `recomputed` says.

    Its draws are those of the place `rng`.
    """
    options = {"training": training, "rng": rng}
    if not (training and _recomputed.get()):
        return block(x, bias=bias, **options)[0]

    def run(x: Tensor, bias: Tensor | None = None) -> Tensor:
        return block(x, bias=bias, **options)[0]

    # What has a gradient is given as an argument; no others, as None is no tensor.
    return keras.remat(run)(*((x,) if bias is None else (x, bias)))


@keras.saving.register_keras_serializable("vatt")
class Encoder(ConfiguredLayer):
    """A stack of blocks; pre-norm stacks end with a norm and dropout."""

    def __init__(self, options: EncoderOptions | Mapping[str, Any], **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        options = EncoderOptions.of(options)
        self.d_model, self.dropout_rate = options.d_model, options.dropout_rate
        self.blocks = [
            EncoderBlock(options, i, name=f"layer_{i}", dtype=self.dtype_policy)
            for i in range(options.num_layers)
        ]
        self.final_norm = None
        if options.pre_norm and options.final_norm:
            self.final_norm = norm.make(
                options.attention_norm,
                epsilon=options.layer_norm_epsilon,
                name="final_norm",
                dtype=self.dtype_policy,
            )

    def build(self, input_shape: Shape) -> None:
        """Builds every block for inputs `[batch, tokens, d_model]`."""
        build_each((*self.blocks, self.final_norm), input_shape)

    def call(
        self,
        x: Tensor,
        bias: Tensor | None = None,
        training: bool = False,
        rng: Randomness | None = None,
        return_weights: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """Returns the last states and each block's attention probabilities, if asked for.

        Args:
          x: states `[batch, tokens, d_model]`, as those returned.
          bias: of the scores in every block, see `Attention.call`.
          training: whether dropout is active.
          rng: source of the dropout masks.
          return_weights: fill the list, one `[batch, heads, tokens, tokens]` for each block.
        """
        with gradients.only_if(training):
            return self._run(x, bias, training, rng, return_weights)

    def _run(
        self,
        x: Tensor,
        bias: Tensor | None,
        training: bool,
        rng: Randomness | None,
        return_weights: bool,
    ) -> tuple[Tensor, list[Tensor]]:
        weights = []
        for block in self.blocks:
            place = child(rng, block.name)
            if not return_weights:
                x = run_block(block, x, training, place, bias)
                continue
            x, of_block = block(x, bias=bias, training=training, rng=place, return_weights=True)
            weights.append(of_block)
        if self.final_norm is not None:
            x = self.final_norm(x)
            x = dropout(x, self.dropout_rate, training=training, rng=rng, name="final")
        return x, weights
