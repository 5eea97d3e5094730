"""Pictures and sounds that are arrays, as what a media file with them would be decoded to."""

from __future__ import annotations

import math

import av
import numpy as np

from vatt.data.media import MediaClip
from vatt.data.media.clip import Request
from vatt.data.media.pictures import Encoder
from vatt.data.media.sound import resample
from vatt.errors import DataError
from vatt.experiments.media_settings import MediaSettings

_FULL_SCALE = {"int16": 2.0**15, "int32": 2.0**31}


def video(frames: np.ndarray, fps: float | None, settings: MediaSettings) -> MediaClip:
    """Returns pictures as ingest would store them.

    Args:
      frames: uint8 [frames, height, width, 3], RGB.
      fps: of the array; None is that of the run's records.
      settings: how the run's records were made.

    Raises:
      DataError: not such an array.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise DataError(
            f"video: an array {frames.dtype} {list(frames.shape)}; accepted is uint8 "
            "[frames, height, width, 3], RGB from 0 to 255"
        )
    rate = _positive("fps", fps, settings.fps)
    end = len(frames) / rate
    request = Request(0.0, end, settings.fps, settings.min_side, 1, settings.jpeg_quality)
    times = (np.arange(request.num_frames()) + 0.5) / settings.fps
    shown = np.minimum(np.floor(times * rate + 1e-6).astype(int), len(frames) - 1)
    clip = MediaClip(0.0, end)
    encoder, made = Encoder(request, clip.notices), {}
    for number in np.unique(shown):
        picture = np.ascontiguousarray(frames[number])
        made[number] = encoder.encode(av.VideoFrame.from_ndarray(picture, "rgb24"))
    clip.frames = [made[number] for number in shown]
    clip.height, clip.width = encoder.size
    return clip


def audio(samples: np.ndarray, rate: int | None, run_rate: int) -> MediaClip:
    """Returns sound as ingest would store it: one channel, at the rate of the run.

    Args:
      samples: [samples] or [samples, channels], floats in [-1, 1] or int16 or int32.
      rate: of the array (Hz); None is that of the run.
      run_rate: of the run.

    Raises:
      DataError: not such an array.
    """
    kind = samples.dtype.name
    floats = samples.dtype.kind == "f"
    if samples.ndim not in (1, 2) or not (floats or kind in _FULL_SCALE) or not samples.size:
        raise DataError(
            f"audio: an array {kind} {list(samples.shape)}; accepted is [samples] or [samples, "
            "channels] of floats from -1 to 1, int16 or int32"
        )
    if samples.ndim == 2 and samples.shape[1] > samples.shape[0]:
        raise DataError(
            f"audio: an array {list(samples.shape)}, more channels than samples: [samples, "
            "channels] is accepted, transpose it"
        )
    waveform = samples.astype(np.float64) / _FULL_SCALE.get(kind, 1.0)
    if not np.isfinite(waveform).all():
        raise DataError("audio: the array has values that are not finite")
    mono = waveform if waveform.ndim == 1 else waveform.mean(axis=1)
    rate = _positive("sample_rate", rate, run_rate)
    if rate != int(rate):
        raise DataError(f"sample_rate: {rate:g} is not a whole number (Hz)")
    heard = np.clip(resample(mono.astype(np.float32), int(rate), run_rate), -1, 1)
    return MediaClip(0.0, len(mono) / rate, waveform=heard)


def _positive(name: str, given: float | None, default: float) -> float:
    if given is None:
        return default
    if not (math.isfinite(given) and given > 0):
        raise DataError(f"{name}: {given} is not a number above 0")
    return given
