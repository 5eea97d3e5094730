"""Features of a frozen model for a labelled split, each clip once, kept on disk with their recipe.

A file is used again only when everything that could change a number is the same: the checkpoint,
how clips are read, the data, which part of the model.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import logging

from vatt import configs
from vatt.data.cards import Card
from vatt.errors import DataError
from vatt.evaluation import artefacts

LAYER = "features_pooled"  # of the backbone
# What of the input's configuration changes no number.
_FREE = ("name", "split", "batch_size", "shuffle_buffer", "num_parallel_calls", "data_service")


@dataclasses.dataclass(frozen=True)
class Features:
    """A split as the model sees it.

    Attributes:
        pooled: float32 [clips, windows, d], the aggregation token of the backbone.
        beside_text: float32 [clips, windows, e], in the space of text; e is 0 where there is none.
        labels: float32 [clips, classes].
        index: int64 [clips], number of the record in the split.
    """

    pooled: np.ndarray
    beside_text: np.ndarray
    labels: np.ndarray
    index: np.ndarray


def recipe(
    cfg: configs.ExperimentConfig,
    card: Card,
    splits: Sequence[str],
    modality: str,
    part: str,
    checkpoint: str,
) -> str:
    """Returns what decides the features, as JSON; `checkpoint` is its fingerprint."""
    data = cfg.eval.input.as_dict()
    facts = {
        "checkpoint": checkpoint,
        "layer": LAYER,
        "precision": cfg.precision,
        "input": {key: value for key, value in data.items() if key not in _FREE},
        "seed": cfg.seed if part == "train" else None,
        "modality": modality,
        "splits": list(splits),
        "part": part,
        "data": [_digest(card, split) for split in splits],
    }
    return json.dumps(facts, sort_keys=True)


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


def kept(path: Path, wanted: str, make: Callable[[], Features]) -> Features:
    """Returns the features in `path` if they were made by the recipe `wanted`, else makes them."""
    fields = [field.name for field in dataclasses.fields(Features)]
    if path.exists():
        try:
            arrays = artefacts.load(path)
            if str(arrays["recipe"]) == wanted:
                return Features(**{field: arrays[field] for field in fields})
        except (DataError, KeyError) as error:
            logging.warning("%s is made again: %s", path, error)
    made = make()
    arrays = {field: getattr(made, field) for field in fields}
    artefacts.save(path, arrays | {"recipe": np.array(wanted)})
    return made


def collect(
    batches: Iterable[Mapping[str, np.ndarray]],
    encode: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    modality: str,
) -> Features:
    """Runs `encode` over batches of `pipeline.evaluation_batches`; leaves out what is not valid.

    Args:
      batches: with `modality`, `label`, `index` and `valid`.
      encode: from clips [batch, windows, ...] to `pooled` and `beside_text` [batch, windows, d].
      modality: "video" or "audio".
    """
    parts: dict[str, list[np.ndarray]] = {}
    for batch in batches:
        valid = batch["valid"] > 0.5
        found = dict(encode(batch[modality])) | {"labels": batch["label"], "index": batch["index"]}
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
