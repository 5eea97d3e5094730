"""The backbone behind ViT, WaT and SpT, and behind the video and audio towers of the unified model.

Patches, positions, DropToken, aggregation token, encoder.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import keras
from keras import ops

from vatt import configs
from vatt.modeling.backbones.base import Backbone
from vatt.modeling.layers.base import LayerOptions, build_each
from vatt.modeling.layers.encoder import Encoder, EncoderOptions
from vatt.modeling.layers.positions import Positions
from vatt.modeling.layers.tokens import AggregationToken, PatchEmbedding, TokenMasking, drop_tokens
from vatt.modeling.random import Randomness, child
from vatt.modeling.typing import Features, Outputs, Shape, Tensor

_LAYER = re.compile(r"encoder/layer_(\d+)/")
_AFTER_LAYERS = ("encoder/final_norm/", "post_projection/")


@keras.saving.register_keras_serializable("vatt")
class PatchTransformer(Backbone):
    """A transformer over patches of a signal with one to three axes.

    Args:
      axes: names of the axes, slowest first.
      patch: patch size along each axis.
      stride: distance between patches along each axis.
      buckets: rows of the position table of each axis.
      encoder: options of the encoder, or an encoder that other towers share; the shared one is
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
        encoder: EncoderOptions | Mapping[str, Any] | Encoder,
        patch_sampling_rate: float = 1.0,
        mask_rate: float | None = None,
        pre_projection: str | None = None,
        post_projection: tuple[int, str | None] | None = None,
        frozen: bool = False,
        patch_init_std: float | None = None,
        first_axis_fastest: bool = False,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self._shares_encoder = isinstance(encoder, Encoder)
        if not self._shares_encoder:
            encoder = EncoderOptions.of(encoder)
        self.d_model = self.features_dim = encoder.d_model
        self.patch_sampling_rate = patch_sampling_rate
        self.num_buckets = math.prod(buckets)
        self.patches = PatchEmbedding(
            patch, stride, self.d_model, patch_init_std, name="patches", dtype=policy
        )
        self.masking = self.pre_projection = self.post_projection = None
        if mask_rate is not None:
            self.masking = TokenMasking(mask_rate, name="masking", dtype=policy)
        if pre_projection is not None:
            self.pre_projection = self._dense(self.d_model, "pre_projection", pre_projection)
        self.positions = Positions(
            axes, buckets, self.d_model, first_axis_fastest, name="positions", dtype=policy
        )
        self.aggregation = AggregationToken(name="aggregation", dtype=policy)
        if not self._shares_encoder:
            encoder = Encoder(encoder, name="encoder", dtype=policy)
        self.encoder = encoder
        if post_projection:
            self.features_dim, activation = post_projection
            self.post_projection = self._dense(self.features_dim, "post_projection", activation)
        if frozen:
            self.freeze()

    def build(self, input_shape: Shape) -> None:
        """Creates all variables for inputs `[batch, *axes, channels]`; only the channels matter."""
        self.patches.build(input_shape)
        encoder = None if self._shares_encoder else self.encoder
        parts = (self.masking, self.pre_projection, self.positions, self.aggregation)
        build_each((*parts, encoder, self.post_projection), (None, None, self.d_model))

    def layers_above(self, name: str) -> int:
        """Returns how many layers lie between a variable, by its path below here, and the end.

        What follows the last layer counts as a part of it.
        """
        if layer := _LAYER.match(name):
            return len(self.encoder.blocks) - int(layer[1])
        return 1 if name.startswith(_AFTER_LAYERS) else len(self.encoder.blocks) + 1

    def encode(
        self, x: Tensor, training: bool, rng: Randomness | None, intermediates: bool
    ) -> tuple[Features, Outputs]:
        """Encodes `x`, `[batch, *axes, channels]`; see `Backbone.call`.

        Returns:
          `features_pooled` `[batch, d]` (state of the aggregation token) and `features` `[batch,
          *grid, d]`, or `[batch, kept, d]` when tokens were dropped. As inner states `embeddings`
          (raw patch projection), `hidden_states_last` `[batch, 1 + tokens, d_model]`,
          `attention_weights` (list of `[batch, heads, 1 + tokens, 1 + tokens]`, empty without
          `intermediates`) and `random_mask`.
        """
        grid = self.patches.grid(x.shape)
        tokens, kept, inner = self._tokens(x, grid, training, rng)
        tokens = self.positions(
            tokens, grid=grid, kept=kept, training=training, rng=child(rng, "positions")
        )
        hidden, weights = self.encoder(
            self.aggregation(tokens),
            training=training,
            rng=child(rng, "encoder"),
            return_weights=intermediates,
        )
        final = hidden if self.post_projection is None else self.post_projection(hidden)
        features = final[:, 1:]
        if kept is None:
            features = ops.reshape(features, (-1, *grid, self.features_dim))
        inner |= {"hidden_states_last": hidden, "attention_weights": weights}
        return {"features_pooled": final[:, 0], "features": features}, inner

    def _tokens(
        self, x: Tensor, grid: tuple[int, ...], training: bool, rng: Randomness | None
    ) -> tuple[Tensor, Tensor | None, Outputs]:
        """Returns projected tokens, the indices kept (None for all) and inner states."""
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


def shared_arguments(
    config: configs.video.ViTBase | configs.audio.WaTBase | configs.audio.SpTBase,
) -> dict[str, Any]:
    """Returns the arguments of `PatchTransformer` that ViT, WaT and SpT configs have in common."""
    sampled = getattr(config, "random_patch_sampling", False)
    post = (config.d_post_proj, config.post_proj_activation) if config.post_projection else None
    return {
        "encoder": EncoderOptions.from_config(config),
        "patch_sampling_rate": config.patch_sampling_rate if sampled else 1.0,
        "mask_rate": config.mask_rate if config.use_masking else None,
        "pre_projection": (config.activation or "linear") if config.pre_projection else None,
        "post_projection": post,
        "frozen": config.freeze_backbone,
        "patch_init_std": getattr(config, "patch_init_std", None),
    }
