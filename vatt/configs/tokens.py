"""What transformers on patches ask of their clips; checks that several backbones share."""

from __future__ import annotations

from vatt.configs import dataset
from vatt.configs.base import Config
from vatt.configs.problems import Problem, Problems


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
        yield Problem(
            f"{path}.num_frames",
            data.num_frames,
            f"a clip has {samples} audio samples (sample_rate {data.sample_rate} * num_frames"
            f" / fps {data.fps:g}), which patches of {patch} every {stride} of {owner} do not cover"
            " evenly",
            _suggest_frames(data, patch, stride),
        )


def _suggest_frames(data: dataset.Dataset, patch: int, stride: int) -> str:
    def fits(frames: int) -> bool:
        samples = int(data.sample_rate * frames / data.fps)
        return samples >= patch and (samples - patch) % stride == 0

    near = sorted(range(1, 4 * data.num_frames + 1), key=lambda n: abs(n - data.num_frames))
    found = next((n for n in near if fits(n)), None)
    return f" Try num_frames {found}." if found else " Change sample_rate, fps or the patch size."
