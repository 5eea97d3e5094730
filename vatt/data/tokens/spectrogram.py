"""The spectrogram of a waveform in decibels below its loudest value, in [-80, 0].

    vectors = log_mel(samples)      # float32 [1 + samples // 160, 40], 100 in a second

As AVLnet's (Rouditchenko et al., 2021): at 16 kHz, mean taken off, emphasised, windows of 25 ms
every 10 ms by a symmetric Hamming window, 40 bands from 20 Hz to 8 kHz on Slaney's mel scale, each
of equal area.
"""

from __future__ import annotations

import functools

import numpy as np

from vatt.data.tokens.sound import BANDS, SAMPLE_RATE, STEP, WINDOW

LOWEST_HZ, HIGHEST_HZ = 20.0, 8000.0
EMPHASIS = 0.97
GAIN = 10.0 ** (-4.0 / 20.0)  # that waveforms are made softer by, so that nothing is clipped
LEAST_POWER = 1e-10
DEEPEST = -80.0  # dB
EMPTY = 200  # samples of silence in place of a waveform without any
_BLOCK = 8192  # windows transformed at once
_BREAK_HZ, _BREAK_MEL = 1000.0, 15.0  # linear below, logarithmic above: 27 mel for a factor of 6.4
_LOG_STEP = np.log(6.4) / 27.0


def window() -> np.ndarray:
    """Float64 [WINDOW], the symmetric Hamming window."""
    return np.hamming(WINDOW)


def log_mel(waveform: np.ndarray) -> np.ndarray:
    """Float32 [windows, BANDS] of a mono waveform at `SAMPLE_RATE`.

    Windows are centred on every `STEP`-th sample; the waveform is reflected at both ends.
    """
    samples = np.asarray(waveform, np.float64)
    samples = samples if len(samples) else np.zeros(EMPTY)
    samples = samples - samples.mean()
    samples = np.concatenate([samples[:1], samples[1:] - EMPHASIS * samples[:-1]])
    padded = np.pad(samples, WINDOW // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::STEP]
    power = np.concatenate([_power(frames[k : k + _BLOCK]) for k in range(0, len(frames), _BLOCK)])
    decibels = 10.0 * np.log10(np.maximum(power, LEAST_POWER))
    return np.maximum(decibels - decibels.max(), DEEPEST).astype(np.float32)


def _power(frames: np.ndarray) -> np.ndarray:
    """[windows, bands] of windows [windows, WINDOW]."""
    return np.abs(np.fft.rfft(frames * window())) ** 2 @ filters().T


@functools.cache
def filters() -> np.ndarray:
    """Float64 [BANDS, WINDOW // 2 + 1]: triangles that are 2 / width high (Hz)."""
    corners = _hertz(np.linspace(_mel(LOWEST_HZ), _mel(HIGHEST_HZ), BANDS + 2))
    hertz = np.arange(WINDOW // 2 + 1) * SAMPLE_RATE / WINDOW
    low, peak, high = (corners[k : BANDS + k, np.newaxis] for k in range(3))
    rising, falling = (hertz - low) / (peak - low), (high - hertz) / (high - peak)
    return np.maximum(np.minimum(rising, falling), 0.0) * 2.0 / (high - low)


def _mel(hertz: float) -> float:
    if hertz < _BREAK_HZ:
        return hertz * _BREAK_MEL / _BREAK_HZ
    return _BREAK_MEL + np.log(hertz / _BREAK_HZ) / _LOG_STEP


def _hertz(mel: np.ndarray) -> np.ndarray:
    above = _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL))
    return np.where(mel < _BREAK_MEL, mel * _BREAK_HZ / _BREAK_MEL, above)
