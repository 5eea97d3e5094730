"""The backbone behind ViT, WaT and SpT, and behind the video and audio towers of the unified model.

Patches, positions, DropToken, aggregation token, encoder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from vatt.modeling.layers import activations
from vatt.modeling.layers.base import ConfiguredLayer
from vatt.modeling.layers.encoder import Encoder
from vatt.modeling.layers.positions import Positions
from vatt.modeling.layers.tokens import AggregationToken, PatchEmbedding, TokenMasking, drop_tokens
from vatt.modeling.random import Randomness


@keras.saving.register_keras_serializable("vatt")
class PatchTransformer(ConfiguredLayer):
    """A transformer over patches of a signal with one to three axes.

    Args:
        axes: names of the axes, slowest first.
        patch: patch size along each axis.
        stride: distance between patches along each axis.
        buckets: rows of the position table of each axis.
        encoder: arguments of `Encoder`, or an encoder that other towers share; the shared one is
            built and saved by its owner.
        patch_sampling_rate: share of tokens kept in training (DropToken); 1 keeps all.
        mask_rate: share of tokens masked in training; None makes a model without mask embedding.
        pre_projection: activation of a dense layer after patching; None for no layer ('linear' for
            no activation).
        post_projection: (units, activation) of a dense layer on all final tokens; None for no
            layer.
        frozen: neither trained nor differentiated through.
        patch_init_std: of the patch projection; see `PatchEmbedding`.
        first_axis_fastest: order of the positions; see `Positions`.
    """

    def __init__(
        self,
        axes: Sequence[str],
        patch: Sequence[int],
        stride: Sequence[int],
        buckets: Sequence[int],
        encoder: dict[str, Any] | Encoder,
        patch_sampling_rate: float = 1.0,
        mask_rate: float | None = None,
        pre_projection: str | None = None,
        post_projection: Sequence[Any] | None = None,
        frozen: bool = False,
        patch_init_std: float | None = None,
        first_axis_fastest: bool = False,
        **kwargs: Any,
    ):
        shared = isinstance(encoder, Encoder)
        encoder = encoder if shared else dict(encoder)
        config = {"axes": tuple(axes), "patch": tuple(patch), "stride": tuple(stride)}
        config |= {"buckets": tuple(buckets), "encoder": encoder, "mask_rate": mask_rate}
        config |= {"patch_sampling_rate": patch_sampling_rate, "pre_projection": pre_projection}
        config |= {"patch_init_std": patch_init_std, "first_axis_fastest": first_axis_fastest}
        post_projection = tuple(post_projection) if post_projection else None
        super().__init__(
            config={**config, "post_projection": post_projection, "frozen": frozen}, **kwargs
        )
        self.d_model = encoder.d_model if shared else encoder["d_model"]
        self.patch_sampling_rate = patch_sampling_rate
        self.num_buckets = math.prod(buckets)
        self.frozen = frozen
        policy = self.dtype_policy

        def dense(units: int, activation: str, name: str) -> keras.layers.Dense:
            return keras.layers.Dense(units, activations.get(activation), name=name, dtype=policy)

        self.patches = PatchEmbedding(
            patch, stride, self.d_model, patch_init_std, name="patches", dtype=policy
        )
        self.masking = None
        if mask_rate is not None:
            self.masking = TokenMasking(mask_rate, name="masking", dtype=policy)
        self.pre_projection = None
        if pre_projection is not None:
            self.pre_projection = dense(self.d_model, pre_projection, "pre_projection")
        self.positions = Positions(
            axes, buckets, self.d_model, first_axis_fastest, name="positions", dtype=policy
        )
        self.aggregation = AggregationToken(name="aggregation", dtype=policy)
        self.encoder = encoder if shared else Encoder(**encoder, name="encoder", dtype=policy)
        self._shares_encoder = shared
        self.post_projection = None
        if post_projection is not None:
            self.post_projection = dense(*post_projection, "post_projection")
        self.features_dim = post_projection[0] if post_projection else self.d_model
        if frozen:
            self.trainable = False

    def build(self, input_shape: tuple) -> None:
        """Creates all variables for inputs `[batch, *axes, channels]`; only the channels matter."""
        tokens = (None, None, self.d_model)
        self.patches.build(input_shape)
        own = [self.masking, self.pre_projection, self.positions, self.aggregation]
        own += [] if self._shares_encoder else [self.encoder]
        for layer in own:
            if layer is not None:
                layer.build(tokens)
        if self.post_projection is not None:
            self.post_projection.build(tokens)

    def call(
        self,
        x: Any,
        training: bool = False,
        rng: Randomness | None = None,
        intermediates: bool = False,
    ) -> dict[str, Any]:
        """Encodes `x`, `[batch, *axes, channels]`.

        Returns:
            `features_pooled` `[batch, d]` (state of the aggregation token); `features` `[batch,
            *grid, d]`, or `[batch, kept, d]` when tokens were dropped. With `intermediates` also
            `embeddings` (raw patch projection), `hidden_states_last` `[batch, 1 + tokens,
            d_model]`, `attention_weights` (list of `[batch, heads, 1 + tokens, 1 + tokens]`) and
            `random_mask`.
        """
        training = training and not self.frozen
        grid = self.patches.grid(x.shape)
        tokens, kept, more = self._tokens(x, grid, training, rng)
        tokens = self.positions(
            tokens, grid=grid, kept=kept, training=training, rng=_below(rng, "positions")
        )
        hidden, weights = self.encoder(
            self.aggregation(tokens), training=training, rng=_below(rng, "encoder")
        )
        final = hidden if self.post_projection is None else self.post_projection(hidden)
        if self.frozen:
            final = ops.stop_gradient(final)
        features = final[:, 1:]
        if kept is None:
            features = ops.reshape(features, (-1, *grid, self.features_dim))
        outputs = {"features_pooled": final[:, 0], "features": features}
        if intermediates:
            outputs |= more | {"hidden_states_last": hidden, "attention_weights": weights}
        return outputs

    def _tokens(
        self, x: Any, grid: tuple[int, ...], training: bool, rng: Randomness | None
    ) -> tuple[Any, Any, dict[str, Any]]:
        """Returns projected tokens, the indices kept (None for all) and intermediates."""
        kept = None
        if training:
            kept = drop_tokens(math.prod(grid), self.num_buckets, self.patch_sampling_rate, rng)
        if self.masking is None or not training:
            tokens = embeddings = self.patches(x, kept=kept)  # dropped patches are never projected
            mask = ops.ones(ops.shape(tokens)[:2], dtype="float32")
        else:
            # Masking may put any token of the batch anywhere, so here all are projected first.
            embeddings = self.patches(x)
            tokens, mask = self.masking(embeddings, rng=rng)
            tokens = tokens if kept is None else ops.take(tokens, kept, axis=1)
        if self.pre_projection is not None:
            tokens = self.pre_projection(tokens)
        return tokens, kept, {"embeddings": embeddings, "random_mask": mask}


def _below(rng: Randomness | None, name: str) -> Randomness | None:
    return None if rng is None else rng.child(name)


def encoder_arguments(config: Any) -> dict[str, Any]:
    """Returns the arguments of `Encoder` a backbone config holds."""
    fields = ("num_layers", "d_model", "num_heads", "d_kv", "d_ff", "activation")
    fields += ("pre_norm", "use_bias", "dropout_rate", "layer_norm_epsilon")
    return {field: getattr(config, field) for field in fields}


def shared_arguments(config: Any) -> dict[str, Any]:
    """Returns the arguments of `PatchTransformer` that ViT, WaT and SpT configs have in common."""
    sampled = getattr(config, "random_patch_sampling", False)
    post = (config.d_post_proj, config.post_proj_activation) if config.post_projection else None
    return {
        "encoder": encoder_arguments(config),
        "patch_sampling_rate": config.patch_sampling_rate if sampled else 1.0,
        "mask_rate": config.mask_rate if config.use_masking else None,
        "pre_projection": (config.activation or "linear") if config.pre_projection else None,
        "post_projection": post,
        "frozen": config.freeze_backbone,
        "patch_init_std": getattr(config, "patch_init_std", None),
    }
