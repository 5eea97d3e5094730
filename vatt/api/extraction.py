"""Features of records by a model: a tower of ours, or one of keras.applications; spectrograms.

    tower = Tower("vatt", vatt.load("runs/toy"), VIDEO, rate=1.0)
    (vectors,) = tower([clip])                   # float32 [steps, width] of a ClipRecord

Vector k is of the time from k / rate to (k + 1) / rate: of a tower the window whose middle is
nearest to the middle of that time, of a picture model the picture that is shown there.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import math
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType

import keras
import numpy as np
from PIL import Image

from vatt.api import streaming
from vatt.api.model import Model
from vatt.data.features import AUDIO, SPECTROGRAM, VIDEO
from vatt.data.ingest import samples
from vatt.data.ingest.extracted import Extracted
from vatt.data.media import MediaClip
from vatt.data.media.sound import resample
from vatt.data.records import ClipRecord
from vatt.data.tokens import sound, spectrogram
from vatt.errors import DataError, UserError, nearest
from vatt.evaluators.subject import POOLED

LEAST_FRAMES = 1.0  # per second, where no pictures are needed
KERAS = "keras:"  # in front of the name of an application
Recipe = dict[str, str | int | float | bool]
_TICK = 1e-6  # of a vector, for times that are no binary fractions
_TOGETHER = 16  # pictures in the model at a time


def middles(clip: ClipRecord, rate: float) -> np.ndarray:
    """Float64 [steps]: the middle (s from the start of the clip) of the time of each vector."""
    count = max(1, math.ceil(samples.seconds(clip) * rate - _TICK))
    return (np.arange(count) + 0.5) / rate


class Tower:
    """What a tower of a model gives for windows of pictures or sound.

    Attributes:
      name: of the feature.
      rate: vectors per second.
      frame_rate: pictures per second that it needs.
      recipe: what decides the vectors.
    """

    def __init__(
        self, name: str, model: Model, modality: str, rate: float, space: str = POOLED
    ) -> None:
        """Takes a model that `vatt.load` gave.

        Args:
          name: of the feature.
          model: the model.
          modality: VIDEO or AUDIO.
          rate: vectors per second.
          space: what is taken of what the model gives: `features_pooled`, or an embedding.

        Raises:
          UserError: the model does not take the modality alone.
        """
        encoder, self._reader, _ = model.parts
        if modality not in model.modalities or encoder.together:
            raise UserError(
                f"{name}: {model.name} takes {' and '.join(model.modalities)}"
                f"{' together' if encoder.together else ''}, not {modality}"
            )
        self.name, self.rate = name, rate
        self._encoder, self._modality, self._space = encoder, modality, space
        self.frame_rate = self._reader.settings.fps if modality == VIDEO else LEAST_FRAMES
        told = ("model", "architecture", "checkpoint", "step", "window_seconds", "frame_rate")
        self.recipe: Recipe = {key: model.recipe[key] for key in told}
        self.recipe |= {"modality": modality, "layer": space}

    def __call__(self, clips: Sequence[ClipRecord]) -> Iterator[Extracted]:
        """Yields float32 [steps, width] of each clip; None of one without pictures or sound."""
        sources = [self._source(clip) for clip in clips]
        asked = [
            (clip.source, source, (None, None))
            for clip, source in zip(clips, sources, strict=True)
            if source is not None
        ]
        kind, stride = (self._modality,), 1.0 / self.rate
        found = streaming.results(self._reader, self._encoder, asked, [kind], stride)
        for clip, source in zip(clips, sources, strict=True):
            made = None if source is None else next(found)[1]
            usable = made is not None and not isinstance(made, DataError)
            yield self._chosen(clip, made[kind]) if usable else made

    def _chosen(self, clip: ClipRecord, made: streaming.Encoded) -> np.ndarray:
        """For each step the window whose middle is nearest."""
        if self._space not in made.arrays:
            raise UserError(
                f"--space: '{self._space}'; {self._modality} has {', '.join(made.arrays)}."
                f"{nearest(self._space, made.arrays)}"
            )
        times = (made.starts + made.ends) / 2
        wanted = middles(clip, self.rate)
        chosen = np.abs(times - wanted[:, np.newaxis]).argmin(axis=1)
        return made.arrays[self._space][chosen]

    def _source(self, clip: ClipRecord) -> MediaClip | None:
        """The clip as the model's run would have stored it: its pictures and samples per second."""
        seconds = samples.seconds(clip)
        if self._modality == VIDEO and clip.frames:
            fps = self._reader.settings.fps
            count = max(1, math.floor(seconds * fps + _TICK))
            shown = [_frame_at(clip, (number + 0.5) / fps) for number in range(count)]
            return MediaClip(0.0, max(seconds, 1.0 / fps), frames=shown)
        if self._modality == AUDIO and clip.waveform is not None:
            rate = self._reader.sample_rate
            heard = resample(np.asarray(clip.waveform, np.float32), clip.sample_rate, rate)
            return MediaClip(0.0, len(heard) / rate, waveform=np.clip(heard, -1, 1))
        return None


def _frame_at(clip: ClipRecord, moment: float) -> bytes:
    """The JPEG that is shown at a time (s from the start of the clip)."""
    return clip.frames[min(math.floor(moment * clip.fps + _TICK), len(clip.frames) - 1)]


class Application:
    """What a model of keras.applications gives for single pictures, without its classifier.

    The shorter side of a picture becomes `side` pixels; nothing is cut off.

    Attributes:
      name: of the feature.
      rate: vectors per second.
      frame_rate: pictures per second that it needs.
      recipe: what decides the vectors.
    """

    def __init__(self, name: str, application: str, rate: float, weights: str, side: int) -> None:
        """Builds the model.

        Args:
          name: of the feature.
          application: name of the class or function, in any case.
          rate: vectors per second.
          weights: "imagenet", a file of weights, or "none" for random ones.
          side: pixels.

        Raises:
          UserError: no such model, or no such weights.
        """
        self.name, self.rate, self.frame_rate, self._side = name, rate, rate, side
        known, module = _application(application)
        given = None if weights == "none" else weights
        try:
            keras.utils.set_random_seed(0)
            build = getattr(module, known)
            self._model = build(include_top=False, weights=given, pooling="avg")
        except Exception as error:  # whatever Keras raises for a file, or for the network
            raise UserError(
                f"--weights {weights}: {known} cannot be built ({error}). Accepted: imagenet, "
                "which Keras fetches once, a file of weights, or none for random ones"
            ) from error
        self._prepare: Callable[[np.ndarray], np.ndarray] = module.preprocess_input
        self.recipe: Recipe = {
            "model": KERAS + known,
            "weights": weights,
            "weights_sha256": _digest(self._model),
            "side": side,
            "layer": "mean of the last map",
        }

    def __call__(self, clips: Sequence[ClipRecord]) -> Iterator[Extracted]:
        """Yields float32 [steps, width] of each clip; None of one without pictures."""
        yield from (self._vectors(clip) if clip.frames else None for clip in clips)

    def _vectors(self, clip: ClipRecord) -> np.ndarray:
        shown = [_frame_at(clip, moment) for moment in middles(clip, self.rate)]
        made = []
        for start in range(0, len(shown), _TOGETHER):
            pictures = np.stack([self._picture(jpeg) for jpeg in shown[start : start + _TOGETHER]])
            made.append(np.asarray(self._model(self._prepare(pictures), training=False)))
        return np.concatenate(made)

    def _picture(self, jpeg: bytes) -> np.ndarray:
        """Float32 [height, width, 3], 0 to 255."""
        with Image.open(io.BytesIO(jpeg), formats=("JPEG", "PNG")) as image:
            factor = self._side / min(image.size)
            size = tuple(max(self._side, round(length * factor)) for length in image.size)
            resized = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
        return np.asarray(resized, np.float32)


def _application(name: str) -> tuple[str, ModuleType]:
    """The name of a model as it is spelled, and the module that it is in."""
    found = [known for known in vars(keras.applications) if known[:1].isupper()]
    known = next((known for known in found if known.lower() == name.lower()), None)
    if known is None:
        raise UserError(
            f"'{KERAS}{name}': keras.applications has no such model.{nearest(name, found)}"
        )
    return known, importlib.import_module(getattr(keras.applications, known).__module__)


def _digest(model: keras.Model) -> str:
    found = hashlib.sha256()
    for weight in model.get_weights():
        found.update(np.ascontiguousarray(weight).tobytes())
    return found.hexdigest()


class Spectrogram:
    """The log-mel spectrogram of the sound (`vatt.data.tokens.spectrogram`).

    Attributes:
      name: of the feature.
      rate: vectors per second.
      frame_rate: pictures per second that it needs: as few as there can be.
      recipe: what decides the vectors.
    """

    name = SPECTROGRAM
    rate, frame_rate = sound.RATE, LEAST_FRAMES

    def __init__(self) -> None:
        self.recipe: Recipe = {
            "kind": "log-mel, dB below the loudest of the clip",
            "sample_rate": sound.SAMPLE_RATE,
            "window": sound.WINDOW,
            "step": sound.STEP,
            "bands": sound.BANDS,
        }

    def __call__(self, clips: Sequence[ClipRecord]) -> Iterator[Extracted]:
        """Yields float32 [windows, bands] of each clip; None of one without sound."""
        for clip in clips:
            yield None if clip.waveform is None else self._vectors(clip)

    def _vectors(self, clip: ClipRecord) -> np.ndarray:
        waveform = np.asarray(clip.waveform, np.float32)
        heard = resample(waveform, clip.sample_rate, sound.SAMPLE_RATE)
        return spectrogram.log_mel(heard * spectrogram.GAIN)
