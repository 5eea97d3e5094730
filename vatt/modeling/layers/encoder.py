"""The transformer encoder: one block for pre- and post-norm, either norm, any feed-forward."""

from __future__ import annotations

from typing import Any

import keras

from vatt.modeling.layers import activations, norm
from vatt.modeling.layers.attention import Attention
from vatt.modeling.layers.base import ConfiguredLayer
from vatt.modeling.layers.dropout import dropout
from vatt.modeling.random import Randomness


@keras.saving.register_keras_serializable("vatt")
class FeedForward(ConfiguredLayer):
    """`dropout(activation(x wi)) wo`; 'geglu' is `dropout(gelu(x wi_0) * (x wi_1)) wo`."""

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        activation: str = "gelu",
        use_bias: bool = True,
        dropout_rate: float = 0.0,
        **kwargs: Any,
    ):
        config = {"d_model": d_model, "d_ff": d_ff, "activation": activation, "use_bias": use_bias}
        super().__init__(config={**config, "dropout_rate": dropout_rate}, **kwargs)
        self.d_ff = d_ff
        self.activation = activations.get(activation)
        self.gated = activation == activations.GATED
        self.dropout_rate = dropout_rate

        def dense(units: int, name: str) -> keras.layers.Dense:
            return keras.layers.Dense(units, use_bias=use_bias, name=name, dtype=self.dtype_policy)

        self.wi = dense(d_ff, "wi_0" if self.gated else "wi")
        self.gate = dense(d_ff, "wi_1") if self.gated else None
        self.wo = dense(d_model, "wo")

    def build(self, input_shape: tuple) -> None:
        """Creates the kernels for inputs `[batch, tokens, features]`."""
        self.wi.build(input_shape)
        if self.gate is not None:
            self.gate.build(input_shape)
        self.wo.build((*input_shape[:-1], self.d_ff))

    def call(self, x: Any, training: bool = False, rng: Randomness | None = None) -> Any:
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
    `attention_norm` is 'layer' or 'rms'; the norm of the feed-forward part is always a layer norm,
    as published.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_kv: int,
        d_ff: int,
        activation: str = "gelu",
        pre_norm: bool = True,
        use_bias: bool = True,
        dropout_rate: float = 0.0,
        layer_norm_epsilon: float = 1e-6,
        attention_norm: str = "layer",
        scaled: bool = True,
        **kwargs: Any,
    ):
        config = {"d_model": d_model, "num_heads": num_heads, "d_kv": d_kv, "d_ff": d_ff}
        config |= {"activation": activation, "pre_norm": pre_norm, "use_bias": use_bias}
        config |= {"dropout_rate": dropout_rate, "layer_norm_epsilon": layer_norm_epsilon}
        super().__init__(
            config={**config, "attention_norm": attention_norm, "scaled": scaled}, **kwargs
        )
        self.pre_norm = pre_norm
        self.dropout_rate = dropout_rate
        common = {"use_bias": use_bias, "dropout_rate": dropout_rate, "dtype": self.dtype_policy}
        norms = {"epsilon": layer_norm_epsilon, "dtype": self.dtype_policy}
        self.attention_norm = norm.make(attention_norm, name="attention_norm", **norms)
        self.attention = Attention(
            d_model, num_heads, d_kv, scaled=scaled, name="attention", **common
        )
        self.feed_forward_norm = norm.make("layer", name="feed_forward_norm", **norms)
        self.feed_forward = FeedForward(d_model, d_ff, activation, name="feed_forward", **common)

    def build(self, input_shape: tuple) -> None:
        """Builds all parts for inputs `[batch, tokens, d_model]`."""
        for layer in (
            self.attention_norm,
            self.attention,
            self.feed_forward_norm,
            self.feed_forward,
        ):
            layer.build(input_shape)

    def call(
        self, x: Any, bias: Any = None, training: bool = False, rng: Randomness | None = None
    ) -> tuple[Any, Any]:
        """Returns the new states `[batch, tokens, d_model]` and the attention probabilities."""

        def drop(values: Any, name: str) -> Any:
            return dropout(values, self.dropout_rate, training=training, rng=rng, name=name)

        below = rng.child("attention") if rng is not None else None
        attended, weights = self.attention(
            self.attention_norm(x) if self.pre_norm else x, bias=bias, training=training, rng=below
        )
        x = x + drop(attended, "attended")
        if not self.pre_norm:
            x = self.attention_norm(x)
        below = rng.child("feed_forward") if rng is not None else None
        changed = self.feed_forward(
            self.feed_forward_norm(x) if self.pre_norm else x, training=training, rng=below
        )
        x = x + drop(changed, "changed")
        return (x if self.pre_norm else self.feed_forward_norm(x)), weights


@keras.saving.register_keras_serializable("vatt")
class Encoder(ConfiguredLayer):
    """A stack of `num_layers` blocks; pre-norm stacks end with a norm and dropout.

    Takes the arguments of `EncoderBlock` besides `num_layers`.
    """

    def __init__(
        self,
        num_layers: int,
        d_model: int,
        dropout_rate: float = 0.0,
        pre_norm: bool = True,
        layer_norm_epsilon: float = 1e-6,
        attention_norm: str = "layer",
        num_heads: int = 1,
        d_kv: int = 64,
        d_ff: int = 1,
        activation: str = "gelu",
        use_bias: bool = True,
        scaled: bool = True,
        **kwargs: Any,
    ):
        block = {"d_model": d_model, "num_heads": num_heads, "d_kv": d_kv, "d_ff": d_ff}
        block |= {"activation": activation, "pre_norm": pre_norm, "use_bias": use_bias}
        block |= {"dropout_rate": dropout_rate, "layer_norm_epsilon": layer_norm_epsilon}
        block |= {"attention_norm": attention_norm, "scaled": scaled}
        super().__init__(config={**block, "num_layers": num_layers}, **kwargs)
        self.d_model, self.dropout_rate = d_model, dropout_rate
        self.blocks = [
            EncoderBlock(**block, name=f"layer_{i}", dtype=self.dtype_policy)
            for i in range(num_layers)
        ]
        self.final_norm = None
        if pre_norm:
            self.final_norm = norm.make(
                attention_norm,
                epsilon=layer_norm_epsilon,
                name="final_norm",
                dtype=self.dtype_policy,
            )

    def build(self, input_shape: tuple) -> None:
        """Builds every block for inputs `[batch, tokens, d_model]`."""
        for block in self.blocks:
            block.build(input_shape)
        if self.final_norm is not None:
            self.final_norm.build(input_shape)

    def call(
        self, x: Any, bias: Any = None, training: bool = False, rng: Randomness | None = None
    ) -> tuple[Any, list[Any]]:
        """Returns the last states `[batch, tokens, d_model]` and each layer's attention weights."""
        weights = []
        for block in self.blocks:
            below = rng.child(block.name) if rng is not None else None
            x, layer_weights = block(x, bias=bias, training=training, rng=below)
            weights.append(layer_weights)
        if self.final_norm is not None:
            x = self.final_norm(x)
            x = dropout(x, self.dropout_rate, training=training, rng=rng, name="final")
        return x, weights
