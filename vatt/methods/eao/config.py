"""Configuration of Everything at Once: towers, fusion, losses, tokens.

Names and defaults are those of the published configuration where it has any. `presets` has the
published runs.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SerializeAsAny

from vatt.configs import base, dataset, experiment, tokens
from vatt.configs.base import Config, Count, Layers, NonNegative, Positive, Rate, WholeNumber
from vatt.configs.model import PretrainModel
from vatt.configs.problems import Problem, Problems
from vatt.methods.eao import frames

TEXT, VIDEO, AUDIO = MODALITIES = ("text", "video", "audio")  # in the order of their tokens
# Names of two modalities in one pass of the transformer.
JOINT = {"tv": (TEXT, VIDEO), "ta": (TEXT, AUDIO), "va": (VIDEO, AUDIO)}
# Which embeddings a loss compares, by its name; each is of one modality or of a pair.
COMPARED = {
    "tv": (TEXT, VIDEO),
    "ta": (TEXT, AUDIO),
    "va": (VIDEO, AUDIO),
    "t_va": (TEXT, "va"),
    "v_ta": (VIDEO, "ta"),
    "a_tv": (AUDIO, "tv"),
}
FUSION, TV_ONLY = "EverythingAtOnceModel", "EverythingAtOnceModel_TV_Only"
PER_MODALITY, BASELINE = "TransformerPerModalityModel", "AVLnetBaselineModel"

# Widths of the stem and of the stages of DAVEnet, and blocks of each stage, by `davenet_v2`.
DAVENET = {
    True: ((128, 128, 256, 512, 1024, 2048, 4096), (2, 2, 1, 1, 1, 1)),
    False: ((128, 128, 256, 512, 1024), (2, 2, 2, 2)),
}
Projection = base.choice("gated", "minimal", "")


class LossConfig(Config):
    """The combinatorial loss: the mean of contrastive losses, weighted.

    `contrastive_loss`: "NormSoftmax" divides cosines by `temperature`; "MMS" subtracts a margin of
    0.001 from those of pairs that belong together. A loss of weight 0 is not computed, and one of
    embeddings that the model does not have is left out.
    """

    contrastive_loss: base.choice("NormSoftmax", "MMS") = "NormSoftmax"
    temperature: Positive = 0.05
    tv_weight: NonNegative = 0.0
    ta_weight: NonNegative = 0.0
    va_weight: NonNegative = 0.0
    t_va_weight: NonNegative = 0.0
    v_ta_weight: NonNegative = 0.0
    a_tv_weight: NonNegative = 0.0

    @property
    def weights(self) -> dict[str, float]:
        """Weights that are not 0, by the name of the loss."""
        found = {name: getattr(self, f"{name}_weight") for name in COMPARED}
        return {name: weight for name, weight in found.items() if weight}


class FusionConfig(Config):
    """The transformer.

    `use_cls_token`: a learned token is in front, whose state is the embedding. `drop_rate`: of the
    results of attention and MLP; `attn_drop_rate`: of attention weights; `drop_path_rate`: share of
    rows for which the last block is left out, of those before it less.
    """

    embed_dim: Count = 768
    depth: WholeNumber = 1
    num_heads: Count = 12
    mlp_ratio: Positive = 4.0
    use_cls_token: bool = False
    drop_rate: Rate = 0.0
    attn_drop_rate: Rate = 0.0
    drop_path_rate: Rate = 0.0


class ModelConfig(PretrainModel):
    """A model that fuses any of text, video and sound, and what it learns from.

    `type`: "EverythingAtOnceModel" sees one modality or two; "EverythingAtOnceModel_TV_Only" text
    or video; "TransformerPerModalityModel" has a transformer for each, which sees it alone;
    "AVLnetBaselineModel" has none, and of the fields below takes widths, DAVEnet, `projection_dim`
    and the losses alone.

    `video_embed_dim`, `text_embed_dim`: widths of what comes in. `token_projection`, `projection`:
    "gated" units, "minimal", one dense layer, or "", none; the second to `projection_dim`, for each
    modality or one for all (`individual_projections`). `cross_modal`: pairs are compared in
    training, too; in evaluation they always are.

    `davenet_v2`: six stages, of which a token is 64 frames of a spectrogram, or four and 16;
    `davenet_widths` (of the stem and of each stage) and `davenet_blocks` change them.
    `use_xreplica_bn`: its batch norm sees all replicas; published: each its own.
    `strategy_audio_pooling`: what becomes of more tokens of sound than
    `audio_max_num_stft_frames` give (`reduction`).

    `use_positional_emb`: learned positions, of exactly `video_max_tokens`, `text_max_tokens` and
    `audio_max_num_stft_frames`. `use_clip_text_model`: text are ids of CLIP's tokenizer, which
    CLIP's transformer of the file `clip_text_weights`, frozen, makes `clip_text_tokens` tokens of.
    """

    model_name: str = "eao"
    type: base.choice(FUSION, TV_ONLY, PER_MODALITY, BASELINE) = FUSION
    video_embed_dim: Count = 4096
    text_embed_dim: Count = 300
    projection_dim: Count = 6144
    token_projection: Projection = "gated"
    projection: Projection = "gated"
    individual_projections: bool = True
    cross_modal: bool = True
    davenet_v2: bool = True
    davenet_widths: base.sequence(Count) | None = None
    davenet_blocks: base.sequence(Layers) | None = None
    use_xreplica_bn: bool = False
    batch_norm_decay: base.UnitInterval = 0.9
    batch_norm_epsilon: Positive = 1e-5
    strategy_audio_pooling: base.choice("none", "clip", "nearest", "max_pool", "avg_pool") = "none"
    use_positional_emb: bool = False
    video_max_tokens: Count | None = None
    text_max_tokens: Count | None = None
    audio_max_num_stft_frames: Count | None = None
    fusion_params: FusionConfig = Field(default_factory=FusionConfig)
    use_clip_text_model: bool = False
    clip_text_weights: str | None = None
    clip_text_tokens: Count = 20
    loss_config: LossConfig = Field(default_factory=LossConfig)

    @property
    def modalities(self) -> tuple[str, ...]:
        """What is trained, in the order of tokens."""
        return (TEXT, VIDEO) if self.type == TV_ONLY else MODALITIES

    @property
    def required_modalities(self) -> tuple[str, ...]:
        """What every set that it is trained on must have; clips may lack any."""
        return ()

    @property
    def joint(self) -> dict[str, tuple[str, str]]:
        """Pairs of modalities that have an embedding of their own, by its name."""
        return JOINT if self.type == FUSION else {}

    @property
    def num_layers(self) -> int:
        """Blocks of the transformer, whose activations can be recomputed."""
        return 0 if self.type == BASELINE else self.fusion_params.depth

    @property
    def davenet(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Widths of DAVEnet's stem and stages, and blocks of each stage."""
        widths, blocks = DAVENET[self.davenet_v2 and self.type != BASELINE]
        return self.davenet_widths or widths, self.davenet_blocks or blocks

    @property
    def audio_reduction(self) -> int:
        """Frames of a spectrogram that a token of sound stands for."""
        return 2 ** len(self.davenet[1])

    @property
    def audio_max_tokens(self) -> int | None:
        """Tokens of sound that longer ones are reduced to, or that have a position."""
        most = self.audio_max_num_stft_frames
        return None if most is None else max(most // self.audio_reduction, 1)

    # What does not fit together ----------------------------------------------------------------

    def problems(self) -> Problems:
        """Yields what does not fit together, whatever the clips."""
        path, fusion = "model_config", self.fusion_params
        if fusion.embed_dim % fusion.num_heads:
            accepted = f"expected a divisor of embed_dim, which is {fusion.embed_dim}"
            yield Problem(f"{path}.fusion_params.num_heads", fusion.num_heads, accepted)
        if fusion.use_cls_token and self.individual_projections:
            accepted = "expected false: the state of the class token is of no modality alone"
            yield Problem(f"{path}.individual_projections", True, accepted)
        if fusion.use_cls_token and self.type == PER_MODALITY:
            accepted = f"expected false with {PER_MODALITY}, which projects each by itself"
            yield Problem(f"{path}.fusion_params.use_cls_token", True, accepted)
        if not self.individual_projections and self.type == PER_MODALITY:
            accepted = f"expected true with {PER_MODALITY}, which has one for each"
            yield Problem(f"{path}.individual_projections", False, accepted)
        widths, blocks = self.davenet
        if len(widths) != len(blocks) + 1:
            accepted = f"expected {len(blocks) + 1}: one of the stem and of each stage"
            yield Problem(f"{path}.davenet_widths", list(widths), accepted)
        yield from self._width_problems(path)
        yield from self._limit_problems(path)
        yield from self._loss_problems(f"{path}.loss_config")

    def _width_problems(self, path: str) -> Problems:
        """Yields widths that differ where nothing is projected."""
        inner = self.fusion_params.embed_dim
        if self.type == BASELINE:
            return
        if not self.token_projection:
            widths = {"video_embed_dim": self.video_embed_dim}
            widths |= {"text_embed_dim": self.text_embed_dim, "davenet_widths": self.davenet[0][-1]}
            for field, width in widths.items():
                if width != inner:
                    accepted = (
                        f"expected fusion_params.embed_dim, {inner}, without token_projection"
                    )
                    yield Problem(f"{path}.{field}", width, accepted)
        if not self.projection and self.projection_dim != inner:
            accepted = f"expected fusion_params.embed_dim, {inner}, without projection"
            yield Problem(f"{path}.projection_dim", self.projection_dim, accepted)

    def _limit_problems(self, path: str) -> Problems:
        """Yields limits that are missing or give no whole tokens."""
        most, field = self.audio_max_num_stft_frames, f"{path}.audio_max_num_stft_frames"
        if most is not None and most % self.audio_reduction:
            yield Problem(field, most, *frames.expected(most, self.audio_reduction))
        if self.strategy_audio_pooling != "none" and most is None:
            accepted = f"strategy_audio_pooling {self.strategy_audio_pooling} needs a number"
            yield Problem(field, None, accepted)
        limits = ("video_max_tokens", "text_max_tokens", "audio_max_num_stft_frames")
        for name in limits if self.use_positional_emb else ():
            if getattr(self, name) is None:
                accepted = "use_positional_emb needs a number: of learned positions"
                yield Problem(f"{path}.{name}", None, accepted)

    def _loss_problems(self, path: str) -> Problems:
        """Yields weights by which a modality, or all, are not trained."""
        there = {*self.modalities, *(self.joint if self.cross_modal else ())}
        read: set[str] = set()
        for name in self.loss_config.weights:
            if there.issuperset(COMPARED[name]):
                read |= {m for side in COMPARED[name] for m in JOINT.get(side, (side,))}
        for modality in self.modalities:
            if modality not in read:
                accepted = f"no loss of a weight above 0 compares {modality}, which is not trained"
                name = next(n for n, sides in COMPARED.items() if modality in sides)
                yield Problem(f"{path}.{name}_weight", 0.0, f"{accepted} so")

    def clip_problems(self, path: str, data: dataset.Dataset) -> Problems:
        """Yields tokens that the model does not take."""
        given = tokens.of(data)
        if given is None:
            accepted = (
                "expected tokens of features: set train.input to tokens (docs/methods/eao.md)"
            )
            yield Problem(f"{path}.tokens", None, accepted)
            return
        each = {"": given}
        if isinstance(data, tokens.TokenEvaluation) and not list(tokens.problems(path, data)):
            each |= {name: data.of_set(name) for name in data.tokens_of}
        for name, of_set in each.items():
            place = f"{path}.tokens_of.{name}" if name else f"{path}.tokens"
            yield from self._token_problems(place, of_set)

    def _token_problems(self, path: str, given: tokens.Tokens) -> Problems:
        for name in ("video_embed_dim", "text_embed_dim"):
            ours, theirs = getattr(self, name), getattr(given, name)
            if ours != theirs and not (name == "text_embed_dim" and self.use_clip_text_model):
                accepted = f"expected model_config.{name}, which is {ours}"
                yield Problem(f"{path}.{name}", theirs, accepted)
        wanted = tokens.CLIP if self.use_clip_text_model else tokens.WORDS
        if given.text != wanted:
            accepted = f"expected {wanted}, as model_config.use_clip_text_model says"
            yield Problem(f"{path}.text", given.text, accepted)
        if AUDIO not in self.modalities:
            return
        if given.spectrogram is None:
            accepted = "expected the name of a feature: the model hears"
            yield Problem(f"{path}.spectrogram", None, accepted)
        elif given.mel_bins != frames.BANDS:
            yield Problem(f"{path}.mel_bins", given.mel_bins, f"expected {frames.BANDS}")
        length = given.num_audio_stft_frames
        if frames.window(length, len(self.davenet[1])) is None and self.type != BASELINE:
            field = f"{path}.num_audio_stft_frames"
            yield Problem(field, length, *frames.expected(length, self.audio_reduction))


class Pretrain(experiment.Pretrain):
    """A run of Everything at Once; fine-tuning is one that starts from a checkpoint."""

    method: ClassVar[str] = "eao"

    model: SerializeAsAny[ModelConfig] = Field(default_factory=ModelConfig, alias="model_config")
