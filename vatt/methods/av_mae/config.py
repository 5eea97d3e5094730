"""AV-MAE's configuration: encoder, decoder, masks, targets, loss, presets of experiments.

Names and defaults are those of the published configuration where it has any; its `rgb` is `video`
here and its `spectrogram` is `audio`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, SerializeAsAny

from vatt.configs import base, dataset, experiment
from vatt.configs.base import (
    Config,
    Count,
    Layers,
    NonNegative,
    Number,
    Rate,
    WholeNumber,
)
from vatt.configs.model import PretrainModel
from vatt.configs.problems import Problem, Problems
from vatt.configs.transformers import Encoder

MODALITIES = ("video", "audio")
SEPARATE, EARLY = "separate_encoders", "concat_and_encode"
SHARED, MID = "same_encoder", "separate_encoders_and_concat"
SAME_DECODER, OWN_DECODERS, JOINT_DECODER = "same_decoder", "separate_decoders", "concat_and_decode"

Modalities = base.sequence(base.choice(*MODALITIES))
Positions = base.choice("sinusoidal_1d", "learned_1d")
MaskShare = Annotated[float, Field(gt=0, lt=1)]


class Transformer(Encoder):
    """An encoder or decoder as published: its MLP has the tanh form of gelu, and no dropout."""

    activation: base.Activation | None = "gelu_tanh"
    dropout_rate: Rate = 0.0


class DecoderConfig(Transformer):
    """The decoder; `positional_embedding` is of all tokens in it."""

    d_model: Count = 512
    d_ff: Count = 2048
    num_layers: Layers = 4
    num_heads: Count = 8
    positional_embedding: Positions = "sinusoidal_1d"


class LossConfig(Config):
    """What is reconstructed, and how far off it is.

    Targets are the values in a patch. `standardise_per_patch`: without their mean, divided by their
    standard deviation; `standardise_per_patch_channels`: the same for each colour, of video.
    `reconstruct_grayscale`: pictures without colours. `select_central_frame`: only the middle one
    of the frames of a patch.

    The loss is the mean squared distance of the masked tokens, of all with `loss_unmasked_tokens`,
    in a token the mean over its values (`normalise_by_output_dimension`) or their sum, times
    `video_weight` or `audio_weight`. `l2_decay_factor`: half of it times the squares of all weights
    is added.
    """

    standardise_per_patch: bool = False
    standardise_per_patch_channels: bool = False
    reconstruct_grayscale: bool = False
    select_central_frame: bool = False
    normalise_by_output_dimension: bool = True
    loss_unmasked_tokens: bool = False
    video_weight: NonNegative = 0.5
    audio_weight: NonNegative = 0.5
    l2_decay_factor: NonNegative = 0.0


class ModelConfig(PretrainModel, Transformer):
    """A masked autoencoder of video and sound, or of one of them (`modalities`).

    Patches of video have `temporal_patch_size` frames of `spatial_patch_size` pixels square, or
    `spatial_patch_width` wide, those of a spectrogram `audio_temporal_patch_size` times and
    `audio_spectral_patch_size` bands; what remains at the end of an axis is left out.

    `encoder_strategy`: each modality has an encoder ("separate_encoders"), they share one and are
    encoded one after the other ("same_encoder") or as one sequence ("concat_and_encode"), or the
    last `fusion_layers` of `num_layers` see both ("separate_encoders_and_concat").
    `decoder_strategy`: one decoder for each by itself ("same_decoder"), one for both as a sequence
    ("concat_and_decode"), or one each ("separate_decoders").

    `masking_strategy`: "random" tokens, or "tube", of video alone, the same places of all frames.
    `video_mask`, `audio_mask`: share of the tokens that are masked. `use_inpainting`: a modality is
    reconstructed from the visible tokens of the other one alone, which take its first places;
    `shuffle_inpainted_tokens` moves them to others, but not the targets, as published.

    `use_modality_tokens`: a learned vector of its modality is added to each token.
    `normalise_encoder_output`: encoders and decoders end with a norm. `init_head_bias`: of the
    layers that predict.
    """

    model_name: str = "av_mae"
    modalities: Modalities = MODALITIES
    temporal_patch_size: Count = 2
    spatial_patch_size: Count = 16
    spatial_patch_width: Count | None = None
    audio_temporal_patch_size: Count = 16
    audio_spectral_patch_size: Count = 16
    encoder_strategy: base.choice(SEPARATE, EARLY, SHARED, MID) = MID
    fusion_layers: WholeNumber = 2
    positional_embedding: Positions = "sinusoidal_1d"
    use_modality_tokens: bool = False
    normalise_encoder_output: bool = True
    decoder_strategy: base.choice(SAME_DECODER, OWN_DECODERS, JOINT_DECODER) = SAME_DECODER
    decoder_config: DecoderConfig = Field(default_factory=DecoderConfig)
    use_projection_bias: bool = True
    init_head_bias: Number = 0.0
    masking_strategy: base.choice("random", "tube") = "random"
    video_mask: MaskShare = 0.9
    audio_mask: MaskShare = 0.7
    use_inpainting: bool = False
    shuffle_inpainted_tokens: bool = False
    loss_config: LossConfig = Field(default_factory=LossConfig)

    @property
    def required_modalities(self) -> tuple[str, ...]:
        """What every set that it is trained on must have."""
        return self.modalities

    @property
    def separate_layers(self) -> int:
        """Layers of an encoder that sees one modality, or of the only one."""
        return self.num_layers - self.fusion_layers * (self.encoder_strategy == MID)

    def patch(self, modality: str) -> tuple[int, ...]:
        """Returns the size of a patch: frames, rows and columns, or times and bands."""
        if modality == "video":
            height = self.spatial_patch_size
            return (self.temporal_patch_size, height, self.spatial_patch_width or height)
        return (self.audio_temporal_patch_size, self.audio_spectral_patch_size)

    def mask(self, modality: str) -> float:
        """Returns the share of a modality's tokens that is masked."""
        return self.video_mask if modality == "video" else self.audio_mask

    # What does not fit together ----------------------------------------------------------------

    def problems(self) -> Problems:
        """Yields what does not fit together, whatever the clips."""
        path = "model_config"
        if not self.modalities or list(self.modalities) != [
            m for m in MODALITIES if m in self.modalities
        ]:
            accepted = "expected [video, audio] or one of them"
            yield Problem(f"{path}.modalities", list(self.modalities), accepted)
        for below, encoder in (("", self), ("decoder_config.", self.decoder_config)):
            width = encoder.num_heads * encoder.d_kv
            if width != encoder.d_model:
                accepted = f"expected d_model / num_heads, {encoder.d_model} / {encoder.num_heads}"
                hint = f" Try {encoder.d_model // encoder.num_heads}."
                yield Problem(f"{path}.{below}d_kv", encoder.d_kv, accepted, hint)
        if self.encoder_strategy == MID and not 0 < self.fusion_layers < self.num_layers:
            accepted = f"expected 1 to {self.num_layers - 1}, fewer than num_layers"
            yield Problem(f"{path}.fusion_layers", self.fusion_layers, accepted)
        if (self.encoder_strategy, self.decoder_strategy) == (SEPARATE, OWN_DECODERS):
            accepted = f"expected {SAME_DECODER} or {JOINT_DECODER}: with {SEPARATE} the modalities"
            yield Problem(
                f"{path}.decoder_strategy", OWN_DECODERS, f"{accepted} would share nothing"
            )
        if self.masking_strategy == "tube" and self.modalities != ("video",):
            accepted = "expected random: tubes are of video, the only one of modalities"
            yield Problem(f"{path}.masking_strategy", "tube", accepted)
        yield from self._inpainting_problems(path)

    def _inpainting_problems(self, path: str) -> Problems:
        if self.use_inpainting and self.modalities != MODALITIES:
            accepted = "expected false: a modality is reconstructed from the other one"
            yield Problem(f"{path}.use_inpainting", True, accepted)
        if self.shuffle_inpainted_tokens and not self.use_inpainting:
            accepted = "expected false, or use_inpainting true"
            yield Problem(f"{path}.shuffle_inpainted_tokens", True, accepted)

    def clip_problems(self, path: str, data: dataset.Dataset) -> Problems:
        """Yields clips of which no patch, or no visible or masked token, is left."""
        if "audio" in self.modalities and data.raw_audio:
            accepted = "expected false: the model hears spectrograms"
            yield Problem(f"{path}.raw_audio", True, accepted)
            return
        if "video" in self.modalities and data.space_to_depth:
            accepted = "expected false: the model takes patches of whole pictures"
            yield Problem(f"{path}.space_to_depth", True, accepted)
        tokens: dict[str, tuple[int, int]] = {}
        for modality in self.modalities:
            sides = list(zip(_axes(modality, data), self.patch(modality), strict=True))
            short = {
                field: f"gives {size} {_UNITS[field]}, less than a patch of {side} of {modality}"
                for (field, size), side in sides
                if size < side
            }
            for field, accepted in short.items():
                yield Problem(f"{path}.{field}", getattr(data, field), accepted)
            if not short:
                times, *beside = (size // side for (_, size), side in sides)
                tokens[modality] = (times, math.prod(beside))
        yield from self._mask_problems(path, tokens)

    def _mask_problems(self, path: str, tokens: Mapping[str, tuple[int, int]]) -> Problems:
        """Yields masks of none or all tokens; `tokens` are those in time and at one time."""
        counts = {m: math.prod(grid) for m, grid in tokens.items()}
        for modality, count in counts.items():
            drawn = tokens[modality][1] if self.masking_strategy == "tube" else count
            share = self.mask(modality)
            if not 0 < int(share * drawn) < drawn:
                left = "all" if int(share * drawn) else "none"
                accepted = (
                    f"masks {left} of the {drawn} tokens of {modality} that {path} gives; expected"
                    f" more than {1 / drawn:.3g}, less than 1"
                )
                yield Problem(f"model_config.{modality}_mask", share, accepted)
        if self.use_inpainting and len(counts) == len(MODALITIES):
            for modality, other in (MODALITIES, MODALITIES[::-1]):
                visible = counts[other] - int(self.mask(other) * counts[other])
                if visible >= counts[modality]:
                    accepted = (
                        f"leaves {visible} visible tokens, which do not fit into the"
                        f" {counts[modality]} of {modality} that {path} gives"
                    )
                    yield Problem(f"model_config.{other}_mask", self.mask(other), accepted)


_UNITS = {
    "num_frames": "frames",
    "frame_size": "pixels",
    "audio_seconds": "times of the spectrogram",
    "mel_bins": "bands",
}


def _axes(modality: str, data: dataset.Dataset) -> list[tuple[str, int]]:
    """Returns how long the axes of a clip are, with the field that says so."""
    if modality == "video":
        size = data.frame_size
        return [("num_frames", data.num_frames), ("frame_size", size), ("frame_size", size)]
    return [("audio_seconds", data.num_spectrogram_times), ("mel_bins", data.mel_bins)]


class Pretrain(experiment.Pretrain):
    """A pretraining run of AV-MAE."""

    method: ClassVar[str] = "av_mae"

    model: SerializeAsAny[ModelConfig] = Field(default_factory=ModelConfig, alias="model_config")


# Presets ---------------------------------------------------------------------------------------

# Width, heads, width of the MLP, layers, of encoder and decoder. Decoders of the small and the tiny
# encoder are not published.
SIZES = {
    "large": ((1024, 16, 4096, 24), (512, 8, 2048, 4)),
    "base": ((768, 12, 3072, 12), (384, 6, 1536, 4)),
    "small": ((384, 6, 1536, 12), (192, 3, 768, 4)),
}
BATCH = 512
EPOCH = 1_857_210 // BATCH  # steps: clips of AudioSet
SEEN = {
    "num_frames": 16,
    "video_stride": 4,
    "frame_size": 224,
    "min_resize": 224,
}
HEARD = {
    "sample_rate": 16_000,
    "raw_audio": False,
    "audio_features": "unscaled_log_mel",
    "mel_bins": 128,
    "stft_length": 0.025,
    "stft_step": 0.01,
    "audio_seconds": 10.0,
}
AUGMENTED = {"min_resize": 256, "scale_jitter": False, "color_augment": False}


def _sized(sizes: tuple[int, int, int, int]) -> dict[str, int]:
    width, heads, hidden, layers = sizes
    return {
        "d_model": width,
        "num_heads": heads,
        "d_kv": width // heads,
        "d_ff": hidden,
        "num_layers": layers,
    }


def _optimizer(rate: float, warmup: int, steps: int) -> experiment.FlaxAdamOptimizer:
    """The published one."""
    schedule = experiment.CosineDecayLearningRate(
        learning_rate_base=rate, warmup_steps=warmup, total_steps=steps
    )
    return experiment.FlaxAdamOptimizer(learning_rate=schedule)


def audioset(size: str) -> Pretrain:
    """Returns the published run on AudioSet, with an encoder of a size."""
    encoder, decoder = (_sized(sizes) for sizes in SIZES[size])
    return Pretrain(
        model=ModelConfig(**encoder, decoder_config=DecoderConfig(**decoder)),
        train=experiment.TrainConfig(
            input=dataset.Pretrain(name="audioset", batch_size=BATCH, **SEEN | HEARD | AUGMENTED),
            optimizer=_optimizer(6e-4, 4 * EPOCH, 120 * EPOCH),
            max_checkpoints=3,
        ),
        eval=experiment.EvalConfig(input=dataset.Evaluation(**{**SEEN, **HEARD})),
        seed=42,
    )


def tiny() -> Pretrain:
    """Returns a run that trains on a CPU; not published."""
    seen = {"num_frames": 8, "fps": 10.0, "video_stride": 2, "frame_size": 48, "min_resize": 48}
    heard = {**HEARD, "mel_bins": 64, "audio_seconds": 1.6}
    heard |= {"audio_mean": -0.56, "audio_std": 2.41}  # of the toy corpus
    changed = {"min_resize": 56, "scale_jitter": False, "color_augment": False}
    data = dataset.Pretrain(name="toy_audioset", batch_size=16, **seen | heard | changed)
    model = ModelConfig(
        model_name="av_mae_tiny",
        **_sized((96, 4, 384, 4)),
        spatial_patch_size=8,
        audio_temporal_patch_size=8,
        encoder_strategy=MID,
        fusion_layers=1,
        decoder_config=DecoderConfig(**_sized((48, 2, 192, 1))),
        video_mask=0.8,
        loss_config=LossConfig(standardise_per_patch=True),
    )
    return Pretrain(
        model=model,
        train=experiment.TrainConfig(input=data, optimizer=_optimizer(1e-3, 60, 2_000)),
        eval=experiment.EvalConfig(input=dataset.Evaluation(**seen | heard)),
        jit_compile=True,  # small layers take half the time
    )
