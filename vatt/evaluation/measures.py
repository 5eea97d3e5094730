"""What evaluation finds: measures, and the published names that are made from them.

    measure = Measure("toy_retrieval", "retrieval", "R10", 0.82, split="test", query="text",
                      target="video", variant="embd", chance=0.03, samples=320)
    published_names([measure])      # {"toy_retrieval_txt2vid_embd_R10": 0.82, ...}

metrics.json and log lines show names, TensorBoard tags in groups, made here and nowhere else; the
report reads measures, which stand beside the names in metrics.jsonl. Nothing takes a name apart
again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from vatt.configs.sides import short

Fields = dict[str, str | float | None]

RETRIEVAL, GEOMETRY, ZERO_SHOT = "retrieval", "geometry", "zero_shot"
CLASSIFICATION = "classification"  # by a classifier that was trained for the set
LINEAR, KNN, PUBLISHED_PROBE = "linear", "knn", "published_probe"
PROBES = (LINEAR, KNN, PUBLISHED_PROBE)
MAIN = "embd"  # the way of averaging windows that is shown first
COMPLETE = "complete"  # as MAIN, of the complete set (`vatt.evaluation.complete`)
SECOND = "@"  # between a set and its modality, of those after the first one it is classified in


@dataclasses.dataclass(frozen=True)
class Measure:
    """One figure.

    Attributes:
      set: data set.
      task: what was asked of the model: `RETRIEVAL`, one of `PROBES`, ...
      name: of the figure: "R10", "MedianRank", "top_1_accuracy", "mAP", ...; attributes of the best
        match are "top1_<attribute>".
      value: the figure; NaN where it is not defined.
      split: split that was measured, "train" or "test" of a probe; empty for means over folds.
      fold: number of the fold as text; empty for sets without folds in the name and for means.
      query: what is given, of searches: a modality, or several (`vatt.configs.sides`).
      target: what is looked for or classified, likewise.
      variant: way of averaging windows, "embd" or "cosine", or `COMPLETE`.
      chance: what guessing reaches, where that is known.
      samples: clips behind the figure; of searches those that were asked with, of `COMPLETE` ones
        those of the complete set.
      gallery: of searches, how many there were to choose from.
      spread: standard deviation over folds (of samples, n - 1), of means over several.
      checkpoint: fingerprint of what was measured (`training.checkpoints.fingerprint`).
    """

    set: str
    task: str
    name: str
    value: float
    split: str = ""
    fold: str = ""
    query: str = ""
    target: str = ""
    variant: str = ""
    chance: float | None = None
    samples: int | None = None
    gallery: int | None = None
    spread: float | None = None
    checkpoint: str = ""

    def as_dict(self) -> Fields:
        """Returns the fields that say something; a value that is not finite is None."""
        found = {key: value for key, value in vars(self).items() if value not in (None, "")}
        for key in ("value", "chance", "spread"):
            if key in found:
                found[key] = float(found[key]) if math.isfinite(found[key]) else None
        return found

    @classmethod
    def from_dict(cls, fields: Mapping[str, str | float | None]) -> Measure:
        """Returns what `as_dict` was made from; fields of later versions are passed over.

        Raises:
          TypeError, ValueError: not such a mapping.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        found = {key: value for key, value in fields.items() if key in known}
        value = found.get("value")
        return cls(**found | {"value": math.nan if value is None else float(value)})


def published_names(measures: Sequence[Measure]) -> dict[str, float]:
    """Returns the values of measures by published name, with those of chance and of samples.

    Of a set that is classified in several modalities, those after the first are called
    `<set>@<modality>`.
    """
    names: dict[str, float] = {}
    for measure, called in zip(measures, _called(measures), strict=True):
        name, chance = _names(measure, called)
        for key, value in _around(measure, called):
            names[key] = max(value, names.get(key, value))
        if measure.chance is not None and chance:
            first = names.setdefault(chance, measure.chance)
            if measure.task == RETRIEVAL and first != measure.chance:  # another gallery
                names[f"{_asked(measure, called)}_chance_{measure.name}"] = measure.chance
        if measure.spread is not None:
            names[f"{name}_std"] = measure.spread
        names[name] = measure.value
    return names


def own_names(measures: Sequence[Measure]) -> list[str]:
    """Returns the published name of each measure, without those of chance and of samples."""
    called = _called(measures)
    return [_names(measure, name)[0] for measure, name in zip(measures, called, strict=True)]


def curves(measures: Sequence[Measure]) -> dict[str, float]:
    """Returns the values of measures by tag for TensorBoard, which folds them by task.

    "retrieval/toy_retrieval/txt2vid/R1". What is the same at every step, chance and the number of
    clips, is no curve. Single folds of a probe stand apart from the mean over them.
    """
    return {_tag(measure): measure.value for measure in measures}


def _tag(measure: Measure) -> str:
    query, target = short(measure.query), short(measure.target)
    task, pair = measure.task, f"{query}2{target}" if query else target
    if measure.task == GEOMETRY:
        pair = f"{measure.query}_{measure.target}"
    fold = "_".join(filter(None, (measure.fold, measure.split))) if task in PROBES else ""
    if fold:
        task += "_folds"
    variant = "" if measure.variant == MAIN else measure.variant
    parts = (task, measure.set, pair, variant, fold, measure.name)
    return "/".join(part for part in parts if part)


def _called(measures: Iterable[Measure]) -> list[str]:
    """Returns what the set of each measure is called in names."""
    first: dict[str, str] = {}
    called = []
    for measure in measures:
        name = measure.set
        classified = measure.task in (*PROBES, ZERO_SHOT)
        if classified and first.setdefault(measure.set, measure.target) != measure.target:
            name += SECOND + measure.target
        called.append(name)
    return called


def _names(measure: Measure, called: str) -> tuple[str, str]:
    """Returns the name of a measure, and that of its chance."""
    name = measure.name
    if measure.task == CLASSIFICATION:
        return name, f"chance_{name}"
    if measure.task == RETRIEVAL:
        whose = f"{called}_{COMPLETE}" if measure.variant == COMPLETE else called
        return f"{_asked(measure, called)}_{measure.variant}_{name}", f"{whose}_chance_{name}"
    if measure.task == GEOMETRY:
        return f"{called}_geometry_{measure.query}_{measure.target}_{name}", ""
    if measure.task == ZERO_SHOT:
        prefix = f"{called}_zero_shot"
        return f"{prefix}_{measure.variant}_{name}", f"{prefix}_chance_{name}"
    infix = "" if measure.task == LINEAR else f"{measure.task}_"
    fold = f"{measure.fold}_{measure.split}_" if measure.fold else ""
    return f"{called}_{fold}{infix}{name}", f"{called}_chance_{name}"


def _asked(measure: Measure, called: str) -> str:
    """Returns the name of what is given and what is looked for: "toy_txt2vid"."""
    query, target = short(measure.query), short(measure.target)
    return f"{called}_{query}2{target}"


def _around(measure: Measure, called: str) -> Iterable[tuple[str, float]]:
    """Yields the numbers of clips that stand beside a measure."""
    if measure.samples is None:
        return
    if measure.task == CLASSIFICATION:
        yield "num_clips", float(measure.samples)
    if measure.variant == COMPLETE:
        yield f"{called}_{COMPLETE}_num_clips", float(measure.samples)
    elif measure.task == RETRIEVAL:
        yield f"{called}_num_clips", float(max(measure.samples, measure.gallery or 0))
        if measure.gallery is not None:
            yield f"{_asked(measure, called)}_num_queries", float(measure.samples)
            yield f"{_asked(measure, called)}_num_gallery", float(measure.gallery)
