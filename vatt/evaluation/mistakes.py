"""The worst mistakes of a classifier, with their pictures: collected as clips come.

    worst = Mistakes(multi_label=False, modality="video")
    worst.add(answer, batch, row)
    worst.arrays()                     # mistakes/... and clips/... of the artefact

One label per clip: "wrong", the answers given with the highest probability. Several: "false alarm"
and "miss", the absent class with the highest logit and the present one with the lowest.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from vatt.evaluation import artefacts
from vatt.evaluation.predictions import best_first

MISTAKES = 12  # of each kind

Arrays = dict[str, np.ndarray]
Entry = dict[str, int | str | bytes | bool | np.ndarray]


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a classifier said of one clip.

    Attributes:
      number: of the clip, in the order in which clips came.
      index: of its record.
      source: of its record.
      logits: float32 [classes], finite.
      scores: logarithms of the probabilities, float64 [classes].
      labels: uint8 [classes].
    """

    number: int
    index: int
    source: str
    logits: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


class Mistakes:
    """Keeps the worst mistakes so far; pictures are made only of those."""

    def __init__(self, *, multi_label: bool, modality: str) -> None:
        """Starts with none; pictures are those of `modality`, several are joined by "+"."""
        self._multi_label, self._modalities = multi_label, modality.split("+")
        kinds = ("false alarm", "miss") if multi_label else ("wrong",)
        self._rankings = {kind: _Ranking(MISTAKES) for kind in kinds}

    def add(self, answer: Answer, batch: Mapping[str, np.ndarray], row: int) -> None:
        """Offers what is wrong about one clip, once per kind; its pictures are in that row."""
        for kind, which, badness in self._found(answer):
            self._rankings[kind].offer(
                (float(badness), -answer.index, -answer.number),
                lambda which=which: {
                    "index": answer.index,
                    "source": answer.source,
                    "label": answer.labels,
                    "class": which,
                    "probability": np.exp(answer.scores).astype(np.float32),
                    **_pictures(batch, row, self._modalities),
                },
            )

    def _found(self, answer: Answer) -> Iterator[tuple[str, int, float]]:
        """Yields kind, class, how bad."""
        logits = answer.logits
        present, absent = np.flatnonzero(answer.labels), np.flatnonzero(answer.labels == 0)
        if not self._multi_label:
            given = int(best_first(logits[None])[0, 0])
            if len(present) and given != present[0]:
                yield "wrong", given, answer.scores[given]
            return
        # By logits, which do not saturate as probabilities do.
        if len(absent):
            alarm = absent[np.argmax(logits[absent])]
            yield "false alarm", int(alarm), logits[alarm]
        if len(present):
            missed = present[np.argmin(logits[present])]
            yield "miss", int(missed), -logits[missed]

    def arrays(self) -> Arrays:
        """`mistakes/...` and `clips/...` of the artefact."""
        found = [(kind, entry) for kind, best in self._rankings.items() for entry in best.entries()]
        if not found:
            return {"mistakes/kind": np.zeros(0, np.str_)}
        kinds, entries = zip(*found, strict=True)
        jpegs = [entry.pop("jpeg", b"") for entry in entries]
        arrays = {"mistakes/kind": np.array(kinds, dtype=np.str_)}
        for name in entries[0]:
            values = [entry[name] for entry in entries if name in entry]
            if len(values) == len(entries) and len({np.shape(value) for value in values}) == 1:
                arrays[f"mistakes/{name}"] = np.array(values)
        if any(jpegs):
            arrays["clips/jpeg"] = np.frombuffer(b"".join(jpegs), np.uint8)
            arrays["clips/jpeg_offsets"] = np.cumsum([0, *map(len, jpegs)]).astype(np.int64)
        return arrays


class _Ranking:
    """The entries with the highest keys, at most `size`; others are not even made."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[tuple[float, int, int], Entry]] = []

    def offer(self, key: tuple[float, int, int], make: Callable[[], Entry]) -> None:
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, (key, make()))
        elif key > self._heap[0][0]:
            heapq.heapreplace(self._heap, (key, make()))

    def entries(self) -> list[Entry]:
        """Copies of the entries, the highest key first."""
        return [dict(entry) for _, entry in sorted(self._heap, key=lambda item: item[0])[::-1]]


def _pictures(batch: Mapping[str, np.ndarray], row: int, modalities: list[str]) -> Entry:
    """Frames, and outline and spectrogram of the middle window, of one clip."""
    found: Entry = {}
    if "video" in modalities and batch.get("thumbnail") is not None:
        found["jpeg"] = artefacts.strip_jpeg(batch["thumbnail"][row])
    if "audio" in modalities and batch.get("audio") is not None:
        sound, heard = batch["audio"][row], batch.get("audio_mask")
        sound = sound[len(sound) // 2]
        found["envelope"] = artefacts.envelope(sound)
        found["spectrogram"] = artefacts.spectrogram(sound)
        found["silent"] = heard is not None and not heard[row] > 0.5
    return found
