"""AV-MAE's model: visible tokens of each modality are encoded, all are predicted by a decoder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import keras
from keras import ops

from vatt.configs.transformers import Encoder as EncoderConfig
from vatt.methods.av_mae import published, targets
from vatt.methods.av_mae.config import (
    EARLY,
    JOINT_DECODER,
    MID,
    OWN_DECODERS,
    SEPARATE,
    SHARED,
    ModelConfig,
)
from vatt.methods.av_mae.masks import Mask, tube
from vatt.methods.av_mae.objective import SQUARES
from vatt.methods.av_mae.parts import PatchDecoder, TokenTower
from vatt.modeling import flops
from vatt.modeling.layers.encoder import Encoder, EncoderOptions
from vatt.modeling.layers.tokens import take_each
from vatt.modeling.pretraining import Features, PretrainingModel
from vatt.modeling.random import Randomness, child, require
from vatt.modeling.typing import DType, Tensor

MLP_BIAS_STD = 1e-6
Tokens = dict[str, Tensor]  # [rows, tokens, d] by modality


class MaskedAutoencoder(PretrainingModel):
    """An encoder of visible patches of video, sound or both, and a decoder of all patches.

    Args:
      config: encoder, decoder and masks.
      dtype: 'float32' or 'mixed_bfloat16'.
    """

    read_in_training = ("predicted", "masked")
    published_tokens = published.MODALITIES

    def __init__(self, config: ModelConfig, dtype: DType = "float32"):
        super().__init__(name=config.model_name, dtype=dtype)
        self.config, self.modalities = config, config.modalities
        strategy, decoder = config.encoder_strategy, config.decoder_config
        own = self._options(config, config.separate_layers)
        for modality in self.modalities:
            tower = TokenTower(
                config.patch(modality),
                config.d_model,
                encoder=own if strategy in (SEPARATE, MID) else None,
                learned_positions=config.positional_embedding == "learned_1d",
                modality_vector=config.use_modality_tokens,
                masked=config.mask(modality),
                name=modality,
                dtype=self.dtype_policy,
            )
            setattr(self, modality, tower)
        # Of all modalities; in training, one after the other or as one sequence.
        self.encoder = self.fusion = self.decoder = None
        if strategy in (EARLY, SHARED):
            self.encoder = Encoder(own, name="encoder", dtype=self.dtype_policy)
        if strategy == MID:
            options = self._options(config, config.fusion_layers)
            self.fusion = Encoder(options, name="fusion", dtype=self.dtype_policy)
        predicting = self._options(decoder, decoder.num_layers)
        each = config.decoder_strategy == OWN_DECODERS
        if not each:
            self.decoder = Encoder(predicting, name="decoder", dtype=self.dtype_policy)
        for modality in self.modalities:
            channels = 3 if modality == "video" else 1
            layer = PatchDecoder(
                decoder.d_model,
                targets.size(config.patch(modality), channels, config.loss_config),
                decoder=predicting if each else None,
                projection_bias=config.use_projection_bias,
                first_output=config.init_head_bias,
                learned_positions=decoder.positional_embedding == "learned_1d",
                modality_vector=config.use_modality_tokens,
                name=f"{modality}_decoder",
                dtype=self.dtype_policy,
            )
            setattr(self, f"{modality}_decoder", layer)

    def _options(self, config: EncoderConfig, layers: int) -> EncoderOptions:
        return EncoderOptions.from_config(
            config,
            num_layers=layers,
            feed_forward_bias_std=MLP_BIAS_STD,
            final_norm=self.config.normalise_encoder_output,
        )

    def build(self, shapes: Mapping[str, Sequence[int | None]]) -> None:
        """Creates every variable; `shapes` are those of an example, by modality."""
        super().build(shapes)
        width = self.config.d_model
        for modality in self.modalities:
            tokens = self.backbone(modality).positions.count
            self.head(modality).build((None, tokens, width))
        for layer in filter(None, (self.encoder, self.fusion)):
            layer.build((None, None, width))
        if self.decoder is not None:
            self.decoder.build((None, None, self.config.decoder_config.d_model))

    def head(self, modality: str) -> PatchDecoder:
        """Returns what a decoder needs of its own for a modality."""
        return getattr(self, f"{modality}_decoder")

    def tower_paths(self) -> dict[str, dict[str, str]]:
        """Returns, by modality, where the variables of its encoder stand.

        Layers of an encoder count from 0; those that modalities share in the end count on.
        """
        found = {}
        for modality in self.modalities:
            paths = {"": f"{self.backbone(modality).path}/"}
            if self.encoder is not None:
                paths["encoder/"] = f"{self.encoder.path}/"
            if self.fusion is not None:
                paths["encoder/final_norm/"] = f"{self.fusion.path}/final_norm/"
                for layer in range(self.config.fusion_layers):
                    above = self.config.separate_layers + layer
                    paths[f"encoder/layer_{above}/"] = f"{self.fusion.path}/layer_{layer}/"
            found[modality] = paths
        return found

    # Passes --------------------------------------------------------------------------------------

    def towers(
        self, inputs: Mapping[str, Tensor], training: bool = False, rng: Randomness | None = None
    ) -> Features:
        """Returns by modality, in training `predicted` and `masked` of all its tokens.

        Else `features`, all tokens encoded with nothing masked, and their mean `features_pooled`.
        Modalities that see one another give other features together than alone.
        """
        given = [m for m in self.modalities if m in inputs]
        if training:
            return self.reconstruct(inputs, self.masks(inputs, rng), rng)
        encoded = self.encode({m: self.backbone(m)(inputs[m]) for m in given})
        return {
            m: {"features_pooled": ops.mean(tokens, axis=1), "features": tokens}
            for m, tokens in encoded.items()
        }

    def masks(self, inputs: Mapping[str, Tensor], rng: Randomness | None) -> dict[str, Mask]:
        """Draws the masks of a step, for these rows."""
        rng, found = require(rng, "masking").child("masks"), {}
        for modality in self.modalities:
            x, share = inputs[modality], self.config.mask(modality)
            steps, *beside = self.backbone(modality).embedding.grid(x.shape)
            place, rows = rng.child(modality), ops.shape(x)[0]
            if self.config.masking_strategy == "tube":
                order = place.permutations(rows, math.prod(beside))
                found[modality] = tube(order, int(share * math.prod(beside)), steps)
            else:
                tokens = steps * math.prod(beside)
                found[modality] = Mask(place.permutations(rows, tokens), int(share * tokens))
        return found

    def encode(
        self, tokens: Tokens, training: bool = False, rng: Randomness | None = None
    ) -> Tokens:
        """Returns the states of the tokens of each modality after the last layer."""

        def run(layer: Encoder, x: Tensor, name: str) -> Tensor:
            return layer(x, training=training, rng=child(child(rng, "encoder"), name))[0]

        strategy = self.config.encoder_strategy
        if strategy == SHARED:
            return {m: run(self.encoder, x, m) for m, x in tokens.items()}
        if strategy == EARLY:
            return _as_one(tokens, lambda x: run(self.encoder, x, "all"))
        encoded = {m: run(self.backbone(m).encoder, x, m) for m, x in tokens.items()}
        if strategy == MID:
            return _as_one(encoded, lambda x: run(self.fusion, x, "all"))
        return encoded

    def decode(
        self, tokens: Tokens, training: bool = False, rng: Randomness | None = None
    ) -> Tokens:
        """Returns what the tokens of each modality predict."""

        def run(layer: Encoder, x: Tensor, name: str) -> Tensor:
            return layer(x, training=training, rng=child(child(rng, "decoder"), name))[0]

        if self.config.decoder_strategy == JOINT_DECODER:
            decoded = _as_one(tokens, lambda x: run(self.decoder, x, "all"))
        else:
            decoded = {
                m: run(self.decoder or self.head(m).decoder, x, m) for m, x in tokens.items()
            }
        return {m: self.head(m).output_layer(x) for m, x in decoded.items()}

    def reconstruct(
        self,
        inputs: Mapping[str, Tensor],
        masks: Mapping[str, Mask],
        rng: Randomness | None = None,
        shuffles: Mapping[str, Tensor] | None = None,
        training: bool = True,
    ) -> Features:
        """Returns `predicted` `[rows, tokens, values]` and `masked` `[rows, tokens]` by modality.

        Args:
          inputs: clips.
          masks: of their tokens; only those that are visible are embedded and encoded.
          rng: source of dropout, and of shuffles where they are not given.
          shuffles: where each token of a modality goes, int32 `[rows, tokens]`.
          training: whether dropout is active.
        """
        visible = {m: self.backbone(m)(inputs[m], masks[m].visible) for m in self.modalities}
        encoded = self.encode(visible, training=training, rng=rng)
        projected = {m: self.head(m).projection(x) for m, x in encoded.items()}
        if self.config.use_inpainting:
            tokens, flags = self._inpainted(projected, rng, shuffles)
        else:
            tokens = {
                m: self.head(m).placed(masks[m].filled(x, self.head(m).mask_token))
                for m, x in projected.items()
            }
            flags = {m: mask.flags for m, mask in masks.items()}
        found = self.decode(tokens, training=training, rng=rng)
        return {m: {"predicted": found[m], "masked": flags[m]} for m in self.modalities}

    def _inpainted(
        self, projected: Tokens, rng: Randomness | None, shuffles: Mapping[str, Tensor] | None
    ) -> tuple[Tokens, Tokens]:
        """Returns sequences that begin with the visible tokens of the other modality, and flags."""
        tokens, flags = {}, {}
        for modality, other in zip(self.modalities, reversed(self.modalities), strict=True):
            given, head = projected[other], self.head(modality)
            rows, count = ops.shape(given)[0], self.backbone(modality).positions.count
            places = ops.broadcast_to(ops.arange(count, dtype="int32")[None], (rows, count))
            masked = count - given.shape[1]
            order = ops.concatenate([places[:, given.shape[1] :], places[:, : given.shape[1]]], 1)
            mask = Mask(order, masked)
            tokens[modality] = head.placed(mask.filled(given, head.mask_token))
            flags[modality] = mask.flags
            if self.config.shuffle_inpainted_tokens:
                to = (shuffles or {}).get(modality)
                if to is None:
                    place = require(rng, "shuffling").child("shuffle").child(modality)
                    to = place.permutations(rows, count)
                back = ops.cast(ops.argsort(to, axis=-1), "int32")
                tokens[modality] = take_each(tokens[modality], back)
                flags[modality] = take_each(flags[modality][..., None], back)[..., 0]
        return tokens, flags

    def train_outputs(
        self, features: Features, rng: Randomness | None = None
    ) -> dict[str, dict[str, Tensor]]:
        """Returns predictions and masks, and the squares of all weights where they decay so."""
        if not self.config.loss_config.l2_decay_factor:
            return features
        squares = sum(ops.sum(ops.square(v)) for v in self.trainable_variables)
        return {**features, SQUARES: {"sum": squares}}

    # Pictures ------------------------------------------------------------------------------------

    @property
    def reconstruction_notes(self) -> tuple[str, ...]:
        """What has to be said of `reconstructions`."""
        found, options = [], self.config.loss_config
        if options.standardise_per_patch or options.standardise_per_patch_channels:
            found.append(
                "Targets are normalised patch by patch: predictions are shown with the mean and the"
                " standard deviation of the true patch, which the model is not asked for."
            )
        if self.config.use_inpainting:
            found.append(
                "Each modality is predicted from the visible patches of the other one, which stand"
                " in the first places of its sequence: there nothing is predicted."
            )
        if options.reconstruct_grayscale:
            found.append("Pictures are predicted without colours, and shown so.")
        return tuple(found)

    def reconstructions(
        self, inputs: Mapping[str, Tensor], rng: Randomness
    ) -> dict[str, dict[str, Tensor]]:
        """Returns what masked clips become; see `PretrainingModel.reconstructions`.

        Of the frames of a patch the middle one is shown.
        """
        masks = self.masks(inputs, rng)
        features = self.reconstruct(inputs, masks, rng, training=False)
        found = {}
        for modality, outputs in features.items():
            x, patch = ops.cast(inputs[modality], "float32"), self.config.patch(modality)
            grid = self.backbone(modality).embedding.grid(x.shape)

            def joined(values: Tensor, channels: int, grid=grid, patch=patch) -> Tensor:
                return targets.picture(values, grid, patch, channels)

            def spread(flags: Tensor, patch=patch) -> Tensor:
                return ops.repeat(flags[..., None], math.prod(patch[-2:]), axis=-1)

            options, channels = self.config.loss_config, x.shape[-1]
            predicted = targets.restored(outputs["predicted"], x, patch, options)
            found[modality] = {
                "given": joined(targets.raw(x, patch, options), channels),
                "predicted": joined(predicted, channels),
                "seen": joined(spread(1.0 - masks[modality].flags), 1),
                "masked": joined(spread(outputs["masked"]), 1),
            }
        return found

    # Costs ---------------------------------------------------------------------------------------

    def joint_cost(self, shapes: Mapping[str, tuple[int, ...]]) -> flops.Cost:
        """Returns what encoders of all modalities and the decoders cost for one example."""
        towers = {m: flops.count(self.backbone(m), shapes[m], training=True) for m in shapes}
        visible = [tower.tokens for tower in towers.values()]
        everyone = [math.prod(tower.grid) for tower in towers.values()]
        width, narrow = self.config.d_model, self.config.decoder_config.d_model
        together = self.config.encoder_strategy in (EARLY, MID)
        cost = flops.Cost()
        for layer in filter(None, (self.encoder, self.fusion)):
            sequences = [sum(visible)] if together else visible
            cost += sum((flops.encoder(layer, n) for n in sequences), flops.Cost())
        joint = self.config.decoder_strategy == JOINT_DECODER
        for modality, seen, count in zip(self.modalities, visible, everyone, strict=True):
            head = self.head(modality)
            cost += flops.product(seen, width, narrow)
            cost += flops.product(count, narrow, head.output_layer.units)
            if not joint:
                cost += flops.encoder(self.decoder or head.decoder, count)
        return cost + (flops.encoder(self.decoder, sum(everyone)) if joint else flops.Cost())


def _as_one(tokens: Tokens, run: keras.layers.Layer) -> Tokens:
    """Runs the tokens of all modalities as one sequence; returns them apart again."""
    together = run(ops.concatenate(list(tokens.values()), axis=1))
    found, first = {}, 0
    for modality, x in tokens.items():
        found[modality] = together[:, first : first + x.shape[1]]
        first += x.shape[1]
    return found
