"""Zero-shot retrieval on one data set: collect embeddings by batches, then score and illustrate.

    retrieval = Retrieval("toy_retrieval")
    for batch in batches:                       # NumPy dicts of pipeline.evaluation_batches
        retrieval.add(batch, outputs)           # outputs: embeddings of the projection head
    result = retrieval.result()
    result.metrics["toy_retrieval_txt2vid_embd_R10"]
    result.save(model_dir, step=2000)           # model_dir/eval/toy_retrieval-2000.npz

Metric names are the published ones (`<set>_txt2vid_embd_R1`, `<set>_audio2vid_cosine_MedianRank`,
...). Ours beside them: `<set>_num_clips`, `<set>_chance_R1|R5|R10|MedianRank`,
`<set>_txt2vid_embd_top1_<attribute>`, `<set>_audio2vid_embd_top1_<attribute>` and
`<set>_chance_top1_<attribute>`. Every sample with valid = 1 counts once, whatever the batch size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vatt.evaluation import artefacts, metrics

TOP_RESULTS = 5
TEXT_EXAMPLES = 8
AUDIO_EXAMPLES = 6


@dataclasses.dataclass(frozen=True)
class Direction:
    """One way to search for clips: which query embeddings against which clip embeddings."""

    name: str  # in metric names
    kind: str  # in artefacts
    query: str  # key of the query embeddings in `outputs`
    clip: str  # key of the clip embeddings in `outputs`
    examples: int  # number of illustrated queries


DIRECTIONS = (
    Direction("txt2vid", "text", "text_tovid", "video_totxt", TEXT_EXAMPLES),
    Direction("audio2vid", "audio", "audio_tovid", "video_toaud", AUDIO_EXAMPLES),
)


@dataclasses.dataclass(frozen=True)
class RetrievalResult:
    """Metrics (name -> value) and the arrays described in `vatt.evaluation.artefacts`."""

    dataset: str
    metrics: dict[str, float]
    artefact: dict[str, np.ndarray]

    def save(self, model_dir: Path | str, step: int) -> Path:
        """Writes the artefact to `<model_dir>/eval/<dataset>-<step>.npz` and returns that path."""
        path = Path(model_dir) / "eval" / f"{self.dataset}-{int(step)}.npz"
        return artefacts.save(path, self.artefact | {"step": np.int64(step)})


class Retrieval:
    """Accumulates one pass over a retrieval set; what it keeps per clip is a few kilobytes."""

    def __init__(self, dataset_name: str, *, published_single_window: bool = False):
        self.dataset = dataset_name
        self._published_single_window = published_single_window
        self._embeddings: dict[str, list[np.ndarray]] = {}
        self._strings: dict[str, list[str]] = {"caption": [], "label_text": [], "source": []}
        self._jpegs: list[bytes] = []
        self._envelopes: list[np.ndarray] = []
        self._directions: tuple[Direction, ...] = ()

    def __len__(self) -> int:
        return len(self._strings["caption"])

    def add(
        self, batch: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray | None]
    ) -> None:
        """Adds the valid rows of one batch.

        Args:
            batch: `valid` [B]; optional `caption`, `label_text`, `source` bytes [B], `thumbnail`
                uint8 [B, frames, h, w, 3], `audio` [B, windows, samples, 1] or
                [B, windows, time, mel, 1] (only for pictures).
            outputs: `video_totxt` [B, windows, d] with `text_tovid` [B, d], and / or `video_toaud`
                [B, windows, d] with `audio_tovid` [B, windows, d]; None counts as absent.

        Raises:
            ValueError: no complete pair of embeddings, or another set of pairs than before.
        """
        outputs = {name: np.asarray(value) for name, value in outputs.items() if value is not None}
        found = tuple(d for d in DIRECTIONS if d.query in outputs and d.clip in outputs)
        if not found:
            wanted = " or ".join(f"{d.clip} with {d.query}" for d in DIRECTIONS)
            raise ValueError(f"{self.dataset}: outputs hold {sorted(outputs)}; needed: {wanted}")
        if self._directions not in ((), found):
            raise ValueError(f"{self.dataset}: batches with different modalities in one evaluation")
        self._directions = found
        rows = len(outputs[found[0].query])
        keep = np.flatnonzero(np.asarray(batch.get("valid", np.ones(rows))) > 0.5)
        for name in {name for d in found for name in (d.query, d.clip)}:
            self._embeddings.setdefault(name, []).append(outputs[name][keep].astype(np.float32))
        for name, collected in self._strings.items():
            values = batch.get(name)
            collected.extend("" if values is None else _text(values[row]) for row in keep)
        if batch.get("thumbnail") is not None:
            self._jpegs.extend(artefacts.strip_jpeg(batch["thumbnail"][row]) for row in keep)
        if batch.get("audio") is not None and any(d.kind == "audio" for d in found):
            middle = np.shape(batch["audio"])[1] // 2  # the window the thumbnail shows
            audio = np.asarray(batch["audio"])[:, middle]
            self._envelopes.extend(artefacts.envelope(audio[row]) for row in keep)

    def result(self) -> RetrievalResult:
        """Metrics and example pictures of everything added.

        Raises:
            ValueError: nothing valid was added.
        """
        if not len(self):
            raise ValueError(f"{self.dataset}: no valid clip was added, nothing to evaluate")
        attributes = parse_attributes(self._strings["label_text"])
        values = {f"{self.dataset}_num_clips": float(len(self))}
        for name, value in metrics.chance_metrics(len(self)).items():
            values[f"{self.dataset}_chance_{name}"] = value
        for name, value in metrics.attribute_chance(attributes).items():
            values[f"{self.dataset}_chance_top1_{name}"] = value
        examples: dict[str, np.ndarray] = {}
        for direction in self._directions:
            queries = np.concatenate(self._embeddings[direction.query])
            clips = np.concatenate(self._embeddings[direction.clip])
            for variant in ("cosine", "embd"):
                scores = metrics.similarity(
                    queries, clips, variant, published_single_window=self._published_single_window
                )
                prefix = f"{self.dataset}_{direction.name}_{variant}"
                for name, value in metrics.retrieval_metrics(scores).items():
                    values[f"{prefix}_{name}"] = value
            # `scores` and `prefix` are now those of "embd", the variant that is illustrated.
            for name, value in metrics.attribute_top1(scores, attributes).items():
                values[f"{prefix}_top1_{name}"] = value
            examples |= self._examples(direction, scores)
        return RetrievalResult(self.dataset, values, self._artefact(examples))

    def _examples(self, direction: Direction, scores: np.ndarray) -> dict[str, np.ndarray]:
        query = spread(len(scores), direction.examples)
        top = metrics.top_columns(scores[query], TOP_RESULTS)
        arrays = {
            "query": query,
            "top": top,
            "score": np.take_along_axis(scores[query], top, axis=1),
            "hit": top == query[:, None],
            "rank": metrics.ranks(scores[query], query),
        }
        if direction.kind == "audio" and len(self._envelopes) == len(self):
            arrays["envelope"] = np.stack([self._envelopes[clip] for clip in query])
        return {f"{direction.kind}/{name}": array for name, array in arrays.items()}

    def _artefact(self, examples: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        shown = [
            array.ravel() for name, array in examples.items() if name.endswith(("query", "top"))
        ]
        clips = np.unique(np.concatenate(shown))
        arrays = {
            "dataset": np.array(self.dataset),
            "num_clips": np.int64(len(self)),
            "clips/index": clips,
        }
        for name, collected in self._strings.items():
            arrays[f"clips/{name}"] = np.array([collected[clip] for clip in clips], dtype=np.str_)
        if len(self._jpegs) == len(self):
            jpegs = [self._jpegs[clip] for clip in clips]
            arrays["clips/jpeg"] = np.frombuffer(b"".join(jpegs), np.uint8)
            arrays["clips/jpeg_offsets"] = np.cumsum([0, *map(len, jpegs)]).astype(np.int64)
        return arrays | examples


def spread(total: int, count: int) -> np.ndarray:
    """At most `count` different numbers below `total`, ascending: examples nobody picked by hand.

    Multiples of the golden ratio are spread evenly but share no period with the order of the set,
    where equal strides would meet the same colour or class again and again.
    """
    numbers = np.unique(np.floor(total * (np.arange(count) * 0.6180339887498949 % 1.0)))
    if len(numbers) < count:  # the set is hardly larger than the selection
        numbers = np.arange(min(count, total)) * total // max(min(count, total), 1)
    return numbers.astype(np.int64)


def parse_attributes(label_texts: list[str]) -> dict[str, list[str | None]]:
    """Attribute name -> value per clip, from labels such as "shape=circle|colour=red".

    Labels without "=" are no attributes. A clip with several values of one attribute has all of
    them, sorted, as its value.
    """
    parsed = []
    for text in label_texts:
        pairs: dict[str, list[str]] = {}
        for label in text.split("|"):
            name, separator, value = label.partition("=")
            if separator:
                pairs.setdefault(name.strip(), []).append(value.strip())
        parsed.append({name: "+".join(sorted(values)) for name, values in pairs.items()})
    names = sorted({name for pairs in parsed for name in pairs})
    return {name: [pairs.get(name) for pairs in parsed] for name in names}


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
