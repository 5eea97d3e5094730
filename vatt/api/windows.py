"""From a media file or an array to what a model takes, as a record of its run would have become.

    reader = Reader(cfg.eval.input, settings, ("video", "audio"))
    for piece in reader.pieces(Path("talk.mp4")):
        taken = reader.read(piece, ["video"])     # may run in several threads
        taken.clips["video"].values           # float32 [windows, crops, frames, size, size, 3]

A file is read by ingest's decoder and becomes records in memory, which evaluation's own code makes
clips of. One that is no longer than evaluation's windows together is one record, in which the
windows are spread as in evaluation. Of a longer one every window is a record, as
`vatt.data.ingest --clip_seconds` would cut it, and some of them are decoded at a time: memory does
not grow with the file.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import av
import numpy as np
import tensorflow as tf

from vatt import configs
from vatt.data import cards, clips, lengths, media, pipeline, records, representation, vision
from vatt.data.features import AUDIO, VIDEO
from vatt.errors import DataError
from vatt.experiments.media_settings import MediaSettings

TOGETHER = 30.0  # s of a long file that are decoded at a time
LACKS = {VIDEO: "the file has no pictures", AUDIO: "the file has no sound"}
_TICK = 1e-6  # of a frame


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of a file or array that is read together.

    Attributes:
      source: path of the file; an array as what a file would have been decoded to.
      start: s; None is the start of the file.
      end: s; None is its end.
      windows: when windows begin that are records of their own (s from `start`); None: the piece is
        one record.
      part: whether there are others.
      whole: whether it is of the whole file, which may end with its pictures.
      opened: the file where it is open already.
    """

    source: Path | media.MediaClip
    start: float | None = None
    end: float | None = None
    windows: tuple[float, ...] | None = None
    part: bool = False
    whole: bool = False
    opened: av.container.InputContainer | None = None

    @property
    def place(self) -> str:
        """Where in a file it is, in words; empty for all of it."""
        if not self.part:
            return ""
        return f"from {self.start:.2f} s to {self.end:.2f} s"


@dataclasses.dataclass(frozen=True)
class Clips:
    """Windows of one modality: float32 [windows, crops, ...], and when each begins and ends (s)."""

    values: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


@dataclasses.dataclass(frozen=True)
class Taken:
    """What a piece became, by modality, without those it does not have, and what was noticed."""

    clips: Mapping[str, Clips]
    notices: tuple[str, ...] = ()


class Reader:
    """Makes clips of media files for one run; may be used by several threads.

    Attributes:
      seconds: how long a window is.
      settings: how records are made of files.
      sample_rate: of their sound (Hz).
      input: how clips are made of records.
      spec: the same, as it applies to records of these settings.
    """

    def __init__(
        self,
        cfg: configs.dataset.Evaluation | configs.dataset.Finetune,
        settings: MediaSettings,
        heard_and_seen: Sequence[str],
    ) -> None:
        """Takes `eval.input` of a run.

        Args:
          cfg: how clips are made of records.
          settings: how records are made of files.
          heard_and_seen: the modalities of the model, of VIDEO and AUDIO.

        Raises:
          DataError: no clip can be made.
        """
        representation.check(cfg)
        card = cards.Card(
            name="media files",
            video=cards.VideoInfo(fps=settings.fps),
            audio=cards.AudioInfo(sample_rate=cfg.sample_rate),
        )
        self.input, self.settings, self.sample_rate = cfg, settings, cfg.sample_rate
        self.spec = spec = pipeline.clip_spec(cfg, card, cfg.video_stride)
        lengths.check(cfg, card, spec, heard_and_seen)
        self._sound_seconds = spec.samples * spec.audio_stride / cfg.sample_rate
        lasting = {VIDEO: spec.seconds, AUDIO: self._sound_seconds}
        self.seconds = max(lasting[modality] for modality in heard_and_seen)
        self._times = functools.lru_cache(1024)(self._spread_times)
        self._making: dict[tuple[str, int], tf.types.experimental.PolymorphicFunction] = {}

    # -- which windows ---------------------------------------------------------------------

    def pieces(
        self,
        source: Path | media.MediaClip,
        start: float | None = None,
        end: float | None = None,
        stride: float | None = None,
    ) -> Iterator[Piece]:
        """Yields the pieces of a file, or of the part of it from `start` to `end` (s).

        Args:
          source: path of a file, or an array as `arrays` makes it.
          start: None is that of the file.
          end: None is that of the file.
          stride: s from window to window; None takes evaluation's windows where they cover the
            file, else one after the other.

        Raises:
          MediaError: the file cannot be used.
        """
        begin, finish, opened = start or 0.0, end, None
        if isinstance(source, media.MediaClip):
            finish = source.end - source.start if end is None else end
        elif end is None:
            finish, opened = media.measured(source)
        together = self.seconds * self.input.num_windows_test
        if finish == 0.0 or (stride is None and finish - begin <= together):
            yield Piece(source, start, end, opened=opened)
            return
        if opened is not None:
            opened.close()
        starts = self._starts(finish - begin, stride or self.seconds)
        groups = list(_grouped(starts, max(TOGETHER - self.seconds, 0.0)))
        for group in groups:
            first, last = begin + group[0], min(begin + group[-1] + self.seconds, finish)
            inside = tuple(moment - group[0] for moment in group)
            yield Piece(source, first, last, inside, len(groups) > 1, whole=end is None)

    def _starts(self, length: float, stride: float) -> list[float]:
        """When the windows of so many seconds begin: on frames, the last one at the end."""
        fps = self.settings.fps
        frames, window = math.floor(length * fps + _TICK), math.ceil(self.seconds * fps - _TICK)
        step = max(1, round(stride * fps))
        found = list(range(0, max(frames - window, 0) + 1, step))
        if found[-1] + window < frames:
            found.append(frames - window)
        return [number / fps for number in found]

    # -- one piece -------------------------------------------------------------------------

    def read(self, piece: Piece, modalities: Sequence[str]) -> Taken:
        """Decodes a piece and makes clips of it.

        Raises:
          MediaError: it cannot be used.
        """
        settings, source = self.settings, piece.source
        if isinstance(source, media.MediaClip):
            return self._take(self._cut(source, piece.start or 0.0, piece.end), piece, modalities)
        clip = media.read_clip(
            source,
            piece.start,
            piece.end,
            fps=settings.fps,
            min_side=settings.min_side,
            sample_rate=self.sample_rate,
            jpeg_quality=settings.jpeg_quality,
            downmix=settings.downmix,
            pictures=VIDEO in modalities,
            sound=AUDIO in modalities,
            # Sound alone is heard up to its end, but in a record, which is what ingest makes.
            shorten=piece.end is None or (piece.whole and VIDEO in modalities),
            opened=piece.opened,
        )
        return self._take(clip, piece, modalities)

    def _take(self, clip: media.MediaClip, piece: Piece, modalities: Sequence[str]) -> Taken:
        """Makes clips of what was decoded."""
        notices = tuple(
            f"{notice.kind}: {notice.detail}" if notice.detail else notice.kind
            for notice in clip.notices
        )
        there = {VIDEO: bool(clip.frames), AUDIO: clip.waveform is not None}
        wanted = [modality for modality in modalities if there[modality]]
        if piece.windows is None:
            return Taken({m: self._spread(clip, m) for m in wanted}, notices)
        windows = self._inside(clip, piece)
        return Taken({m: self._one_by_one(clip, m, windows) for m in wanted}, notices)

    def _inside(self, clip: media.MediaClip, piece: Piece) -> Sequence[float]:
        """The windows of a piece; of one that ended with its pictures the last one is there."""
        tick = _TICK / self.settings.fps
        if clip.end > piece.end - tick:
            return piece.windows
        last = self._starts(clip.end - clip.start, self.seconds)[-1]
        return [*(moment for moment in piece.windows if moment < last - tick), last]

    def _spread(self, clip: media.MediaClip, modality: str) -> Clips:
        """Evaluation's windows of a piece that is one record."""
        values = self._made(clip, modality, self.input.num_windows_test)
        count = len(clip.frames if modality == VIDEO else clip.waveform)
        starts, ends = self._times(modality, count)
        return Clips(values, clip.start + starts, clip.start + ends)

    def _spread_times(self, modality: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        """When evaluation's windows of a record of `count` frames or samples begin and end (s)."""
        windows, spec = self.input.num_windows_test, self.spec
        if modality == VIDEO:
            first, rate, seconds = spec.starts(tf.constant(count), windows), spec.rate, spec.seconds
        else:
            first = spec.sound_starts(tf.constant(count), windows)
            rate, seconds = self.sample_rate, self._sound_seconds
        starts = first.numpy() / rate
        return starts, np.minimum(starts + seconds, count / rate)

    def _one_by_one(self, clip: media.MediaClip, modality: str, windows: Sequence[float]) -> Clips:
        """Windows that are records of their own."""
        values, starts = [], clip.start + np.array(windows)
        for moment in windows:
            window = self._cut(clip, moment, moment + self.seconds)
            values.append(self._made(window, modality, 1)[0])
        return Clips(np.stack(values), starts, np.minimum(starts + self.seconds, clip.end))

    def _cut(self, clip: media.MediaClip, start: float, end: float | None) -> media.MediaClip:
        """The part of what was decoded from `start` to `end` (s from its start)."""
        fps, rate = self.settings.fps, self.sample_rate
        end = clip.end - clip.start if end is None else end
        first, count = round(start * fps), max(1, math.floor((end - start) * fps + _TICK))
        waveform = clip.waveform
        if waveform is not None:
            sample = round(start * rate)
            waveform = waveform[sample : sample + round((end - start) * rate)]
        return dataclasses.replace(
            clip,
            start=clip.start + start,
            end=clip.start + end,
            frames=clip.frames[first : first + count],
            waveform=waveform,
        )

    def _made(self, clip: media.MediaClip, modality: str, windows: int) -> np.ndarray:
        """Clips of a record, float32 [windows, crops, ...]."""
        video = modality == VIDEO
        record = records.ClipRecord(
            source="",
            fps=self.settings.fps,
            sample_rate=self.sample_rate,
            frames=clip.frames if video else None,
            waveform=None if video else clip.waveform,
        )
        try:
            made = self._maker(modality, windows)(records.encode(record)).numpy()
        except tf.errors.OpError as error:
            raise DataError(f"no clip can be made of it: {error.message}") from error
        return np.moveaxis(made.reshape(-1, windows, *made.shape[1:]), 0, 1)  # crop by crop

    def _maker(self, modality: str, windows: int) -> tf.types.experimental.PolymorphicFunction:
        """Evaluation's code for one record, as a function that is traced once."""
        if (modality, windows) not in self._making:
            cfg, spec = self.input, self.spec

            @tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
            def make(record: tf.Tensor) -> tf.Tensor:
                clip = clips.evaluation_clip(record, cfg, spec, (modality,), windows, None)
                if modality == VIDEO and cfg.space_to_depth:
                    return vision.space_to_depth(clip[VIDEO])
                return clip[modality]

            make.get_concrete_function()
            self._making[modality, windows] = make
        return self._making[modality, windows]


def _grouped(starts: Sequence[float], most: float) -> Iterator[Sequence[float]]:
    """Yields the starts of windows (s), those together that begin within `most` seconds."""
    first = 0
    for number, moment in enumerate(starts):
        if moment - starts[first] > most:
            yield starts[first:number]
            first = number
    yield starts[first:]
