"""The labelled set that a classifier is trained or evaluated on, checked against its model.

labelled = open_set(cfg, "train")
labelled.card, labelled.input.split, labelled.classes
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from vatt import configs
from vatt.configs.backbones import Backbone
from vatt.data import pipeline
from vatt.data.cards import Card
from vatt.errors import DataError
from vatt.evaluators.subject import class_names

# What a card must list for a model of one modality; one of several needs the tasks of any of them.
TASKS = {
    "video": ("video_classification", "image_classification"),
    "audio": ("audio_classification",),
}
# What a mirror turns into another word; "_" and digits end a word, too.
_SIDES = re.compile(r"(?<![a-z])(left|right|(anti|counter)?[-_ ]?clockwise)(wards?)?(?![a-z])")
_KEY = "set"  # in the manifest of a checkpoint
_TRAIN, _TEST = 0, 1  # places in a pair of Card.folds

Value = TypeVar("Value")


@dataclass(frozen=True)
class LabelledSet:
    """A data set and how it is read: `input` with its split and, for pictures, its clip filled in.

    `labels` are the names of the classes; numbers where the card has no names.
    """

    card: Card
    input: configs.dataset.Finetune
    modalities: tuple[str, ...]

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return self.card.classes

    @property
    def labels(self) -> list[str]:
        """Name of every class."""
        return class_names(self.card)

    @property
    def windows(self) -> int:
        """Rows that evaluation makes of one clip."""
        crops = 3 if "video" in self.modalities and self.input.multi_crop else 1
        return self.input.num_windows_test * crops


def open_set(cfg: configs.ExperimentConfig, part: str) -> LabelledSet:
    """Returns the set that `cfg.train.input` or `cfg.eval.input` names; `part` says which of them.

    An empty split stands for the first fold of the card: train and test, or train and valid where
    there is no test. Clips of pictures are as long as one patch, one central crop each, as
    published.

    Raises:
      DataError: no such set or split, or one that cannot be used for a model of that modality.
    """
    data, path = getattr(cfg, part).input, f"{part}.input"
    card = pipeline.load_card(data.name, cfg.data_dir)
    _check(card, f"{path}.name", cfg.model)
    if not data.split:
        data = data.model_copy(update={"split": _default_split(card, part)})
    pipeline.check_split(card, data.split)
    try:
        data = input_of(data, card, cfg.model)
    except DataError as error:
        raise DataError(f"{path}.name: {error}") from None
    return LabelledSet(card, data, cfg.model.modalities)


def input_of(
    data: configs.dataset.Finetune, card: Card, model: Backbone
) -> configs.dataset.Finetune:
    """Returns how clips of a set are read; pictures are as long as a patch, one central crop each.

    Raises:
      DataError: they cannot be.
    """
    if "video" not in model.modalities or "image_classification" not in card.tasks:
        return data
    if not hasattr(model, "temporal_patch_size"):
        raise DataError(
            f"'{card.name}' holds pictures, which have no length to speak of for "
            f"{model.name}; accepted are models with patches, such as vit_base"
        )
    changes = {"num_frames": model.temporal_patch_size, "video_stride": 1}
    return data.model_copy(update=changes | {"num_windows_test": 1, "multi_crop": False})


def metadata(card: Card) -> dict[str, object]:
    """Returns what the manifest of a checkpoint says of the set that it was trained on."""
    return {_KEY: {"name": card.name, "tasks": card.tasks, "multi_label": card.multi_label}}


def told_by(facts: Mapping[str, object]) -> Card | None:
    """Returns what a manifest says of that set as a card; None where it says nothing."""
    try:
        return Card.model_validate(facts[_KEY])
    except (KeyError, ValueError):
        return None


def mirrored(labels: Sequence[str]) -> list[str]:
    """Classes that a mirrored picture takes for each other: the first that differ in sides only."""
    alike: dict[str, list[str]] = {}
    for label in labels:
        sideless = _SIDES.sub("*", label.lower())
        if sideless != label.lower():
            alike.setdefault(sideless, []).append(label)
    return next((found for found in alike.values() if len(found) > 1), [])


def as_inputs(by_modality: Mapping[str, Value]) -> Value | dict[str, Value]:
    """Returns what a classifier takes: the only value, or the mapping where there are several."""
    return next(iter(by_modality.values())) if len(by_modality) == 1 else dict(by_modality)


def check_same_classes(labels: Sequence[str], other: LabelledSet, where: str) -> None:
    """Raises DataError when `other` has other classes than a classifier with `labels`."""
    theirs = other.labels
    if len(labels) != len(theirs):
        raise DataError(
            f"data set '{other.card.name}' has {len(theirs)} classes, {where} {len(labels)}: "
            "a classifier can only be evaluated on the classes it was trained for"
        )
    pairs = zip(labels, theirs, strict=True)
    differing = [i for i, (ours, named) in enumerate(pairs) if ours != named]
    if differing and other.card.labels and labels[differing[0]] != str(differing[0]):
        first = differing[0]
        raise DataError(
            f"data set '{other.card.name}' has other classes than {where}: number {first} is "
            f"'{theirs[first]}' instead of '{labels[first]}' ({len(differing)} of {len(labels)} "
            "differ)"
        )


def _check(card: Card, path: str, model: Backbone) -> None:
    tasks = [task for modality in model.modalities for task in TASKS[modality]]
    for modality in model.modalities:
        pipeline.check_labelled(card, modality)
    if not set(card.tasks) & set(tasks):
        raise DataError(
            f"{path}: '{card.name}' serves {', '.join(card.tasks) or 'nothing'}; {model.name} "
            f"needs a set whose card lists the task {' or '.join(tasks)}"
        )


def _default_split(card: Card, part: str) -> str:
    folds = card.folds()
    if not folds:
        split = {"train": "train", "eval": "test"}[part]
        card.split(split)  # says which splits there are
        return split
    return folds[0][_TRAIN if part == "train" else _TEST]
