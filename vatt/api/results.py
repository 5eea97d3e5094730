"""What a model says of a file, an array or a sentence: embeddings, classes, with their times."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from vatt.errors import DataError, UserError, nearest, short
from vatt.evaluation import metrics, predictions

ARRAY = "array"  # the source of what is no file
LOGITS = "logits"
_SHOWN = 5


class Windows(Protocol):
    """What is said of the windows of a file, as `index` keeps it; see `Embedding`."""

    starts: np.ndarray
    ends: np.ndarray
    spaces: Mapping[str, np.ndarray]
    notices: tuple[str, ...]
    gaps: tuple[str, ...]

    def __len__(self) -> int:
        """How many windows there are."""


@dataclasses.dataclass(frozen=True, eq=False)
class Embedding:
    """Embeddings of one file, array or sentence.

    Attributes:
      modality: "video", "audio" or "text".
      source: path, sentence, or "array".
      starts: float64 [windows], when each window begins (s from the start of the file).
      ends: float64 [windows], when it ends.
      spaces: float32 [windows, d] by name of the space; the first one is the one that counts where
        none is named, "features_pooled" is what the backbone gives, which probes and classifiers
        are put on.
      checkpoint: fingerprint of the weights.
      notices: what was put right on the way, in words.
      gaps: parts of the file that cannot be read, and why.
    """

    modality: str
    source: str
    starts: np.ndarray
    ends: np.ndarray
    spaces: Mapping[str, np.ndarray]
    checkpoint: str
    notices: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()

    def __len__(self) -> int:
        """How many windows there are."""
        return len(self.starts)

    def windows(self) -> list[Embedding]:
        """Returns the windows, each as an embedding of its own."""
        return [self._part(slice(row, row + 1)) for row in range(len(self))]

    def _part(self, rows: slice) -> Embedding:
        spaces = {name: vectors[rows] for name, vectors in self.spaces.items()}
        return dataclasses.replace(
            self, starts=self.starts[rows], ends=self.ends[rows], spaces=spaces
        )

    def in_space(self, space: str | None = None) -> np.ndarray:
        """Returns the vectors of all windows as the model gives them, float32 [windows, d].

        Raises:
          UserError: there is no such space.
        """
        name = next(iter(self.spaces)) if space is None else space
        if name not in self.spaces:
            raise UserError(
                f"space: {name!r}; {self.modality} of this model has {', '.join(self.spaces)}."
                f"{nearest(name, self.spaces)}"
            )
        return self.spaces[name]

    def vector(self, space: str | None = None) -> np.ndarray:
        """Returns the mean of the windows at length 1, float32 [d]: what evaluation compares."""
        return metrics.window_mean(self.in_space(space)[None])[0]


@dataclasses.dataclass(frozen=True, eq=False)
class Classification:
    """Classes of one file or array.

    Attributes:
      source: path, or "array".
      labels: names of the classes; numbers where the run has no names.
      probabilities: float32 [classes], of the mean of the windows' logits, as evaluation has it.
      logits: float32 [windows, classes].
      starts: float64 [windows], s.
      ends: float64 [windows], s.
      multi_label: whether a clip may have any number of classes; else probabilities sum to 1.
      checkpoint: fingerprint of the weights.
      notices: what was put right on the way, in words.
      gaps: parts of the file that cannot be read, and why.
    """

    source: str
    labels: Sequence[str]
    probabilities: np.ndarray
    logits: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    multi_label: bool
    checkpoint: str
    notices: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()

    def __len__(self) -> int:
        """How many windows there are."""
        return len(self.starts)

    @property
    def spaces(self) -> Mapping[str, np.ndarray]:
        """What there is of each window, as of an embedding."""
        return {LOGITS: self.logits}

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """Returns the most probable classes with their probabilities, best first."""
        best = predictions.best_first(self.probabilities[None])[0, :count]
        return [(self.labels[number], float(self.probabilities[number])) for number in best]

    def windows(self) -> Iterator[tuple[float, float, np.ndarray]]:
        """Yields start, end (s) and probabilities [classes] of every window."""
        found = np.exp(predictions.log_probabilities(self.logits, self.multi_label))
        yield from zip(self.starts.tolist(), self.ends.tolist(), found, strict=True)


def without_classes(name: str) -> UserError:
    """Returns the error of asking a pretrained model for classes."""
    return UserError(
        f"{name} is pretrained and knows no classes: fine-tune it (vatt finetune, "
        "--override_checkpoint), or compare with sentences (similarity, vatt embed)"
    )


class UnusableError(DataError):
    """Some files cannot be used; what the others gave is kept.

    Attributes:
      failures: (file, reason) of each.
      results: in the order of what was given, None in their places.
    """

    def __init__(
        self,
        failures: Sequence[tuple[str, str]],
        results: Sequence[Embedding | Classification | None],
    ) -> None:
        """Names the first of them."""
        self.failures, self.results = list(failures), list(results)
        lines = [f"{short(name, 200)}: {reason}" for name, reason in self.failures[:_SHOWN]]
        more = len(self.failures) - len(lines)
        lines += [f"... and {more} more"] if more else []
        if len(self.results) == 1:
            super().__init__(lines[0])
            return
        head = f"{len(self.failures)} of {len(self.results)} cannot be used (the others: `results`)"
        super().__init__("\n  ".join([f"{head}:", *lines]))
