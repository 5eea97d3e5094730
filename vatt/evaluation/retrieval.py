"""Zero-shot retrieval on one data set: collect embeddings by batches, then score and illustrate.

    retrieval = Retrieval("toy_retrieval")
    for batch in batches:                       # NumPy dicts of pipeline.evaluation_batches
        retrieval.add(batch, outputs)           # outputs: embeddings of the projection head
    result = retrieval.result()
    result.metrics["toy_retrieval_txt2vid_embd_R10"]
    result.save(model_dir, step=2000)           # model_dir/eval/toy_retrieval-2000.npz

Directions: `txt2vid`, `vid2txt`, `audio2vid`, `vid2audio` and, where the head has a space for text
and audio, `txt2audio` and `audio2txt`. Metric names are the published ones
(`<set>_txt2vid_embd_R1`, `<set>_audio2vid_cosine_MedianRank`, ...) for every direction. Ours beside
them: `<set>_<direction>_<variant>_MeanRank`, `<set>_num_clips`,
`<set>_chance_R1|R5|R10|MedianRank|MeanRank`, `<set>_<direction>_embd_top1_<attribute>` and
`<set>_chance_top1_<attribute>`, and `<set>_geometry_<modalities>_<figure>` of
`vatt.evaluation.geometry`. Every sample with valid = 1 counts once, whatever the batch size.

Memory: of each embedding that is given, one vector per clip and variant (windows are averaged as
they come); all scores are never held at once, and pictures beyond 256 MB go to a temporary file.
One million clips with text and video embeddings of 512 numbers, one window each, take 4 GB while
they are added and 8 GB while they are ranked (measured, docs/benchmarks.md).
"""

from __future__ import annotations

import dataclasses
import operator
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vatt.evaluation import artefacts, geometry, metrics

TOP_RESULTS = 5
TEXT_EXAMPLES = 8
OTHER_EXAMPLES = 6
PICTURES_IN_MEMORY = 2**28  # bytes


@dataclasses.dataclass(frozen=True)
class Direction:
    """One way to search: what is given and what is looked for."""

    name: str  # in metric names
    kind: str  # in artefacts
    examples: int = OTHER_EXAMPLES  # number of illustrated queries


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two embeddings in one space, keys of `outputs`; each is looked for with the other."""

    left: str
    right: str
    forth: Direction  # left is given
    back: Direction  # right is given


PAIRS = (
    Pair(
        "text_tovid",
        "video_totxt",
        Direction("txt2vid", "text", TEXT_EXAMPLES),
        Direction("vid2txt", "video_text"),
    ),
    Pair(
        "audio_tovid",
        "video_toaud",
        Direction("audio2vid", "audio"),
        Direction("vid2audio", "video_audio"),
    ),
    Pair(
        "text_toaud",
        "audio_totxt",
        Direction("txt2audio", "text_audio"),
        Direction("audio2txt", "audio_text"),
    ),
)
VARIANTS: tuple[metrics.Variant, ...] = ("cosine", "embd")
ILLUSTRATED = "embd"


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
        self._vectors: dict[tuple[str, str], list[np.ndarray]] = {}  # by key and variant
        self._strings: dict[str, list[str]] = {"caption": [], "label_text": [], "source": []}
        self._pictures = tempfile.SpooledTemporaryFile(PICTURES_IN_MEMORY)  # noqa: SIM115
        self._picture_ends = [0]
        self._envelopes: list[np.ndarray] = []
        self._pairs: tuple[Pair, ...] = ()

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
                [B, windows, d] with `audio_tovid` [B, windows, d], and / or `audio_totxt`
                [B, windows, d] with `text_toaud` [B, d]; None counts as absent.

        Raises:
            ValueError: no complete pair of embeddings, or another set of pairs than before.
        """
        outputs = {name: np.asarray(value) for name, value in outputs.items() if value is not None}
        found = tuple(pair for pair in PAIRS if pair.left in outputs and pair.right in outputs)
        if not found:
            wanted = " or ".join(f"{pair.right} with {pair.left}" for pair in PAIRS)
            raise ValueError(f"{self.dataset}: outputs hold {sorted(outputs)}; needed: {wanted}")
        if self._pairs not in ((), found):
            raise ValueError(f"{self.dataset}: batches with different modalities in one evaluation")
        self._pairs = found
        rows = len(outputs[found[0].left])
        keep = np.flatnonzero(np.asarray(batch.get("valid", np.ones(rows))) > 0.5)
        for pair in found:
            self._add_vectors(pair, {key: outputs[key][keep] for key in (pair.left, pair.right)})
        for name, collected in self._strings.items():
            values = batch.get(name)
            collected.extend("" if values is None else _text(values[row]) for row in keep)
        if batch.get("thumbnail") is not None:
            for row in keep:
                jpeg = artefacts.strip_jpeg(batch["thumbnail"][row])
                self._pictures.write(jpeg)
                self._picture_ends.append(self._picture_ends[-1] + len(jpeg))
        heard = any(key.startswith("audio") for pair in found for key in (pair.left, pair.right))
        if batch.get("audio") is not None and heard:
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
        for pair in self._pairs:
            values |= self._geometry(pair)
            searched: dict[tuple[int, ...], tuple[metrics.Found, metrics.Found]] = {}
            for variant in VARIANTS:
                sides = tuple(self._all(key, variant) for key in (pair.left, pair.right))
                which = tuple(map(id, sides))  # with one window both variants are the same
                if which not in searched:
                    searched[which] = metrics.search(*sides)
                found, shown = self._figures(pair, variant, sides, searched[which], attributes)
                values |= found
                examples |= shown
        return RetrievalResult(self.dataset, values, self._artefact(examples))

    def _figures(
        self,
        pair: Pair,
        variant: metrics.Variant,
        sides: tuple[np.ndarray, ...],
        searched: tuple[metrics.Found, metrics.Found],
        attributes: Mapping[str, list[str | None]],
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Metrics of both directions and, for the illustrated variant, attributes and examples."""
        values: dict[str, float] = {}
        examples: dict[str, np.ndarray] = {}
        for direction, found, queries, gallery in (
            (pair.forth, searched[0], sides[0], sides[1]),
            (pair.back, searched[1], sides[1], sides[0]),
        ):
            prefix = f"{self.dataset}_{direction.name}_{variant}"
            for name, value in metrics.rank_metrics(found.ranks).items():
                values[f"{prefix}_{name}"] = value
            if variant == ILLUSTRATED:
                for name, value in metrics.attribute_agreement(found.best, attributes).items():
                    values[f"{prefix}_top1_{name}"] = value
                examples |= self._examples(direction, queries, gallery)
        return values, examples

    def _geometry(self, pair: Pair) -> dict[str, float]:
        """How both modalities of a pair lie in their space (`vatt.evaluation.geometry`)."""
        sides = [(key, key.partition("_")[0]) for key in (pair.right, pair.left)]
        right, left = (self._all(key, ILLUSTRATED) for key, _ in sides)
        found = geometry.pair_geometry(right, left)
        for side, (_, modality) in zip(("left", "right"), sides, strict=True):
            found[f"uniformity_{modality}"] = found.pop(f"uniformity_{side}")
        prefix = f"{self.dataset}_geometry_{'_'.join(modality for _, modality in sides)}"
        return {f"{prefix}_{name}": value for name, value in found.items()}

    def _add_vectors(self, pair: Pair, outputs: Mapping[str, np.ndarray]) -> None:
        """Averages windows now, so that memory does not grow with their number."""
        one_window = {key: value.ndim == 2 or value.shape[1] == 1 for key, value in outputs.items()}
        as_is = self._published_single_window and one_window[pair.right]
        for key, value in outputs.items():
            value = value.astype(np.float32)
            cosine = metrics.window_mean(value, "cosine")
            if one_window[key] and not as_is:
                embd = cosine  # the same numbers: kept once
            else:
                embd = metrics.window_mean(value, "embd", normalized=not as_is)
            self._vectors.setdefault((key, "cosine"), []).append(cosine)
            self._vectors.setdefault((key, "embd"), []).append(embd)

    def _all(self, key: str, variant: metrics.Variant) -> np.ndarray:
        """The vectors of all clips. Lets the pieces go that they are made of."""
        parts = self._vectors[key, variant]
        if len(parts) > 1:
            whole = np.concatenate(parts)
            for other in VARIANTS:
                pieces = self._vectors[key, other]
                if len(pieces) == len(parts) and all(map(operator.is_, pieces, parts)):
                    self._vectors[key, other] = [whole]
        return self._vectors[key, variant][0]

    def _examples(
        self, direction: Direction, queries: np.ndarray, gallery: np.ndarray
    ) -> dict[str, np.ndarray]:
        query = spread(len(queries), direction.examples)
        scores = queries[query] @ gallery.T
        top = metrics.top_columns(scores, TOP_RESULTS)
        arrays = {
            "query": query,
            "top": top,
            "score": np.take_along_axis(scores, top, axis=1),
            "hit": top == query[:, None],
            "rank": metrics.ranks(scores, query),
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
        if len(self._picture_ends) == len(self) + 1:
            jpegs = [self._jpeg(clip) for clip in clips]
            arrays["clips/jpeg"] = np.frombuffer(b"".join(jpegs), np.uint8)
            arrays["clips/jpeg_offsets"] = np.cumsum([0, *map(len, jpegs)]).astype(np.int64)
        if len(self._envelopes) == len(self):
            arrays["clips/envelope"] = np.stack([self._envelopes[clip] for clip in clips])
        return arrays | examples

    def _jpeg(self, clip: int) -> bytes:
        start, end = self._picture_ends[clip : clip + 2]
        self._pictures.seek(start)
        data = self._pictures.read(end - start)
        self._pictures.seek(0, 2)  # where the next one is added
        return data


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
