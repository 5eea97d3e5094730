"""Features of a frozen model for the folds of labelled sets, each clip once, kept on disk.

    for card, modality in classified(subject):
        for fold in folds(subject, card, modality):
            fold.train.pooled, fold.test.labels

A file is used again only when its recipe says that everything that could change a number is the
same: the checkpoint, how clips are read, the data, which part of the model. So evaluators that need
the same features share them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from absl import logging

from vatt.data import pipeline
from vatt.data.cards import Card
from vatt.errors import DataError
from vatt.evaluation import artefacts
from vatt.evaluators.subject import POOLED, Pretrained, Subject
from vatt.modeling.pretraining import Pair

TASKS = {"video": "video_classification", "audio": "audio_classification"}
# What of the input's configuration changes no number.
_FREE = ("name", "split", "batch_size", "shuffle_buffer", "num_parallel_calls", "data_service")

Part = Literal["train", "test"]


@dataclasses.dataclass(frozen=True)
class Features:
    """A split as the model sees it.

    Attributes:
      pooled: float32 [clips, windows, d], the aggregation token of the backbone.
      embedded: float32 [clips, windows, e], in the space where text is compared with this
        modality; e is 0 where there is none.
      labels: float32 [clips, classes].
      index: int64 [clips], number of the record in the split.
    """

    pooled: np.ndarray
    embedded: np.ndarray
    labels: np.ndarray
    index: np.ndarray


@dataclasses.dataclass(frozen=True)
class Fold:
    """A split to train on and one to test on; `number` as in the names of the splits, "0" if none.

    Training features have one window per clip and augmentation.
    """

    number: str
    train: Features
    test: Features


# -- which sets --------------------------------------------------------------------------------


def modalities(card: Card) -> list[str]:
    """Returns the modalities in which a set is classified, the first that its card lists first."""
    found = [m for task in card.tasks for m, name in TASKS.items() if name == task]
    return [m for m in found if getattr(card, m) is not None and card.classes and card.folds()]


def classified(subject: Subject[Pretrained]) -> Iterator[tuple[Card, str]]:
    """Yields labelled sets with each modality that they are classified in and the model takes."""
    for card in subject.cards:
        for modality in modalities(card):
            if modality in subject.model.modalities:
                yield card, modality


def pair_with_text(pairs: Sequence[Pair], modality: str) -> Pair | None:
    """Returns the pair in which text is compared with a modality, None where there is none."""
    return next((p for p in pairs if (p.query, p.target) == ("text", modality)), None)


# -- features of a set -------------------------------------------------------------------------


def folds(subject: Subject[Pretrained], card: Card, modality: str) -> Iterator[Fold]:
    """Yields the folds of a set with their features."""
    trains = _splits(subject, card, modality, "train")
    for (_, test_split), train, test in zip(
        card.folds(), trains, tests(subject, card, modality), strict=True
    ):
        yield Fold(card.fold_of(test_split) or "0", train, test)


def tests(subject: Subject[Pretrained], card: Card, modality: str) -> list[Features]:
    """Returns the features of the test split of every fold."""
    return _splits(subject, card, modality, "test")


def _splits(subject: Subject[Pretrained], card: Card, modality: str, part: Part) -> list[Features]:
    """Returns the features of one split of every fold, read in one pass."""
    splits = [train if part == "train" else test for train, test in card.folds()]
    pair = pair_with_text(subject.model.pairs, modality)
    key = None if pair is None else pair.right

    def make() -> Features:
        if part == "train":
            batches = subject.clips_to_train_on(card, splits, modality)
        else:
            batches = subject.clips(card, splits, (modality,))
        encode = subject.model.encode
        return collect(batches, lambda clips: encode(modality, clips), modality, key)

    path = subject.folder / "features" / f"{card.name}-{modality}-{part}.npz"
    joined = kept(path, recipe(subject, card, splits, modality, part, key), make)
    return apart(joined, pipeline.split_rows(card, splits))


def recipe(
    subject: Subject[Pretrained],
    card: Card,
    splits: Sequence[str],
    modality: str,
    part: Part,
    key: str | None,
) -> str:
    """Returns what decides the features, as JSON; `key` is that of the embeddings kept."""
    cfg, read = subject.cfg, subject.input.as_dict()
    decisive = {
        "checkpoint": subject.checkpoint,
        "pooled": POOLED,
        "embedded": key,
        "precision": cfg.precision,
        "input": {name: value for name, value in read.items() if name not in _FREE},
        "seed": cfg.seed if part == "train" else None,
        "modality": modality,
        "splits": list(splits),
        "part": part,
        "data": [_digest(card, split) for split in splits],
    }
    return json.dumps(decisive, sort_keys=True)


def apart(joined: Features, splits: Sequence[np.ndarray]) -> list[Features]:
    """Takes splits that were read in one pass apart again.

    Args:
      joined: `index` counts the records that were read, on from the last one for each repeat.
      splits: which of the records read are those of a split; see `pipeline.split_rows`.
    """
    read = max(int(rows.max(initial=-1)) for rows in splits) + 1
    record = joined.index % read
    parts = []
    for rows in splits:
        number = np.full(read, -1)
        number[rows] = np.arange(len(rows))
        own = number[record] >= 0
        fields = {f.name: getattr(joined, f.name)[own] for f in dataclasses.fields(Features)}
        parts.append(Features(**fields | {"index": number[record[own]]}))
    return parts


def kept(path: Path, made_by: str, make: Callable[[], Features]) -> Features:
    """Returns the features in `path` if they were made by the recipe `made_by`, else makes them."""
    fields = [field.name for field in dataclasses.fields(Features)]
    if path.exists():
        try:
            arrays = artefacts.load(path)
            if str(arrays["recipe"]) == made_by:
                return Features(**{field: arrays[field] for field in fields})
        except (DataError, KeyError) as error:
            logging.warning("%s is made again: %s", path, error)
    made = make()
    arrays = {field: getattr(made, field) for field in fields}
    artefacts.save(path, arrays | {"recipe": np.array(made_by)})
    return made


def collect(
    batches: Iterable[Mapping[str, np.ndarray]],
    encode: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    modality: str,
    key: str | None,
) -> Features:
    """Runs `encode` over batches of `pipeline.evaluation_batches`; leaves out what is not valid.

    Args:
      batches: with `modality`, `label`, `index` and `valid`.
      encode: from clips [batch, windows, ...] to what is kept of them [batch, windows, d], by key.
      modality: "video" or "audio".
      key: of the embeddings that are kept; None where there are none.
    """
    parts: dict[str, list[np.ndarray]] = {}
    for batch in batches:
        valid, encoded = batch["valid"] > 0.5, encode(batch[modality])
        pooled = encoded[POOLED]
        found = {
            "pooled": pooled,
            "embedded": pooled[..., :0] if key is None else encoded[key],
            "labels": batch["label"],
            "index": batch["index"],
        }
        for name, values in found.items():
            parts.setdefault(name, []).append(values[valid])
    return Features(**{name: np.concatenate(values) for name, values in parts.items()})


def _digest(card: Card, split: str) -> str:
    """SHA-256 of names, sizes and times of a split's shards; of the card for sets from code."""
    try:
        stats = [(shard.name, shard.stat()) for shard in card.shards(split)]
        text = "\n".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)
    except DataError:
        text = card.model_dump_json()
    return hashlib.sha256(text.encode()).hexdigest()
