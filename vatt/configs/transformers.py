"""What configurations of transformers have in common: fields, published sizes, checks of clips.

Classes here are given as the first base, so that their defaults count: `class ViTMedium(Medium,
ViTBase)`.
"""

from __future__ import annotations

from vatt.configs import base, dataset
from vatt.configs.base import Config, Count, Layers, Positive, Rate, UnitInterval
from vatt.configs.problems import Problem, Problems, divides

_NEAR = 10_000  # frames from those given, within which others are tried


class Encoder(Config):
    """A transformer encoder, in the published base size."""

    d_model: Count = 768
    d_kv: Count = 64
    d_ff: Count = 3072
    num_layers: Layers = 12
    num_heads: Count = 12
    activation: base.Activation | None = "gelu"
    dropout_rate: Rate = 0.1
    layer_norm_epsilon: Positive = 1e-6


class NormedEncoder(Encoder):
    """An encoder whose norms and biases can be chosen."""

    pre_norm: bool = True
    use_bias: bool = True


class PatchEncoder(NormedEncoder):
    """An encoder of patches, with projections around it and masking of tokens.

    `stochastic_depth`: share of the rows that the last layer leaves as they are, in training; of
    the layers before it less, of the first none (`layers.encoder.EncoderOptions`).
    """

    pre_projection: bool = False
    use_masking: bool = False
    mask_rate: UnitInterval = 0.2
    post_projection: bool = False
    d_post_proj: Count = 1024
    post_proj_activation: base.Activation | None = "gelu"
    stochastic_depth: Rate = 0.0


class Medium(Config):
    """The published medium size."""

    d_model: Count = 1024
    d_ff: Count = 4096
    num_heads: Count = 16


class Small(Config):
    """The published small size of text encoders."""

    d_pre_proj: Count | None = 512
    d_model: Count = 512
    d_ff: Count = 2048
    num_layers: Layers = 6
    num_heads: Count = 8


class Tiny(Config):
    """Not published: trains on a CPU."""

    d_model: Count = 96
    d_kv: Count = 24
    d_ff: Count = 384
    num_heads: Count = 4
    dropout_rate: Rate = 0.0


def covers_frames(
    path: str, data: dataset.Dataset, frames: int, pixels: int, owner: str
) -> Problems:
    """Yields clips that patches of so many frames and pixels do not cover evenly."""
    what = f"the patch of {owner}"
    yield from divides(f"{path}.num_frames", data.num_frames, frames, f"{what} (frames)")
    yield from divides(f"{path}.frame_size", data.frame_size, pixels, f"{what} (pixels)")


def keeps_tokens(path: str, backbone: Config, tokens: int) -> Problems:
    """Yields a problem when DropToken would leave none of `tokens`."""
    if backbone.random_patch_sampling and int(backbone.patch_sampling_rate * tokens) < 1:
        yield Problem(
            f"{path} patch_sampling_rate",
            backbone.patch_sampling_rate,
            f"keeps none of {tokens} tokens; expected at least {1 / tokens:.3g}",
        )


def covers_waveform(
    path: str, data: dataset.Dataset, patch: int, stride: int, owner: str
) -> Problems:
    """Yields spectrograms, and waveforms not covered evenly by patches every `stride` samples."""
    if not data.raw_audio:
        yield Problem(f"{path}.raw_audio", False, f"expected true: {owner} reads waveforms")
        return
    samples = data.num_audio_samples
    if samples < patch or (samples - patch) % stride:
        field, seconds = "num_frames", f"num_frames / fps {data.fps or dataset.PUBLISHED_FPS:g}"
        if data.audio_seconds is not None:
            field = seconds = "audio_seconds"
        yield Problem(
            f"{path}.{field}",
            getattr(data, field),
            f"a clip has {samples} audio samples (sample_rate {data.sample_rate} *"
            f" {seconds}), which patches of {patch} every"
            f" {stride} of {owner} do not cover evenly",
            _suggest_frames(data, patch, stride),
        )


def holds_patch(path: str, data: dataset.Dataset, times: int, bands: int, owner: str) -> Problems:
    """Yields waveforms, and spectrograms that hold no patch of so many times and bands."""
    if data.raw_audio:
        yield Problem(f"{path}.raw_audio", True, f"expected false: {owner} reads spectrograms")
        return
    if data.num_spectrogram_times < times:
        field = "num_frames" if data.audio_seconds is None else "audio_seconds"
        least = times * data.stft_step
        yield Problem(
            f"{path}.{field}",
            getattr(data, field),
            f"a spectrogram of {data.num_spectrogram_times} times (stft_step {data.stft_step:g} s)"
            f" holds no patch of {times} times of {owner}",
            f" Try audio_seconds {least:g}.",
        )
    if data.mel_bins < bands:
        yield Problem(
            f"{path}.mel_bins",
            data.mel_bins,
            f"holds no patch of {bands} bands of {owner}",
            f" Try {bands}.",
        )


def _suggest_frames(data: dataset.Dataset, patch: int, stride: int) -> str:
    def fits(frames: int) -> bool:
        samples = data.audio_samples(frames)
        return samples >= patch and (samples - patch) % stride == 0

    if data.audio_seconds is not None:
        patches = max(data.num_audio_samples - patch, 0) // stride
        return f" Try audio_seconds {(patches * stride + patch) / data.sample_rate:.9g}."
    given = data.num_frames
    near = (n for far in range(min(3 * given, _NEAR) + 1) for n in (given - far, given + far))
    found = next((n for n in near if n > 0 and fits(n)), None)
    return f" Try num_frames {found}." if found else " Change sample_rate, fps or the patch size."
