"""What a card says: the fields of `card.yaml`, checked, and what follows from them.

Cards are read and written by `vatt.data.cards`. Fields are explained in docs/datasets.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Literal

import pydantic

from vatt.data import framing
from vatt.data.features import FEATURE_NAME, RECORD, name_fault, split_part
from vatt.data.labels import label_fault
from vatt.errors import DataError, nearest, short
from vatt.files import read_json

CARD_FILE = "card.yaml"
MANIFEST_FILE = "manifest.json"
MOST_RECORDS = 10**9  # of a shard or split

TASKS = {
    "pretrain": "contrastive pretraining, whose labels, if any, are not read",
    "retrieval": (
        "zero-shot retrieval: each clip of the test split is searched for by its caption or by its "
        "sound"
    ),
    "video_classification": "clips labelled with what is seen",
    "image_classification": "pictures with a label, stored as clips of one frame",
    "audio_classification": "clips labelled with what is heard",
}
_OLD_TASKS = {  # in cards written before the names were fixed
    "classification": ("video_classification", "audio_classification"),
    "audio_multi_label": ("audio_classification",),
}

_SHOWN = 5


def _unusual(name: str) -> int:
    """How far the name of a split is from the usual one: first the name, then its capitals."""
    usual = re.compile(rf"{split_part(name)[0]}(_?\d+)?")
    return 0 if usual.fullmatch(name) else 1 if usual.fullmatch(name.lower()) else 2


def _pair(parts: dict[str, str]) -> tuple[str, str] | None:
    """The splits to train and to test on."""
    test = parts.get("test") or parts.get("valid")
    return (parts["train"], test) if test and "train" in parts else None


def _stays_inside(name: str | None) -> str | None:
    path = PurePath(name or "")
    if path.is_absolute() or ".." in path.parts or "\0" in str(path):
        raise ValueError("must be relative to the folder of the card and stay in it")
    return name


def _is_pattern(pattern: str) -> None:
    parts = PurePath(_stays_inside(pattern)).parts
    if pattern and not parts:
        raise ValueError("must name files")
    if parts.count("**") > 1 or any("**" in part for part in parts if part != "**"):
        raise ValueError("'**' stands for all folders: between '/', and once in a pattern")


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)


class VideoInfo(_Part):
    """Pictures of a data set. Height and width are None where they differ between clips."""

    fps: float = pydantic.Field(ge=1e-6, le=10**6)
    height: int | None = None
    width: int | None = None


class AudioInfo(_Part):
    """Sound of a data set.

    `feature`: the extracted feature that is its spectrogram, in place of waveforms.
    """

    sample_rate: int = pydantic.Field(gt=0, le=10**6)
    feature: str | None = None


class TextInfo(_Part):
    """Text of a data set."""

    captions: bool = True


class FeatureInfo(_Part):
    """Extracted features of one kind; `recipe` says how they were made, where that is known."""

    width: int = pydantic.Field(ge=1, le=MOST_RECORDS)  # values per vector
    rate: float = pydantic.Field(ge=1e-6, le=10**6)  # vectors per second
    recipe: dict[str, str | int | float | bool] | None = None


class Split(_Part):
    """Where the shards of a split are; a pattern is relative to the folder of the card.

    Splits that share clips have patterns in common. `num_shards` and `records` are None for shards
    made by others, where nobody has counted.
    """

    pattern: str | list[str]
    num_shards: int | None = pydantic.Field(default=None, ge=0, le=MOST_RECORDS)
    records: int | None = pydantic.Field(default=None, ge=0, le=MOST_RECORDS)

    @property
    def patterns(self) -> list[str]:
        """One pattern or several, as a list."""
        return [self.pattern] if isinstance(self.pattern, str) else self.pattern

    def files(self, folder: Path) -> list[Path]:
        """The files in the folder of the card that match, sorted; each once."""
        matching = (path for pattern in self.patterns if pattern for path in folder.glob(pattern))
        return sorted({path for path in matching if path.is_file()})

    @pydantic.field_validator("pattern")
    @classmethod
    def _inside(cls, pattern: str | list[str]) -> str | list[str]:
        for one in [pattern] if isinstance(pattern, str) else pattern:
            _is_pattern(one)
        return pattern


class Card(_Part):
    """What a data set holds."""

    name: str
    description: str = ""
    source: str = ""
    homepage: str = ""
    licence: str = ""
    obtain: str = ""  # how to get the media and annotations
    ingest: str = ""  # commands that make the shards of them
    notes: str = ""
    tasks: list[str] = []  # of TASKS
    video: VideoInfo | None = None
    audio: AudioInfo | None = None
    text: TextInfo | None = None
    features: dict[str, FeatureInfo] = {}  # by name, on disk feature/<name>
    splits: dict[str, Split] = {}
    paper_splits: dict[str, int | None] = {}  # clips of each split as published, where known
    complete_splits: dict[str, pydantic.PositiveInt] = {}  # clips of a split when none is missing
    record_type: Literal["SequenceExample", "Example"] = "SequenceExample"
    fields: dict[str, str] = {}  # names on disk that differ, by attribute of features.RecordSchema
    num_classes: int | None = pydantic.Field(default=None, ge=1, le=10**6)
    labels: list[str] | None = None  # class names; the index of a class is its position
    label_file: str | None = None  # beside the card; `labels` are read from it
    multi_label: bool = False
    attributes: list[str] = []  # groups of labels written as "group=value"
    prompts: dict[str, list[str]] = {}  # sentences of a class, by its name, for zero-shot use
    _inside = pydantic.field_validator("label_file")(_stays_inside)
    _folder: Path | None = pydantic.PrivateAttr(default=None)
    _fetch: Callable[[list[str]], None] | None = pydantic.PrivateAttr(default=None)
    _counted: dict[str, dict[Path, int]] = pydantic.PrivateAttr(default_factory=dict)

    @pydantic.field_validator("name")
    @classmethod
    def _names_files(cls, name: str) -> str:
        if fault := name_fault(name):
            raise ValueError(fault)
        return name

    @pydantic.field_validator("splits")
    @classmethod
    def _split_names(cls, splits: dict[str, Split]) -> dict[str, Split]:
        for name in splits:
            if fault := name_fault(name):
                raise ValueError(f"'{short(name)}': {fault}")
        return splits

    @pydantic.field_validator("tasks")
    @classmethod
    def _known_tasks(cls, tasks: list[str]) -> list[str]:
        tasks = [new for task in tasks for new in _OLD_TASKS.get(task, (task,))]
        for task in tasks:
            if task not in TASKS:
                raise ValueError(f"'{task}' is none of {', '.join(TASKS)}.{nearest(task, TASKS)}")
        return list(dict.fromkeys(tasks))

    @pydantic.field_validator("fields")
    @classmethod
    def _known_fields(cls, fields: dict[str, str]) -> dict[str, str]:
        try:
            RECORD.renamed(fields)
        except DataError as error:
            raise ValueError(str(error)) from None
        return fields

    @pydantic.field_validator("features")
    @classmethod
    def _named_features(cls, features: dict[str, FeatureInfo]) -> dict[str, FeatureInfo]:
        for name in features:
            if not FEATURE_NAME.fullmatch(name):
                raise ValueError(f"'{name}': letters, digits and _ only")
        return features

    @pydantic.model_validator(mode="after")
    def _features_fit(self) -> Card:
        if self.features and self.record_type != "SequenceExample":
            raise ValueError("features need record_type: SequenceExample, whose lists they are")
        sound = self.audio.feature if self.audio else None
        if sound is not None and sound not in self.features:
            raise ValueError(f"audio.feature: '{sound}' is none of features")
        return self

    @pydantic.model_validator(mode="after")
    def _labels_fit(self) -> Card:
        if self.labels is not None and self.label_file is not None:
            raise ValueError("labels and label_file exclude each other")
        if fault := label_fault(self.labels, self.num_classes):
            raise ValueError(fault)
        if empty := [name for name, sentences in self.prompts.items() if not sentences]:
            raise ValueError(f"prompts: class '{empty[0]}' has no sentence")
        return self

    @property
    def folder(self) -> Path:
        """The folder the card was loaded from."""
        if self._folder is None:
            raise DataError(f"data set '{self.name}': this card was not loaded from a folder.")
        return self._folder

    @property
    def classes(self) -> int:
        """How many classes there are; 0 without labels."""
        return len(self.labels or ()) or self.num_classes or 0

    @property
    def feature_widths(self) -> dict[str, int]:
        """Values per vector of each kind of features, as `clips.parse` takes them."""
        return {name: about.width for name, about in self.features.items()}

    @property
    def test_records(self) -> int | None:
        """Clips of the split `test` as published, where known."""
        return self.paper_splits.get("test")

    def split(self, split: str) -> Split:
        """Returns a split.

        Raises:
          DataError: the data set has no such split.
        """
        if split not in self.splits:
            raise DataError(
                f"data set '{self.name}' has no split '{split}'; it has: "
                f"{', '.join(self.splits) or 'none'}.{nearest(split, self.splits)} "
                f"(card: {self.folder / CARD_FILE})"
            )
        return self.splits[split]

    def folds(self) -> list[tuple[str, str]]:
        """Returns the pairs (split to train on, split to test on).

        `train_1` goes with `test_1` and so on (also `train1` with `test1`), in order of numbers; in
        a set without numbers `train` goes with `test`, or with `valid` where there is no `test`.
        Other names of these are understood (`features.SPLIT_NAMES`), also with capitals. Sets
        without such splits have no pair. Of a set that is only described, the published splits
        count.

        Raises:
          DataError: a numbered split lacks its counterpart.
        """
        names = list(self.splits or self.paper_splits)
        found: dict[int | None, dict[str, str]] = {}  # by number and part; the first name counts
        for name in sorted(names, key=_unusual):
            part, number = split_part(name)
            if part:
                found.setdefault(number, {}).setdefault(part, name)
        plain = found.pop(None, {})
        pairs = {number: _pair(parts) for number, parts in sorted(found.items())}
        for number, pair in pairs.items():
            alone = found[number].get("train") or found[number].get("test")
            if pair is None and alone and not _unusual(alone):
                other = "test" if alone.startswith("train") else "train"
                raise DataError(
                    f"data set '{self.name}': split '{alone}' has no counterpart "
                    f"'{other}_{number}'; splits: {', '.join(names)}."
                )
        numbered = [pair for pair in pairs.values() if pair]
        return numbered or [pair for pair in [_pair(plain)] if pair]

    def fold_of(self, split: str) -> str:
        """Returns the number of the fold that a split belongs to, as text; empty without folds."""
        part, number = split_part(split)
        return str(number) if part and number is not None else ""

    def records(self, split: str) -> int:
        """Returns how many records a split has, counted when the card does not say it.

        Raises:
          DataError: see `shard_records`.
        """
        known = self.split(split).records
        return sum(self.shard_records(split).values()) if known is None else known

    def shard_records(self, split: str) -> dict[Path, int]:
        """Returns how many records each shard of a split has, in the order of `shards`.

        The numbers are those of `manifest.json` beside the card where it lists all these shards;
        else they are counted, once for each card object.

        Raises:
          DataError: the split is unknown, shards are missing, or one is cut off or damaged.
        """
        if split not in self._counted:
            shards = self.shards(split)
            listed = _listed_records(self.folder)
            known = all(shard in listed for shard in shards)
            self._counted[split] = (
                {shard: listed[shard] for shard in shards}
                if known
                else framing.count_records(shards)
            )
        return dict(self._counted[split])

    def shards(self, split: str) -> list[Path]:
        """Returns the shard files of a split, sorted.

        Raises:
          DataError: the split is unknown, its pattern matches nothing or too few files, or a file
            is empty.
        """
        part = self.split(split)
        where = f"data set '{self.name}', split '{split}'"
        again = f"Run vatt.data.ingest again for {self.folder}."
        if part.num_shards is None:  # not made by us
            again = f"Correct pattern or files (card: {self.folder / CARD_FILE})."
        if self._fetch is not None:  # from where the set is stored
            self._fetch(part.patterns)
        found = part.files(self.folder)
        pattern = "' or '".join(part.patterns)
        if not found:
            raise DataError(f"{where}: no file in {self.folder} matches '{pattern}'. {again}")
        if part.num_shards is not None and len(found) != part.num_shards:
            raise DataError(
                f"{where}: {len(found)} of {part.num_shards} shards match '{pattern}' in "
                f"{self.folder}{_absent(part, found)}. {again}"
            )
        empty = [path.name for path in found if path.stat().st_size == 0]
        if empty:
            raise DataError(f"{where}: empty shards in {self.folder}: {', '.join(empty)}. {again}")
        return found


def _absent(part: Split, found: list[Path]) -> str:
    """Returns "; missing: ..." for patterns as `ingest` writes them."""
    expected: list[str] = []
    for pattern in part.patterns:
        parts = re.fullmatch(r"([^*?[]+)\?{5}(-of-(\d{5})[^*?[]*)", pattern)
        if not parts:
            return ""
        expected += [f"{parts[1]}{index:05d}{parts[2]}" for index in range(int(parts[3]))]
    names = {path.name for path in found}
    if not names <= set(expected) or len(expected) != part.num_shards:
        return ""  # shards without any clip are left out, so that the numbers have gaps
    missing = [name for name in expected if name not in names]
    shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
    return f"; missing: {shown}" if missing else ""


def listed_shards(folder: Path) -> dict[str, tuple[int, str]]:
    """Records and SHA-256 ("" if it says none) of the shards that `manifest.json` lists, by name.

    Raises:
      OSError: it cannot be read.
      ValueError: it is not one of ours.
    """
    content = read_json(folder / MANIFEST_FILE)
    shards = content.get("shards") if isinstance(content, dict) else None
    if not isinstance(shards, list):
        raise ValueError("it has no list `shards`")
    found = {}
    for shard in shards:
        fields = shard if isinstance(shard, dict) else {}
        name, records, checksum = (fields.get(key) for key in ("file", "records", "sha256"))
        counted = isinstance(records, int) and 0 <= records <= MOST_RECORDS
        if not (isinstance(name, str) and counted and isinstance(checksum, str | None)):
            raise ValueError(f"a shard is {short(shard)}, not file, records and sha256")
        found[name] = records, checksum or ""
    return found


def _listed_records(folder: Path) -> dict[Path, int]:
    """Records of the shards that `manifest.json` lists; they are right for damaged shards, too."""
    try:
        return {folder / name: records for name, (records, _) in listed_shards(folder).items()}
    except (OSError, ValueError):
        return {}  # no such file, or not ours: records can be counted
