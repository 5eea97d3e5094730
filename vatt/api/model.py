"""A loaded model: embeddings of videos, sounds and sentences, classes, similarities.

Everything about the input that training decided (frame rate and size, sample rate, normalisation,
words) comes from the run. See docs/embedding.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
from absl import logging

from vatt.api import arrays, comparison, results, streaming
from vatt.api.encoders import Encoder
from vatt.api.inputs import Clip
from vatt.api.results import LOGITS, Classification, Embedding, UnusableError
from vatt.api.sentences import Sentences
from vatt.api.windows import Reader
from vatt.data.features import AUDIO, TEXT, VIDEO
from vatt.data.media import MediaClip
from vatt.errors import DataError, UserError
from vatt.evaluation import predictions
from vatt.evaluators.subject import Arrays

File = str | os.PathLike
Files = Sequence[File | np.ndarray]
Result = Embedding | Classification


class Model:
    """A model with its weights, ready to be used; `vatt.load` makes it.

    Attributes:
      name: what was asked for.
      checkpoint: fingerprint of its weights.
      modalities: what it takes: "video", "audio", "text".
      spaces: of each space of several modalities the names of the embeddings in it, by modality.
      labels: names of the classes of a fine-tuned model; empty for others.
      multi_label: whether a clip may have any number of them.
      recipe: what decides its embeddings, as JSON can hold it.
    """

    def __init__(
        self,
        name: str,
        encoder: Encoder,
        reader: Reader,
        sentences: Sentences | None,
        *,
        checkpoint: str,
        recipe: Mapping[str, Any],
        labels: Sequence[str] = (),
        multi_label: bool = False,
    ) -> None:
        """See `vatt.load`."""
        self.name, self.checkpoint, self.recipe = name, checkpoint, dict(recipe)
        self.modalities, self.labels = tuple(encoder.modalities), list(labels)
        self.spaces = tuple(encoder.spaces)
        self._encoder, self._reader, self._sentences = encoder, reader, sentences
        self.multi_label = multi_label

    def __repr__(self) -> str:
        """Names what it is and takes."""
        return f"<vatt model {self.name}: {', '.join(self.modalities)}>"

    # -- embeddings ------------------------------------------------------------------------

    @overload
    def embed_video(self, video: File | np.ndarray, **options: Any) -> Embedding: ...

    @overload
    def embed_video(self, video: Files, **options: Any) -> list[Embedding]: ...

    def embed_video(
        self,
        video: File | np.ndarray | Files,
        *,
        start: float | None = None,
        end: float | None = None,
        stride: float | None = None,
        fps: float | None = None,
    ) -> Embedding | list[Embedding]:
        """Returns the embedding of a video, or those of several.

        Args:
          video: path of a file, or uint8 [frames, height, width, 3]; or a list of them.
          start: s in the file from where on it counts.
          end: s in the file up to where it counts.
          stride: s from one window to the next. By default a video that evaluation's windows cover
            has those; a longer one has windows one after the other.
          fps: of an array; that of the run's records by default.

        Raises:
          UserError: the model takes no video.
          UnusableError: a file cannot be used; what the others gave is in the error.
        """
        return self._embed(VIDEO, video, (start, end, stride), fps)

    @overload
    def embed_audio(self, audio: File | np.ndarray, **options: Any) -> Embedding: ...

    @overload
    def embed_audio(self, audio: Files, **options: Any) -> list[Embedding]: ...

    def embed_audio(
        self,
        audio: File | np.ndarray | Files,
        *,
        start: float | None = None,
        end: float | None = None,
        stride: float | None = None,
        sample_rate: int | None = None,
    ) -> Embedding | list[Embedding]:
        """Returns the embedding of a sound, or those of several; of a video, that of its sound.

        Args:
          audio: path of a file, or [samples] or [samples, channels] of floats in [-1, 1] or int16;
            or a list of them.
          start: see `embed_video`.
          end: see `embed_video`.
          stride: see `embed_video`.
          sample_rate: of an array (Hz); that of the run by default.

        Raises:
          UserError: the model takes no sound.
          UnusableError: a file cannot be used; what the others gave is in the error.
        """
        return self._embed(AUDIO, audio, (start, end, stride), sample_rate)

    @overload
    def embed_text(self, text: str) -> Embedding: ...

    @overload
    def embed_text(self, text: Sequence[str]) -> list[Embedding]: ...

    def embed_text(self, text: str | Sequence[str]) -> Embedding | list[Embedding]:
        """Returns the embedding of a sentence, or those of several.

        Raises:
          UserError: the model takes no text, or its vocabulary is not there.
        """
        self._check(TEXT)
        given = [text] if isinstance(text, str) else list(text)
        if not given:
            return []
        if wrong := [one for one in given if not isinstance(one, str)]:
            raise UserError(f"embed_text: {wrong[0]!r} is not a sentence (a str)")
        words, notices = self._sentences.words(given)
        spaces = self._encoder({TEXT: words})
        zero = np.zeros(1)
        found = [
            Embedding(TEXT, sentence, zero, zero, _rows(spaces, row), self.checkpoint, notes)
            for row, (sentence, notes) in enumerate(zip(given, notices, strict=True))
        ]
        return found[0] if isinstance(text, str) else found

    def embed_files(
        self,
        paths: Iterable[File | Clip],
        modalities: Sequence[str] | None = None,
        *,
        stride: float | None = None,
    ) -> Iterator[tuple[str, dict[str, Embedding] | DataError]]:
        """Yields, for one file after the other, its embeddings by modality, or why it has none.

        Each file is decoded once for all modalities. What a file lacks is left out.

        Args:
          paths: of the files; or (path, start, end) for a piece of one, see `embed_video`.
          modalities: of "video" and "audio"; all that the model takes by default.
          stride: see `embed_video`.
        """
        wanted = [m for m in (VIDEO, AUDIO) if m in (modalities or self.modalities)]
        for modality in wanted:
            self._check(modality, alone=True)
        for name, found in self._files(paths, self._kinds(wanted), stride):
            if isinstance(found, DataError):
                yield name, found
            else:
                yield name, {m: self._embedding(m, name, x) for (m,), x in found.items()}

    # -- comparison ------------------------------------------------------------------------

    def similarity(
        self,
        a: Embedding | Sequence[Embedding],
        b: Embedding | Sequence[Embedding],
        *,
        space: str | None = None,
    ) -> np.ndarray:
        """Returns how alike embeddings are, in [-1, 1]: what evaluation ranks by.

        Windows are averaged; `Embedding.windows()` gives them one by one.

        Args:
          a: one embedding or several.
          b: one embedding or several, of the same modality or of one that the model compares.
          space: to compare in, for embeddings of one modality.

        Returns:
          float32, without an axis for one embedding: a number, [len(a)], [len(b)] or [len(a),
          len(b)].

        Raises:
          UserError: embeddings of other weights, or of modalities that do not lie in one space.
        """
        compared = comparison.Compared(self.name, self.checkpoint, self._encoder.pairs)
        return compared.similarity(a, b, space)

    # -- classes ---------------------------------------------------------------------------

    def classify(
        self,
        clip: File | np.ndarray | Files,
        *,
        start: float | None = None,
        end: float | None = None,
        stride: float | None = None,
        rate: float | None = None,
    ) -> Classification | list[Classification]:
        """Returns the classes of a video or sound by a fine-tuned model, or those of several.

        Args:
          clip: path of a file, or an array as of `embed_video` or `embed_audio`; or a list of them.
          start: see `embed_video`.
          end: see `embed_video`.
          stride: see `embed_video`.
          rate: of an array: pictures or samples per second.

        Raises:
          UserError: the model has no classes.
          UnusableError: a file cannot be used; what the others gave is in the error.
        """
        self._check_classes()
        times = (start, end, stride)
        return self._each(self.modalities, clip, times, rate, self._classification)

    def classify_files(
        self, paths: Iterable[File | Clip], *, stride: float | None = None
    ) -> Iterator[tuple[str, Classification | DataError]]:
        """Yields, for one file after the other, its classes, or why it has none.

        Args:
          paths: of the files; or (path, start, end) for a piece of one, see `embed_video`.
          stride: see `embed_video`.

        Raises:
          UserError: the model has no classes.
        """
        self._check_classes()
        kinds = self._kinds(self.modalities)
        for name, found in self._files(paths, kinds, stride):
            failed = isinstance(found, DataError)
            yield name, found if failed else self._classification(name, found[kinds[0]])

    # -- how -------------------------------------------------------------------------------

    @property
    def parts(self) -> tuple[Encoder, Reader, Sentences | None]:
        """What it consists of, for export: nothing of it changes when the model is used."""
        return self._encoder, self._reader, self._sentences

    def _check_classes(self) -> None:
        if not self.labels:
            raise results.without_classes(self.name)

    def _check(self, modality: str, alone: bool = False) -> None:
        if modality not in self.modalities:
            raise UserError(
                f"{self.name} takes {', '.join(self.modalities)}, no {modality}: it has no tower "
                "for it"
            )
        if alone and self._encoder.together:
            raise UserError(
                f"{self.name} takes {' and '.join(self.modalities)} together: it has no embedding "
                f"of {modality} alone; classify gives classes"
            )

    def _embed(
        self,
        modality: str,
        given: File | np.ndarray | Files,
        times: tuple[float | None, ...],
        rate: float | None,
    ) -> Any:
        self._check(modality, alone=True)
        return self._each((modality,), given, times, rate, partial(self._embedding, modality))

    def _each(
        self,
        modalities: Sequence[str],
        given: File | np.ndarray | Files,
        times: tuple[float | None, ...],
        rate: float | None,
        make: Callable[[str, streaming.Encoded], Result],
    ) -> Any:
        """What is made of one file or array, or of each of several."""
        *part, stride = times  # start, end
        single = isinstance(given, File | np.ndarray)
        each = [given] if single else given
        sources = [(*self._source(x, modalities, rate), part) for x in each]
        kinds = self._kinds(modalities)
        found: list[Result | None] = []
        failures: list[tuple[str, str]] = []
        for name, result in self._results(sources, kinds, stride):
            if isinstance(result, DataError):
                failures.append((name, str(result)))
                found.append(None)
            else:
                one = make(name, result[kinds[0]])
                for gap in one.gaps:
                    logging.warning("%s: left out %s", name, gap)
                found.append(one)
        if failures:
            raise UnusableError(failures, found)
        return found[0] if single else found

    def _files(
        self, paths: Iterable[File | Clip], kinds: Sequence[streaming.Kind], stride: float | None
    ) -> Iterator[tuple[str, streaming.Found]]:
        """What the model makes of files and pieces of them."""
        given = (Clip(*path) if isinstance(path, tuple) else Clip(path) for path in paths)
        sources = ((os.fspath(c.path), Path(c.path), (c.start, c.end)) for c in given)
        return self._results(sources, kinds, stride)

    def _results(
        self,
        sources: Iterable[streaming.Asked],
        kinds: Sequence[streaming.Kind],
        stride: float | None,
    ) -> Iterator[tuple[str, streaming.Found]]:
        if stride is not None and not (np.isfinite(stride) and stride > 0):
            raise UserError(f"stride: {stride} is not a number of seconds above 0")
        return streaming.results(self._reader, self._encoder, sources, kinds, stride)

    def _kinds(self, modalities: Sequence[str]) -> list[streaming.Kind]:
        return [tuple(modalities)] if self._encoder.together else [(m,) for m in modalities]

    def _source(
        self, given: File | np.ndarray, modalities: Sequence[str], rate: float | None
    ) -> tuple[str, Path | MediaClip]:
        if not isinstance(given, np.ndarray):
            if not isinstance(given, File):
                raise UserError(f"{given!r} is neither a path nor an array")
            return os.fspath(given), Path(given)
        if len(modalities) > 1:
            raise UserError(f"{self.name} takes {' and '.join(modalities)}: give a file, no array")
        if modalities[0] == VIDEO:
            return results.ARRAY, arrays.video(given, rate, self._reader.settings)
        return results.ARRAY, arrays.audio(given, rate, self._reader.sample_rate)

    def _embedding(self, modality: str, name: str, found: streaming.Encoded) -> Embedding:
        spaces = {key: values for key, values in found.arrays.items() if key != LOGITS}
        times = (found.starts, found.ends)
        told = (found.notices, found.gaps)
        return Embedding(modality, name, *times, spaces, self.checkpoint, *told)

    def _classification(self, name: str, found: streaming.Encoded) -> Classification:
        logits = found.arrays[LOGITS]
        return Classification(
            name,
            self.labels,
            predictions.of_windows(logits, self.multi_label).astype(np.float32),
            logits,
            found.starts,
            found.ends,
            self.multi_label,
            self.checkpoint,
            found.notices,
            found.gaps,
        )


def _rows(arrays: Arrays, row: int) -> Arrays:
    return {key: values[row : row + 1] for key, values in arrays.items()}
