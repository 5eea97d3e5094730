"""What a model hears of a clip: its waveform, or one of the spectrograms of the configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import tensorflow as tf

from vatt.data import audio, filterbank
from vatt.errors import DataError

if TYPE_CHECKING:
    from vatt import configs


def shape(cfg: configs.dataset.Dataset) -> tuple[int, ...]:
    """Of the sound of a clip: (samples, 1) or (times, bands, 1)."""
    if cfg.raw_audio:
        return (cfg.num_audio_samples, 1)
    return (cfg.num_spectrogram_times, cfg.mel_bins, 1)


def of(
    samples: tf.Tensor,
    cfg: configs.dataset.Dataset,
    log_mel: Callable[..., tf.Tensor] = audio.log_mel,
    log_filterbank: Callable[..., tf.Tensor] = filterbank.log_filterbank,
    unscaled_log_mel: Callable[..., tf.Tensor] = audio.unscaled_log_mel,
) -> tf.Tensor:
    """Float32 [..., samples] in [-1, 1] -> [..., samples, 1] or [..., times, bands, 1].

    The functions make the spectrograms.
    """
    if cfg.raw_audio:
        return samples[..., tf.newaxis]
    if cfg.audio_features == "stored":
        raise DataError(
            "audio_features=stored: spectrograms are read from records; of a waveform none is made"
        )
    how = (cfg.sample_rate, cfg.mel_bins, cfg.stft_length, cfg.stft_step)
    if cfg.audio_features == "filterbank":
        found = log_filterbank(samples, *how)
    elif cfg.audio_features == "unscaled_log_mel":
        length, step = _samples(cfg)
        found = unscaled_log_mel(samples, cfg.sample_rate, cfg.mel_bins, length, step, cfg.spectrum)
    else:
        found = audio.minmax_normalise(log_mel(samples, *how))
    return normalised(found, cfg)


def normalised(spectrogram: tf.Tensor, cfg: configs.dataset.Dataset) -> tf.Tensor:
    """What is heard of a spectrogram, of any shape: by `audio_mean` and `audio_std`."""
    return (spectrogram - cfg.audio_mean) / cfg.audio_std


def _samples(cfg: configs.dataset.Dataset) -> tuple[int, int]:
    """Samples of a window, and from one to the next."""
    return int(cfg.sample_rate * cfg.stft_length), int(cfg.sample_rate * cfg.stft_step)


def check(cfg: configs.dataset.Dataset) -> None:
    """Refuses what no sound could become.

    Raises:
      DataError: naming the fields.
    """
    if cfg.num_audio_samples < 1:
        raise DataError(
            f"sample_rate={cfg.sample_rate}, num_frames={cfg.num_frames}, fps={cfg.fps} and "
            f"audio_seconds={cfg.audio_seconds} give a clip of {cfg.num_audio_samples} audio "
            "samples."
        )
    if cfg.raw_audio:
        return
    reach = {"log_mel": audio.MEL_HIGHEST_HZ, "unscaled_log_mel": cfg.spectrum.highest_hz}
    highest = reach.get(cfg.audio_features, 0.0)
    if cfg.sample_rate < 2 * highest:
        raise DataError(
            f"sample_rate={cfg.sample_rate} is too low for spectrograms, whose bins reach "
            f"{highest:.0f} Hz: it must be at least {2 * highest:.0f}, or raw_audio must be true, "
            "or audio_features filterbank, or unscaled_log_mel with a lower spectrum.highest_hz."
        )
    if int(cfg.sample_rate * min(cfg.stft_step, cfg.stft_length)) < 1:
        raise DataError(
            f"stft_length={cfg.stft_length} and stft_step={cfg.stft_step} (s) must each cover at "
            f"least one sample at sample_rate={cfg.sample_rate}."
        )
