"""The model of Everything at Once: one transformer over any modality, or any two of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import keras
from keras import ops

from vatt.errors import UserError
from vatt.methods.eao.config import (
    AUDIO,
    JOINT,
    MODALITIES,
    PER_MODALITY,
    TEXT,
    VIDEO,
    ModelConfig,
)
from vatt.methods.eao.parts import AudioTower, FusionTransformer, TokenTower, unit
from vatt.modeling import flops
from vatt.modeling.layers import batch_norm, gated
from vatt.modeling.pretraining import Features, Pair, PretrainingModel
from vatt.modeling.random import Randomness, child
from vatt.modeling.typing import DType, Tensor

POOLED, EMBEDDING, NONEMPTY = "features_pooled", "embedding", "nonempty"
FRAMES = "audio_STFT_nframes"  # of the sound of each row, among the inputs
# Letters of modalities in names of embeddings: "tv_embed", "t+v_embed".
LETTERS = {"t": TEXT, "v": VIDEO, "a": AUDIO}
# Tokens `[rows, n, d]` and their mask `[rows, n]`.
Sequenced = tuple[Tensor, Tensor]


class ComparedModalities(PretrainingModel):
    """What this model and its baseline share: names of inputs, of embeddings, and their pairs.

    Args:
      config: of the model.
      dtype: 'float32' or 'mixed_bfloat16'.
    """

    read_in_training = (EMBEDDING, NONEMPTY)

    def __init__(self, config: ModelConfig, dtype: DType = "float32"):
        super().__init__(name=config.model_name, dtype=dtype)
        self.config, self.modalities = config, config.modalities
        self.norm: batch_norm.NormOptions = {
            "momentum": config.batch_norm_decay,
            "epsilon": config.batch_norm_epsilon,
            "scale": True,
            "synchronized": config.use_xreplica_bn,
            "unbiased": True,
        }
        self._words: Callable[[Tensor], Sequenced] | None = None

    @property
    def takes(self) -> tuple[str, ...]:
        """Names of what `towers` takes of a batch."""
        masks = tuple(f"{m}_mask" for m in self.modalities)
        return (*self.modalities, *masks, *((FRAMES,) if AUDIO in self.modalities else ()))

    def read_text_with(self, words: Callable[[Tensor], Sequenced]) -> None:
        """Has ids of words made tokens by a frozen layer, which is no part of the model.

        So checkpoints do not hold its weights. `words` takes ids `[rows, words]` and returns tokens
        and their mask.
        """
        # In a function, or Keras would take the layer for a part of this one.
        self._words = lambda ids: tuple(map(ops.stop_gradient, words(ids)))

    def rows_of(
        self, modality: str, shape: tuple[int | None, ...]
    ) -> tuple[int, tuple[int | None, ...]]:
        """Returns how many rows the tower sees of an example of `shape`, and the shape of one."""
        if modality == TEXT and self.config.use_clip_text_model:
            return 1, (self.config.clip_text_tokens, self.config.text_embed_dim)
        return 1, tuple(shape)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Each modality with every embedding that it is no part of."""
        found = [Pair(a, b, f"{a}_embed", f"{b}_embed") for a, b in self._compared()]
        for sign, names in (("&", self.config.joint), ("+", self.added)):
            for name in names:
                one, two = JOINT[name.replace("+", "")]
                other = next(m for m in MODALITIES if m not in (one, two))
                found.append(Pair(other, f"{one}{sign}{two}", f"{other}_embed", f"{name}_embed"))
        return tuple(found)

    @property
    def added(self) -> tuple[str, ...]:
        """Names of embeddings that are the sum of those of two modalities."""
        return ()

    def _compared(self) -> list[tuple[str, str]]:
        return [pair for pair in JOINT.values() if set(pair) <= set(self.modalities)]

    def _given(self, inputs: Mapping[str, Tensor], modality: str) -> Sequenced:
        """Returns features of a modality, of text perhaps made from ids, and their mask.

        Raises:
          UserError: ids, and nothing that reads them.
        """
        x, mask = inputs[modality], inputs.get(f"{modality}_mask")
        if modality == TEXT and self.config.use_clip_text_model:
            if self._words is None:
                raise UserError(
                    "model_config.clip_text_weights: null; expected the file of CLIP's weights, "
                    "which reads text (use_clip_text_model)"
                )
            return self._words(x)
        if mask is None:  # all is there
            places = x.shape[-1:] if modality == AUDIO else x.shape[1:-1] or (1,)
            mask = ops.ones((ops.shape(x)[0], *places))
        return x, mask

    def train_outputs(
        self, features: Features, rng: Randomness | None = None
    ) -> Mapping[str, Tensor]:
        """Returns embeddings `[rows, d]`, and which rows have a modality (float32 `[rows]`)."""
        found = {f"{name}_embed": values[EMBEDDING] for name, values in features.items()}
        for modality in features.keys() & set(MODALITIES):
            found[f"{modality}_nonempty_input_mask"] = features[modality][NONEMPTY]
        return found

    def embed(self, features: Features) -> dict[str, Tensor]:
        """Returns embeddings `[rows, d]` by key."""
        found = {f"{name}_embed": values[EMBEDDING] for name, values in features.items()}
        for name in self.added:
            one, two = (f"{LETTERS[letter]}_embed" for letter in name.split("+"))
            if one in found and two in found:
                found[f"{name}_embed"] = (unit(found[one]) + unit(found[two])) / 2.0
        return found


class EverythingAtOnce(ComparedModalities):
    """Tokens of text, video and sound, and a transformer over one modality or two of them."""

    def __init__(self, config: ModelConfig, dtype: DType = "float32"):
        super().__init__(config, dtype)
        fusion, policy = config.fusion_params, self.dtype_policy
        places = (config.text_max_tokens, config.video_max_tokens, config.audio_max_tokens)
        count = dict(zip(MODALITIES, places, strict=True)) if config.use_positional_emb else {}
        widths = {TEXT: config.text_embed_dim, VIDEO: config.video_embed_dim}
        common = {"d_model": fusion.embed_dim, "projection": config.token_projection}
        for modality, width in widths.items():
            tower = TokenTower(
                width, positions=count.get(modality, 0), name=modality, dtype=policy, **common
            )
            setattr(self, modality, tower)
        self.audio = AudioTower(
            *config.davenet,
            self.norm,
            most=config.audio_max_tokens,
            strategy=config.strategy_audio_pooling,
            positions=count.get(AUDIO, 0),
            name=AUDIO,
            dtype=policy,
            **common,
        )
        self.fusion = self._transformer("fusion")
        self.apart = config.type == PER_MODALITY
        if self.apart:
            for modality in (VIDEO, AUDIO):
                setattr(self, f"fusion_{modality}", self._transformer(f"fusion_{modality}", False))
        for name in self._projections():
            layer = gated.projection(config.projection, config.projection_dim, name, policy)
            setattr(self, name, layer)

    def _projections(self) -> tuple[str, ...]:
        each = self.config.individual_projections
        return tuple(f"{m}_projection" for m in MODALITIES) if each else ("joint_projection",)

    def _transformer(self, name: str, masks: bool = True) -> FusionTransformer:
        options = self.config.fusion_params
        return FusionTransformer(
            options.embed_dim,
            options.depth,
            options.num_heads,
            options.mlp_ratio,
            dropout_rate=options.drop_rate,
            attention_dropout=options.attn_drop_rate,
            stochastic_depth=options.drop_path_rate,
            class_token=options.use_cls_token,
            masks=masks,
            name=name,
            dtype=self.dtype_policy,
        )

    def build(self, shapes: Mapping[str, Sequence[int | None]] | None = None) -> None:
        """Creates every variable; the configuration says all widths.

        What nothing trains, and published checkpoints hold, is there and not trainable.
        """
        for layer in (self.text, self.video, self.audio, *self._transformers()):
            layer.build()
        for layer in filter(None, map(self._projection_called, self._projections())):
            layer.build((None, self.config.fusion_params.embed_dim))
        if AUDIO not in self.modalities:
            self.audio.trainable = False
            if self.config.individual_projections and self.audio_projection is not None:
                self.audio_projection.trainable = False
        if self.apart:
            for modality in MODALITIES:
                self.backbone(modality).forget_places()
        self.built = True

    def _transformers(self) -> list[FusionTransformer]:
        names = ("fusion", "fusion_video", "fusion_audio")
        return [layer for name in names if (layer := getattr(self, name, None)) is not None]

    def _projection_called(self, name: str) -> keras.layers.Layer | None:
        return getattr(self, name)

    @property
    def added(self) -> tuple[str, ...]:
        """Names of embeddings that are the sum of those of two modalities."""
        return tuple("+".join(name) for name in JOINT) if AUDIO in self.modalities else ()

    # Passes --------------------------------------------------------------------------------------

    def towers(
        self, inputs: Mapping[str, Tensor], training: bool = False, rng: Randomness | None = None
    ) -> Features:
        """Returns features by modality and by pair of modalities ("tv", "ta", "va").

        Of each `embedding` `[rows, d]`, float32; of a modality, too, `features_pooled` and, float32
        `[rows]`, `nonempty`.
        """
        there, nonempty = {}, {}
        for modality in (m for m in self.modalities if m in inputs):
            tokens, mask, full = self.tokens(inputs, modality, training)
            there[modality] = (self._placed(modality, tokens), mask)
            nonempty[modality] = ops.cast(full, "float32")
        found: Features = {}
        for modality, part in there.items():
            place = child(rng, modality)
            (pooled,) = self._fusion_of(modality)([part], training=training, rng=place)
            embedding = ops.cast(self._projected(modality, pooled), "float32")
            found[modality] = {POOLED: pooled, EMBEDDING: embedding}
            found[modality][NONEMPTY] = nonempty[modality]
        for name, both in self.config.joint.items():
            if all(m in there for m in both) and (self.config.cross_modal or not training):
                parts = [there[m] for m in both]
                states = self.fusion(parts, training=training, rng=child(rng, name))
                found[name] = {EMBEDDING: self._joined(both, states)}
        return found

    def tokens(
        self, inputs: Mapping[str, Tensor], modality: str, training: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns tokens of a modality, before positions, their mask, and which rows have any.

        The first token of a row without any is a learned vector, and its mask 1.
        """
        x, mask = self._given(inputs, modality)
        if modality != AUDIO:
            tokens = self.backbone(modality)(x)
            return self.fusion.filled(tokens, mask)
        lengths = inputs.get(FRAMES)
        if lengths is None:
            lengths = ops.full((ops.shape(x)[0],), -1, "int32")
        return self.fusion.filled(*self.audio.tokens_of(x, mask, lengths, training))

    def _placed(self, modality: str, tokens: Tensor) -> Tensor:
        return tokens if self.apart else self.backbone(modality).placed(tokens)

    def _fusion_of(self, modality: str) -> FusionTransformer:
        return getattr(self, f"fusion_{modality}", self.fusion)

    def _projected(self, modality: str, x: Tensor) -> Tensor:
        each = self.config.individual_projections
        layer = getattr(self, f"{modality}_projection" if each else "joint_projection")
        return x if layer is None else layer(x)

    def _joined(self, both: Sequence[str], states: Sequence[Tensor]) -> Tensor:
        """Returns the embedding of two modalities, from the states of each or of a class token."""
        if len(states) == 1:
            return ops.cast(self._projected(both[0], states[0]), "float32")
        one, two = (unit(self._projected(m, x)) for m, x in zip(both, states, strict=True))
        return (one + two) / 2.0

    # Costs ---------------------------------------------------------------------------------------

    def joint_cost(self, shapes: Mapping[str, tuple[int, ...]]) -> flops.Cost:
        """Returns what all passes of the transformer cost for one example."""
        seen = {m: self.rows_of(m, shapes[m])[1] for m in self.modalities}
        counts = {m: flops.count(self.backbone(m), shape).tokens for m, shape in seen.items()}
        extra, cost = int(self.config.fusion_params.use_cls_token), flops.Cost()
        for modality, tokens in counts.items():
            cost += flops.encoder(self._fusion_of(modality).encoder, tokens + extra)
        for both in self.config.joint.values() if self.config.cross_modal else ():
            cost += flops.encoder(self.fusion.encoder, sum(counts[m] for m in both) + extra)
        return cost

    def head_cost(self, shapes: Mapping[str, tuple[int, ...]]) -> flops.Cost:
        """Returns what the projections cost for one example."""
        width, out = self.config.fusion_params.embed_dim, self.config.projection_dim
        class_token = self.config.fusion_params.use_cls_token
        joint = self.config.joint if self.config.cross_modal else ()
        passes = len(self.modalities) + len(joint) * (1 if class_token else 2)
        return gated_cost(self.config.projection, 1, width, out) * passes


def gated_cost(kind: str, rows: int, inputs: int, units: int) -> flops.Cost:
    """Returns what a projection of `gated.PROJECTIONS` costs for so many rows."""
    if kind == gated.NONE:
        return flops.Cost()
    cost = flops.product(rows, inputs, units) + flops.Cost(values=rows * inputs)
    if kind == gated.GATED:
        cost += flops.product(rows, units, units) + flops.Cost(values=3 * rows * units)
    return cost


@flops.count.register
def _(layer: TokenTower, shape: tuple[int, ...], training: bool = False) -> flops.Tower:
    tokens = shape[0] if len(shape) > 1 else 1
    return flops.Tower((tokens,), tokens, _projection_cost(layer, tokens))


@flops.count.register
def _(layer: AudioTower, shape: tuple[int, ...], training: bool = False) -> flops.Tower:
    bands, times = shape
    tower = flops.count(layer.davenet, (times, bands), training)
    (tokens,) = tower.grid
    if layer.strategy != "none" and layer.most is not None:
        tokens = min(tokens, layer.most)
    return flops.Tower((tokens,), tokens, tower.cost + _projection_cost(layer, tokens))


def _projection_cost(layer: TokenTower, tokens: int) -> flops.Cost:
    kind = {None: gated.NONE}.get(layer.projection, gated.MINIMAL)
    kind = gated.GATED if isinstance(layer.projection, gated.GatedUnit) else kind
    norm = flops.Cost(float32=tokens * layer.features_dim)
    return gated_cost(kind, tokens, layer.width, layer.features_dim) + norm
