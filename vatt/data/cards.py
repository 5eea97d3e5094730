"""Dataset cards: what a data set holds and where its shards are. A new set needs a card, no code.

    card = cards.load("toy_howto", data_dir="runs/toy/records")
    card.shards("train")     # sorted paths; a missing or empty shard is an error that names it

A card is `<data_dir>/<name>/card.yaml`, beside the shards its patterns name. The folder `data_dir`
is the argument, else the environment variable VATT_DATA_DIR.
"""

from __future__ import annotations

import os
from pathlib import Path

import pydantic
import yaml

from vatt.errors import DataError, nearest
from vatt.files import replace_text

CARD_FILE = "card.yaml"
ENVIRONMENT_VARIABLE = "VATT_DATA_DIR"


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")


class VideoFacts(_Part):
    """Pictures of a data set. Height and width are None where they differ between clips."""

    fps: float = pydantic.Field(gt=0)
    height: int | None = None
    width: int | None = None


class AudioFacts(_Part):
    """Sound of a data set."""

    sample_rate: int = pydantic.Field(gt=0)


class TextFacts(_Part):
    """Text of a data set."""

    captions: bool = True


class Split(_Part):
    """Where the shards of a split are; `pattern` is relative to the folder of the card."""

    pattern: str
    num_shards: int = pydantic.Field(ge=0)
    records: int = pydantic.Field(ge=0)


class Card(_Part):
    """What a data set holds."""

    name: str
    description: str = ""
    source: str = ""
    licence: str = ""
    tasks: list[str] = []
    video: VideoFacts | None = None
    audio: AudioFacts | None = None
    text: TextFacts | None = None
    splits: dict[str, Split] = {}
    labels: list[str] | None = None  # class names; the index of a class is its position
    multi_label: bool = False
    attributes: list[str] = []  # groups of labels written as "group=value"
    fields: dict[str, str] = {}  # names on disk that differ, by attribute of features.RecordSchema
    _folder: Path | None = pydantic.PrivateAttr(default=None)

    @property
    def folder(self) -> Path:
        """The folder the card was loaded from."""
        if self._folder is None:
            raise DataError(f"data set '{self.name}': this card was not loaded from a folder.")
        return self._folder

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

    def records(self, split: str) -> int:
        """Returns how many records a split has."""
        return self.split(split).records

    def shards(self, split: str) -> list[Path]:
        """Returns the shard files of a split, sorted.

        Raises:
            DataError: the split is unknown, its pattern matches nothing or too few files, or a file
                is empty.
        """
        facts = self.split(split)
        where = f"data set '{self.name}', split '{split}'"
        again = f"Run vatt.data.ingest again for {self.folder}."
        found = sorted(p for p in self.folder.glob(facts.pattern) if p.is_file())
        if not found:
            raise DataError(f"{where}: no file in {self.folder} matches '{facts.pattern}'. {again}")
        if len(found) != facts.num_shards:
            raise DataError(
                f"{where}: {len(found)} of {facts.num_shards} shards match '{facts.pattern}' in "
                f"{self.folder}{_absent(facts, found)}. {again}"
            )
        empty = [path.name for path in found if path.stat().st_size == 0]
        if empty:
            raise DataError(f"{where}: empty shards in {self.folder}: {', '.join(empty)}. {again}")
        return found


def _absent(facts: Split, found: list[Path]) -> str:
    """Returns "; missing: ..." for patterns of the usual form."""
    prefix, star, suffix = facts.pattern.partition("?????")
    if not star or any(character in prefix + suffix for character in "*?["):
        return ""
    names = {path.name for path in found}
    expected = [f"{prefix}{index:05d}{suffix}" for index in range(facts.num_shards)]
    if not names <= set(expected):
        return ""  # shards without any clip are left out, so that the numbers have gaps
    missing = [name for name in expected if name not in names]
    shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
    return f"; missing: {shown}" if missing else ""


def _data_dirs(data_dir: str | os.PathLike | None) -> list[Path]:
    if data_dir is not None:
        return [Path(data_dir)]
    variable = os.environ.get(ENVIRONMENT_VARIABLE)
    return [Path(variable)] if variable else []


def load(name: str, data_dir: str | os.PathLike | None = None) -> Card:
    """Returns the card of the data set `name` in `data_dir`, else in $VATT_DATA_DIR.

    Raises:
        DataError: there is no such data set, or its card is not valid.
    """
    folders = _data_dirs(data_dir)
    if not folders:
        raise DataError(
            f"data set '{name}': no data folder given. Set data_dir, or the environment variable "
            f"{ENVIRONMENT_VARIABLE}, to the folder that holds {name}/{CARD_FILE}."
        )
    for folder in folders:
        path = folder / name / CARD_FILE
        if path.is_file():
            return read(path)
    present = sorted(
        path.parent.name for folder in folders for path in folder.glob(f"*/{CARD_FILE}")
    )
    if name.startswith("toy_"):
        make = f"To make it: python -m vatt.data.toy --output_dir MEDIA --sets {name}, then "
    else:
        make = "To make it: "
    looked = ", ".join(str(folder / name / CARD_FILE) for folder in folders)
    raise DataError(
        f"data set '{name}' not found: looked for {looked}; data sets there: "
        f"{', '.join(present) or 'none'}.{nearest(name, present)} {make}"
        f"python -m vatt.data.ingest --manifest {'MEDIA/' + name + '/' if 'MEDIA' in make else ''}"
        f"manifest.csv --output_dir {folders[0] / name}"
    )


def read(path: Path) -> Card:
    """Returns the card in a YAML file.

    Raises:
        DataError: the file is not a valid card; all faults are listed.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: a card is a mapping of fields, found {type(content).__name__}.")
    try:
        card = Card.model_validate(content)
    except pydantic.ValidationError as error:
        raise DataError(f"{path} is not a valid card:\n{_explain(error)}") from error
    card._folder = path.parent
    return card


def _explain(error: pydantic.ValidationError) -> str:
    lines = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        hint = ""
        if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1:
            hint = nearest(place, Card.model_fields)
        lines.append(f"  {place}: {fault['msg']} (found: {fault['input']!r}).{hint}")
    return "\n".join(lines)


def write(card: Card, folder: Path) -> Path:
    """Writes `card` into `folder` (whole or not at all) and returns the file's path."""
    path = Path(folder) / CARD_FILE
    text = yaml.safe_dump(card.model_dump(), sort_keys=False, allow_unicode=True, width=100)
    replace_text(path, text)
    return path
