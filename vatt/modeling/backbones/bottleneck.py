"""The multimodal bottleneck transformer: modalities that see each other through a few vectors.

Nagrani et al., 2021, "Attention Bottlenecks for Multimodal Fusion",
<https://arxiv.org/abs/2107.00135>; with the positions and options of AV-MAE's fine-tuning.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import keras
from keras import ops

from vatt import configs
from vatt.modeling import flops
from vatt.modeling.backbones.base import Backbone
from vatt.modeling.layers import norm, sines
from vatt.modeling.layers.base import ConfiguredLayer, LayerOptions
from vatt.modeling.layers.encoder import Encoder, EncoderBlock, EncoderOptions, run_block
from vatt.modeling.layers.tokens import FAN_IN, PatchEmbedding
from vatt.modeling.random import Randomness, child
from vatt.modeling.typing import DType, Features, Outputs, Shape, Tensor

MLP_BIAS_STD = 1e-6
BOTTLENECK_STD = 0.02
_LAYER = re.compile(r"(?:[^/]+/)?encoder/layer_(\d+)/")
TOKEN = "token"  # pooling by the state of a learned token; others are of the tokens of patches
POOLINGS = {"mean": ops.mean, "max": ops.max, "sum": ops.sum}

Tokens = dict[str, Tensor]  # [batch, tokens, d_model] by modality


@keras.saving.register_keras_serializable("vatt")
class ModalityTokens(ConfiguredLayer):
    """Patches of one modality with their positions, and the layers that it has for itself.

    Args:
      patch: sizes along the axes; what remains at the end of an axis is left out.
      d_model: width of a token.
      encoder: options of its layers; None where modalities share them.
      class_token: whether a learned token comes before those of the patches.
      modality_vector: whether a learned vector is added to all tokens.
      init_std: of the patch projection; see `PatchEmbedding`.
    """

    def __init__(
        self,
        patch: Sequence[int],
        d_model: int,
        encoder: EncoderOptions | Mapping[str, Any] | None = None,
        class_token: bool = False,
        modality_vector: bool = False,
        init_std: float | str | None = FAN_IN,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.d_model, self.has_token, self.has_vector = d_model, class_token, modality_vector
        self.patches = PatchEmbedding(patch, patch, d_model, init_std, name="patches", dtype=policy)
        self.encoder = encoder and Encoder(encoder, name="encoder", dtype=policy)
        self.class_token = self.modality_vector = None

    def build(self, input_shape: Shape) -> None:
        """Creates all variables for inputs `[batch, *axes, channels]`; only the channels matter."""
        self.patches.build(input_shape)
        zeros = {"shape": (self.d_model,), "initializer": "zeros"}
        if self.has_token:
            self.class_token = self.add_weight(**zeros, name="class_token")
        if self.has_vector:
            self.modality_vector = self.add_weight(**zeros, name="modality")
        if self.encoder is not None:
            self.encoder.build((None, None, self.d_model))

    def call(self, x: Tensor) -> Tensor:
        """Returns the tokens of `x`, `[batch, *axes, channels]`."""
        tokens = self.patches(x)
        if self.class_token is not None:
            shape = (ops.shape(tokens)[0], 1, self.d_model)
            first = ops.broadcast_to(ops.cast(self.class_token, tokens.dtype), shape)
            tokens = ops.concatenate([first, tokens], axis=1)
        if self.modality_vector is not None:
            tokens = tokens + ops.cast(self.modality_vector, tokens.dtype)
        return tokens + ops.cast(sines.of_sequence(tokens.shape[1], self.d_model), tokens.dtype)


@keras.saving.register_keras_serializable("vatt")
class BottleneckTransformer(Backbone):
    """Video and sound, or one of them, as tokens in layers that exchange something or nothing.

    Layers below `fusion_layer` run each modality by itself. From there on each runs its tokens
    together with the bottleneck, vectors that all modalities begin a layer with, and whose mean
    over the modalities goes on to the next one. Without a bottleneck each runs the tokens of all,
    as they left the layer before, and keeps its own.

    Args:
      patches: size of the patches by modality, in the order of the modalities.
      encoder: options of the layers.
      fusion_layer: first layer in which modalities meet; as many as there are layers: none, and
        the bottleneck is not trained.
      num_bottlenecks: vectors of the bottleneck, one more with a token for each modality.
      use_bottleneck: whether modalities meet there, or see all tokens.
      share_encoder: whether all modalities have the same layers.
      test_with_bottlenecks: whether modalities meet in evaluation, too.
      pooling: how the states of a modality become its feature: `mean`, `max` or `sum` over its
        patches, or the state of a learned token in front of them.
      modality_vectors: whether a learned vector of its modality is added to every token.
      video_patch_init: of the first patch projection of video; see `PatchEmbedding`.
      restores_sound: whether the patch projection of sound comes from a pre-training checkpoint;
        not in the published code.
      frozen: neither trained nor differentiated through.
    """

    def __init__(
        self,
        patches: Mapping[str, Sequence[int]],
        encoder: EncoderOptions | Mapping[str, Any],
        fusion_layer: int,
        num_bottlenecks: int = 4,
        use_bottleneck: bool = True,
        share_encoder: bool = False,
        test_with_bottlenecks: bool = True,
        pooling: str = "mean",
        modality_vectors: bool = False,
        video_patch_init: str = FAN_IN,
        restores_sound: bool = True,
        frozen: bool = False,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        options, policy = EncoderOptions.of(encoder), self.dtype_policy
        self.d_model = self.features_dim = options.d_model
        self.modalities, self.num_layers = tuple(patches), options.num_layers
        self.fusion_layer, self.use_bottleneck = fusion_layer, use_bottleneck
        self.test_with_bottlenecks, self.pooling = test_with_bottlenecks, pooling
        self.restores_sound = restores_sound
        self.num_bottlenecks = num_bottlenecks + (pooling == TOKEN)
        for modality, patch in patches.items():
            layer = ModalityTokens(
                patch,
                self.d_model,
                encoder=None if share_encoder else options,
                class_token=pooling == TOKEN,
                modality_vector=modality_vectors,
                init_std=video_patch_init if modality == "video" else FAN_IN,
                name=modality,
                dtype=policy,
            )
            setattr(self, modality, layer)
        self.encoder = None
        if share_encoder:
            self.encoder = Encoder(options, name="encoder", dtype=policy)
        self.final_norm = norm.make(
            "layer", epsilon=options.layer_norm_epsilon, name="final_norm", dtype=policy
        )
        if frozen:
            self.freeze()

    def build(self, input_shape: Shape | Mapping[str, Shape]) -> None:
        """Creates all variables; of the shapes by modality only the channels matter."""
        shapes = self._by_modality(input_shape)
        for modality in self.modalities:
            getattr(self, modality).build(tuple(shapes[modality]))
        if self.encoder is not None:
            self.encoder.build((None, None, self.d_model))
        self.final_norm.build((None, None, self.d_model))
        self.bottleneck = None
        if self.use_bottleneck:
            self.bottleneck = self.add_weight(
                shape=(self.num_bottlenecks, self.d_model),
                initializer=keras.initializers.RandomNormal(stddev=BOTTLENECK_STD),
                trainable=len(self.modalities) > 1 and self.fusion_layer < self.num_layers,
                name="bottleneck",
            )

    def blocks(self, modality: str) -> list[EncoderBlock]:
        """Returns the layers of a modality."""
        own = getattr(self, modality).encoder
        return (self.encoder if own is None else own).blocks

    def encode(
        self, x: Tensor | Tokens, training: bool, rng: Randomness | None, intermediates: bool
    ) -> tuple[Features, Outputs]:
        """Encodes inputs `[batch, *axes, channels]` by modality, or those of the only modality.

        Returns:
          `pooled_by_modality` `[batch, d]` each, and their mean `features_pooled`; `features`
          `[batch, tokens, d]` of all modalities, one after the other. As an inner state
          `hidden_states_last`, the same by modality.
        """
        inputs = self._by_modality(x)
        tokens = {m: getattr(self, m)(inputs[m]) for m in self.modalities}
        together = len(tokens) > 1 and (training or self.test_with_bottlenecks)
        bottleneck = None
        for layer in range(self.num_layers):

            def run(modality: str, states: Tensor, layer: int = layer) -> Tensor:
                place = child(child(rng, modality), f"layer_{layer}")
                return run_block(self.blocks(modality)[layer], states, training, place)

            if not together or layer < self.fusion_layer:
                tokens = {m: run(m, states) for m, states in tokens.items()}
            elif self.use_bottleneck:
                bottleneck = self._first_bottleneck(tokens) if bottleneck is None else bottleneck
                tokens, bottleneck = _through_bottleneck(tokens, bottleneck, run)
            else:
                tokens = self._all_see_all(tokens, run)
        tokens = {m: self.final_norm(states) for m, states in tokens.items()}
        pooled = {m: self._pooled(states) for m, states in tokens.items()}
        features = {
            "features_pooled": sum(pooled.values()) / len(pooled),
            "pooled_by_modality": pooled,
            "features": ops.concatenate(list(tokens.values()), axis=1),
        }
        return features, {"hidden_states_last": tokens}

    def _first_bottleneck(self, tokens: Tokens) -> Tensor:
        rows = ops.shape(tokens[self.modalities[0]])[0]
        shape = (rows, self.num_bottlenecks, self.d_model)
        return ops.broadcast_to(ops.cast(self.bottleneck, self.compute_dtype), shape)

    def _all_see_all(self, tokens: Tokens, run: Any) -> Tokens:
        """Runs a layer on the tokens of all modalities; with shared layers once for all."""
        joint, counts = ops.concatenate(list(tokens.values()), axis=1), _counts(tokens)
        if self.encoder is not None:
            return _split(run(self.modalities[0], joint), counts)
        return {m: _split(run(m, joint), counts)[m] for m in tokens}

    def _pooled(self, states: Tensor) -> Tensor:
        if self.pooling == TOKEN:
            return states[:, 0]
        return POOLINGS[self.pooling](states, axis=1)

    def _by_modality(self, given: Any) -> Mapping[str, Any]:
        return given if isinstance(given, Mapping) else {self.modalities[0]: given}

    # Where variables stand, for rates and checkpoints ------------------------------------------

    def layers_above(self, name: str) -> int:
        """Returns how many layers lie between a variable, by its path below here, and the end.

        As published: the bottleneck, the last norm and class tokens but the first are beyond the
        last layer, patches and what is added to them before the first.
        """
        if layer := _LAYER.match(name):
            return self.num_layers - int(layer[1])
        first = f"{self.modalities[0]}/class_token"
        if name == first or name.endswith(("/modality", "/patches/kernel", "/patches/bias")):
            return self.num_layers + 1
        return 0

    def within_towers(self) -> dict[str, tuple[str, str] | str | None]:
        """Returns, by path, where a variable stands in the towers of a pre-trained model.

        That is a modality and the path below its tower; None for what only this backbone has, and
        why for what is not taken. Layers that modalities share are those of the first one, and so
        is the last norm.
        """
        found: dict[str, tuple[str, str] | str | None] = {}
        for variable in self.variables:
            local = variable.path.removeprefix(f"{self.path}/")
            modality, _, below = local.partition("/")
            if modality not in self.modalities:
                modality, below = self.modalities[0], local
            if below.startswith("final_norm/"):
                below = f"encoder/{below}"
            known = below.startswith(("patches/", "encoder/"))
            found[variable.path] = (modality, below) if known else None
            if local.startswith("audio/patches/") and not self.restores_sound:
                found[variable.path] = "model_config.published_restore"
        return found


def _through_bottleneck(tokens: Tokens, bottleneck: Tensor, run: Any) -> tuple[Tokens, Tensor]:
    """Returns the tokens of each modality after a layer, and the mean of its bottlenecks."""
    found, returned = {}, []
    for modality, states in tokens.items():
        count = states.shape[1]
        states = run(modality, ops.concatenate([states, bottleneck], axis=1))
        found[modality] = states[:, :count]
        returned.append(states[:, count:])
    return found, sum(returned) / len(returned)


def _counts(tokens: Tokens) -> dict[str, int]:
    return {modality: states.shape[1] for modality, states in tokens.items()}


def _split(joint: Tensor, counts: Mapping[str, int]) -> Tokens:
    found, first = {}, 0
    for modality, count in counts.items():
        found[modality] = joint[:, first : first + count]
        first += count
    return found


def mbt(
    config: configs.multimodal.MBTBase, *, name: str = "mbt", dtype: DType = "float32"
) -> BottleneckTransformer:
    """Returns the bottleneck transformer of a configuration."""
    return BottleneckTransformer(
        {modality: config.patch(modality) for modality in config.modalities},
        EncoderOptions.from_config(
            config, feed_forward_bias_std=MLP_BIAS_STD, final_norm=False, pre_norm=True
        ),
        fusion_layer=config.fusion_layer,
        num_bottlenecks=config.num_bottlenecks,
        use_bottleneck=config.use_bottleneck,
        share_encoder=config.share_encoder,
        test_with_bottlenecks=config.test_with_bottlenecks,
        pooling=config.pooling,
        modality_vectors=config.modality_vectors,
        video_patch_init=config.video_patch_init,
        restores_sound=not config.published_restore,
        frozen=config.freeze_backbone,
        name=name,
        dtype=dtype,
    )


@flops.count.register
def _(
    layer: BottleneckTransformer, shape: Shape | Mapping[str, Shape], training: bool = False
) -> flops.Tower:
    """The grid is that of the first modality, tokens are those of all, without the bottleneck."""
    shapes = shape if isinstance(shape, Mapping) else {layer.modalities[0]: shape}
    tokens, grids, cost = {}, {}, flops.Cost()
    for modality in layer.modalities:
        tower = getattr(layer, modality)
        grids[modality] = tower.patches.grid((None, *shapes[modality]))
        patches = math.prod(grids[modality])
        volume = math.prod(tower.patches.patch) * shapes[modality][-1]
        cost += flops.product(patches, volume, layer.d_model) + flops.Cost(values=patches * volume)
        tokens[modality] = patches + tower.has_token
    total = sum(tokens.values())
    for index in range(layer.num_layers):
        rows = list(tokens.values())
        if len(tokens) > 1 and index >= layer.fusion_layer:
            if layer.use_bottleneck:
                rows = [count + layer.num_bottlenecks for count in rows]
            else:
                rows = [total] * (1 if layer.encoder is not None else len(rows))
        block = layer.blocks(layer.modalities[0])[index]
        cost += sum((flops.encoder_block(block, count) for count in rows), flops.Cost())
    cost += flops.Cost(float32=total * layer.d_model)  # of the last norm
    first = grids[layer.modalities[0]]
    return flops.Tower(first, total, cost.frozen() if layer.frozen else cost)
