"""Zero-shot retrieval on one data set: collect embeddings by batches, then score and illustrate.

    retrieval = Retrieval("toy_retrieval", model.pairs)
    for batch in batches:                       # NumPy dicts of pipeline.evaluation_batches
        retrieval.add(batch, outputs)           # outputs: embeddings by key
    result = retrieval.result()
    published_names(result.measures)["toy_retrieval_txt2vid_embd_R10"]
    result.save(model_dir, step=2000)           # model_dir/eval/toy_retrieval-2000.npz

What is compared, the model says: each side of its pairs is looked for with the other. Measures are
those of `metrics.rank_metrics` for both ways of averaging windows, of the best match also the share
with the query's attributes (`top1_<attribute>`), all with what chance reaches, and those of
`vatt.evaluation.geometry`. Every sample with valid = 1 counts once, whatever the batch size.

A clip without a caption or without sound (`text_mask`, `audio_mask`) cannot be asked with, and has
no caption or sound that could be found. So queries are the clips that have both what is given and
what is looked for, and the gallery is every clip that has what is looked for: text is looked up
among all videos, those without caption too, as published. `samples` and `gallery` of a measure
count both.

Rows of one id (`ids` of a batch) are parts of a clip: their embeddings are averaged before all
else. Where the size of the complete test set is given, measures of the variant "complete" stand
beside the others: `vatt.evaluation.complete`, with every clip asked with and found, whatever it
lacks.

Memory: of each embedding that is given, one vector per clip and variant (windows are averaged as
they come); all scores are never held at once, and pictures beyond 256 MB go to a temporary file.
One million clips with text and video embeddings of 512 numbers, one window each, take 4 GB while
they are added and 8 GB while they are ranked (measured, docs/benchmarks.md).
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import logging

from vatt.configs import sides
from vatt.data.features import AUDIO_MASK, TEXT_MASK, VIDEO_MASK
from vatt.evaluation import artefacts, complete, geometry, measures, metrics, search
from vatt.evaluation.gathered import VARIANTS, Embeddings
from vatt.evaluation.measures import COMPLETE, Measure

if TYPE_CHECKING:
    from vatt.modeling.pretraining import Pair

TOP_RESULTS = 5
EXAMPLES = 6  # illustrated queries of a direction
CAPTION_EXAMPLES = 8  # where videos are looked for by text
PICTURES_IN_MEMORY = 2**28  # bytes
ILLUSTRATED = "embd"
# Of a batch, by modality: which clips have it, or which of their positions are real.
MASKS = {"text": TEXT_MASK, "audio": AUDIO_MASK, "video": VIDEO_MASK}


@dataclasses.dataclass(frozen=True)
class RetrievalResult:
    """Measures, and the arrays described in `vatt.evaluation.artefacts`."""

    dataset: str
    measures: list[Measure]
    artefact: dict[str, np.ndarray]

    def save(self, model_dir: Path | str, step: int) -> Path:
        """Writes the artefact to `<model_dir>/eval/<dataset>-<step>.npz` and returns that path."""
        path = Path(model_dir) / "eval" / f"{self.dataset}-{int(step)}.npz"
        return artefacts.save(path, self.artefact | {"step": np.int64(step)})


@dataclasses.dataclass(frozen=True)
class _Direction:
    """One way to search."""

    query: str
    target: str
    found: search.Found
    left: np.ndarray  # [clips, d], of what is given
    right: np.ndarray  # [clips, d], of what is looked for
    queries: np.ndarray  # int64, numbers of the clips that are asked with
    gallery: np.ndarray  # int64, numbers of the clips that can be found


class Retrieval:
    """Accumulates one pass over a retrieval set; what it keeps per clip is a few kilobytes."""

    def __init__(
        self,
        dataset_name: str,
        pairs: Sequence[Pair],
        *,
        split: str = "test",
        total: int | None = None,
        published_single_window: bool = False,
    ) -> None:
        """Starts an evaluation.

        Args:
          dataset_name: in measures and in names of files.
          pairs: what is compared.
          split: that is measured.
          total: clips of the complete set, for the measures of "complete"; None leaves them out.
          published_single_window: leaves "embd" without normalisation where there is one window,
            as published (docs/differences.md).

        Raises:
          ValueError: there is no pair.
        """
        if not pairs:
            raise ValueError(f"{dataset_name}: no pair of embeddings, nothing to compare")
        self.dataset, self._split, self._total = dataset_name, split, total
        self._pairs = tuple(pairs)
        # Embeddings may be compared in several pairs; each is kept once.
        self._keys = {
            key: pair.right for pair in reversed(self._pairs) for key in (pair.right, pair.left)
        }
        self._vectors = Embeddings(self._keys, published_single_window=published_single_window)
        self._ids: list[str] = []  # of the rows, where they may be parts of clips
        self._strings: dict[str, list[str]] = {"caption": [], "label_text": [], "source": []}
        self._there: dict[str, list[np.ndarray]] = {m: [] for m in MASKS}  # bool [rows] each
        self._pictures = tempfile.SpooledTemporaryFile(PICTURES_IN_MEMORY)  # noqa: SIM115
        self._spans: list[tuple[int, int]] = []  # where each lies
        self._envelopes: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._strings["caption"])

    def add(
        self, batch: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray | None]
    ) -> None:
        """Adds the valid rows of one batch.

        Args:
          batch: `valid` [B]; optional `text_mask`, `audio_mask`, `video_mask` [B] or
            [B, positions], `ids` bytes [B], the same for parts of a clip and "-1" for what does not
            count, `caption`, `label_text`, `source` bytes [B], `thumbnail` uint8
            [B, frames, h, w, 3], `audio` [B, windows, samples, 1] or [B, windows, time, mel, 1]
            (only for pictures).
          outputs: the embeddings of every pair by key, [B, windows, d] or [B, d].

        Raises:
          ValueError: an embedding of a pair is missing.
        """
        outputs = {name: np.asarray(value) for name, value in outputs.items() if value is not None}
        if not self._keys.keys() <= outputs.keys():
            needed = " and ".join(f"{pair.right} with {pair.left}" for pair in self._pairs)
            raise ValueError(f"{self.dataset}: outputs hold {sorted(outputs)}; needed: {needed}")
        rows = len(outputs[self._pairs[0].left])
        counts = np.asarray(batch.get("valid", np.ones(rows))) > 0.5
        if (ids := batch.get("ids")) is not None:
            counts = counts & [_text(one) != complete.DROPPED for one in ids]
            self._ids += [_text(one) for one in np.asarray(ids)[counts]]
        keep = np.flatnonzero(counts)
        self._vectors.add({key: outputs[key][keep] for key in self._keys}, parts=ids is not None)
        for name, collected in self._strings.items():
            values = batch.get(name)
            collected.extend("" if values is None else _text(values[row]) for row in keep)
        for modality, mask in MASKS.items():
            there = np.asarray(batch.get(mask, np.ones(rows))) > 0.5
            self._there[modality].append(there.reshape(rows, -1).any(axis=1)[keep])
        self._add_pictures(batch, keep)

    def _add_pictures(self, batch: Mapping[str, np.ndarray], keep: np.ndarray) -> None:
        if batch.get("thumbnail") is not None:
            for row in keep:
                start = self._pictures.tell()
                self._pictures.write(artefacts.strip_jpeg(batch["thumbnail"][row]))
                self._spans.append((start, self._pictures.tell()))
        heard = any("audio" in pair.modalities for pair in self._pairs)
        if batch.get("audio") is not None and heard:
            middle = np.shape(batch["audio"])[1] // 2  # the window the thumbnail shows
            audio = np.asarray(batch["audio"])[:, middle]
            self._envelopes.extend(artefacts.envelope(audio[row]) for row in keep)

    def _join(self) -> None:
        """Makes one clip of the rows of each id; what is shown of it is that of the first."""
        _, first, groups = np.unique(self._ids, return_index=True, return_inverse=True)
        self._vectors.join(self._ids)
        self._strings = {name: [x[i] for i in first] for name, x in self._strings.items()}
        for modality, parts in self._there.items():
            there = np.bincount(groups, weights=np.concatenate(parts)) > 0  # in any part
            self._there[modality] = [there]
        for shown in (self._spans, self._envelopes):
            shown[:] = [shown[i] for i in first if i < len(shown)]
        self._ids = []

    def result(self) -> RetrievalResult:
        """Measures and example pictures of everything added; nothing can be added any more.

        Raises:
          ValueError: nothing valid was added.
        """
        if not len(self):
            raise ValueError(f"{self.dataset}: no valid clip was added, nothing to evaluate")
        if self._ids:
            self._join()
        if self._total is not None and self._total < len(self):
            logging.warning(
                "%s, %s: %d clips are more than the %d of the complete set: not measured as such",
                *(self.dataset, self._split, len(self), self._total),
            )
            self._total = None
        attributes = parse_attributes(self._strings["label_text"])
        found: list[Measure] = []
        examples: dict[str, np.ndarray] = {}
        for pair in self._pairs:
            found += self._geometry(pair)
            for variant, direction in self._searches(pair):
                found += self._ranking(direction, variant)
                if variant == ILLUSTRATED:
                    found += self._agreement(direction, variant, attributes)
                    examples |= self._examples(direction)
        return RetrievalResult(self.dataset, found, self._artefact(examples))

    def _searches(self, pair: Pair) -> Iterator[tuple[str, _Direction]]:
        """Searches both ways: with both ways of averaging windows, and as a complete set."""
        searched: dict[tuple[object, ...], tuple[search.Found, search.Found]] = {}
        for variant in VARIANTS if self._total is None else (*VARIANTS, COMPLETE):
            there = [self.there(side) for side in (pair.query, pair.target)]
            if variant == COMPLETE:
                there = [np.ones(len(self), bool)] * 2
            averaged = ILLUSTRATED if variant == COMPLETE else variant
            left, right = (self._vectors.all(key, averaged) for key in (pair.left, pair.right))
            # with one window both variants are the same
            which = id(left), id(right), *(side.all() for side in there)
            if which not in searched:
                searched[which] = search.search(left, right, absent=(~there[0], ~there[1]))
            forth, back = searched[which]
            both = np.flatnonzero(there[0] & there[1])
            query, target = pair.query, pair.target
            galleries = [np.flatnonzero(side) for side in there]
            yield variant, _Direction(query, target, forth, left, right, both, galleries[1])
            yield variant, _Direction(target, query, back, right, left, both, galleries[0])

    def _ranking(self, direction: _Direction, variant: str) -> Iterator[Measure]:
        clips, found, total = len(direction.gallery), direction.found, self._total
        if variant == COMPLETE:
            values, chance = complete.metrics(found.shared, total), complete.chance(clips, total)
        else:
            values = metrics.rank_metrics(found.ranks[direction.queries])
            chance = metrics.chance_metrics(clips)
        for name, value in values.items():
            yield self._measure(direction, variant, name, value, chance.get(name))

    def _agreement(
        self,
        direction: _Direction,
        variant: str,
        attributes: Mapping[str, Sequence[str | None]],
    ) -> Iterator[Measure]:
        """What the best match shares with the clip that was asked with."""
        chance = metrics.attribute_chance(attributes, direction.queries, direction.gallery)
        best = direction.found.best
        for name, value in metrics.attribute_agreement(best, attributes, direction.queries).items():
            yield self._measure(direction, variant, f"top1_{name}", value, chance[name])

    def _measure(
        self,
        direction: _Direction,
        variant: str,
        name: str,
        value: float,
        chance: float | None,
    ) -> Measure:
        return Measure(
            self.dataset,
            measures.RETRIEVAL,
            name,
            value,
            split=self._split,
            query=direction.query,
            target=direction.target,
            variant=variant,
            chance=chance,
            samples=self._total if variant == COMPLETE else len(direction.queries),
            gallery=len(direction.gallery),
        )

    def there(self, modality: str) -> np.ndarray:
        """Which clips have a modality, bool [clips]; of several, all of them."""
        names = sides.modalities(modality)
        parts = [np.concatenate(self._there[name]) for name in names if name in MASKS]
        return np.logical_and.reduce([np.ones(len(self), bool), *parts])

    def _geometry(self, pair: Pair) -> Iterator[Measure]:
        """How both sides of a pair lie in their space (`vatt.evaluation.geometry`)."""
        right, left = (self._vectors.all(key, ILLUSTRATED) for key in (pair.right, pair.left))
        both = self.there(pair.query) & self.there(pair.target)
        if not both.all():
            right, left = right[both], left[both]
        found = geometry.pair_geometry(right, left)
        found[f"uniformity_{pair.target}"] = found.pop("uniformity_left")
        found[f"uniformity_{pair.query}"] = found.pop("uniformity_right")
        for name, value in found.items():
            yield Measure(
                self.dataset,
                measures.GEOMETRY,
                name,
                value,
                split=self._split,
                query=pair.target,
                target=pair.query,
                samples=len(left),
            )

    def _examples(self, direction: _Direction) -> dict[str, np.ndarray]:
        kind = direction.query, direction.target
        count = CAPTION_EXAMPLES if kind == ("text", "video") else EXAMPLES
        query = direction.queries[spread(len(direction.queries), count)]
        scores = direction.left[query] @ direction.right.T
        if len(direction.gallery) < len(self):
            hidden = np.setdiff1d(np.arange(len(self)), direction.gallery)
            scores[:, hidden] = -np.inf
        top = metrics.top_columns(scores, min(TOP_RESULTS, len(direction.gallery)))
        arrays = {
            "query": query,
            "top": top,
            "score": np.take_along_axis(scores, top, axis=1),
            "hit": top == query[:, None],
            "rank": metrics.ranks(scores, query),
            "num_queries": np.int64(len(direction.queries)),
            "num_gallery": np.int64(len(direction.gallery)),
        }
        return {f"{'_'.join(kind)}/{name}": array for name, array in arrays.items()}

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
        if len(self._spans) == len(self):
            jpegs = [self._jpeg(clip) for clip in clips]
            arrays["clips/jpeg"] = np.frombuffer(b"".join(jpegs), np.uint8)
            arrays["clips/jpeg_offsets"] = np.cumsum([0, *map(len, jpegs)]).astype(np.int64)
        if len(self._envelopes) == len(self):
            arrays["clips/envelope"] = np.stack([self._envelopes[clip] for clip in clips])
        return arrays | examples

    def _jpeg(self, clip: int) -> bytes:
        start, end = self._spans[clip]
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
