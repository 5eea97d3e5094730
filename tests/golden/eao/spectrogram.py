"""The spectrogram of a waveform."""

from __future__ import annotations

import numpy as np

from tests.golden.checks import Checks, Golden, absolute
from vatt.data.tokens import spectrogram

DECIBELS = 2e-3  # absolute; the reference computes in float32
FULL_SCALE = 32768.0


def _spectrogram(content: Golden) -> Checks:
    yield absolute("window", spectrogram.window(), content["window"], 1e-12)
    yield absolute("mel_filters", spectrogram.filters(), content["mel_filters"], 1e-8)
    samples = content["pcm"].astype(np.float32) / FULL_SCALE
    yield absolute("logmel", spectrogram.log_mel(samples).T, content["logmel"], DECIBELS)


HANDLERS = {"spectrogram.npz": _spectrogram}
