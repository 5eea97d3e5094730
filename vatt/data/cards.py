"""Dataset cards: what a data set holds and where its shards are. A new set needs a card, no code.

    card = cards.load("toy_howto", data_dir="runs/toy/records")
    card.shards("train")        # sorted paths; a missing or empty shard is an error that names it
    cards.describe("audioset")  # what is known of a set before anyone has it

A card is `<data_dir>/<name>/card.yaml`, beside the shards its patterns name. The folder `data_dir`
is the argument, else the environment variable VATT_DATA_DIR; it may be the address of one in a
store. Cards without shards, one for each set
VATT is used with, are in `data/` of the project. Fields are explained in docs/datasets.md.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePath

import pydantic
import yaml

from vatt import assets
from vatt.configs import yaml_text
from vatt.data import stored_sets
from vatt.data.card_schema import (
    CARD_FILE,
    MANIFEST_FILE,
    TASKS,
    AudioInfo,
    Card,
    FeatureInfo,
    Split,
    TextInfo,
    VideoInfo,
)
from vatt.data.labels import label_fault, read_labels
from vatt.errors import DataError, nearest, short
from vatt.files import in_a_store, inside, read_text, replace_text

__all__ = [
    "CARD_FILE",
    "ENVIRONMENT_VARIABLE",
    "MANIFEST_FILE",
    "TASKS",
    "AudioInfo",
    "Card",
    "FeatureInfo",
    "Split",
    "TextInfo",
    "VideoInfo",
    "describe",
    "known",
    "load",
    "read",
    "read_labels",
    "write",
]

ENVIRONMENT_VARIABLE = "VATT_DATA_DIR"
_SHOWN = 20


def known() -> list[str]:
    """Returns the names of the data sets that are described in `data/` of the project."""
    return [PurePath(name).stem for name in assets.available("data", ".yaml")]


def describe(name: str) -> Card:
    """Returns the card of `data/<name>.yaml`: what is known of a data set before it is there.

    Raises:
      DataError: the project describes no such data set.
    """
    try:
        return read(assets.find(f"data/{name}.yaml"))
    except assets.AssetError:
        raise DataError(
            f"data set '{name}' is not described; described are: {', '.join(known())}."
            f"{nearest(name, known())}"
        ) from None


def load(name: str, data_dir: str | os.PathLike | None = None) -> Card:
    """Returns the card of the data set `name` in `data_dir`, else in $VATT_DATA_DIR.

    Raises:
      DataError: there is no such data set, or its card is not valid.
    """
    folder = data_dir if data_dir is not None else os.environ.get(ENVIRONMENT_VARIABLE)
    if not folder:
        raise DataError(
            f"data set '{short(name)}': no data folder given. Set --data_dir, or the environment "
            f"variable {ENVIRONMENT_VARIABLE}, to the folder that holds {short(name)}/{CARD_FILE}."
        )
    if in_a_store(os.fspath(folder)):
        stored = stored_sets.find(folder, name)
        return read(stored.card_file(), stored)
    if not os.path.isdir(folder):
        source = "data_dir" if data_dir is not None else ENVIRONMENT_VARIABLE
        raise DataError(
            f"data set '{short(name)}': {source} is '{short(folder, 200)}', and there is no such "
            f"folder.{_similar_folder(Path(folder)) or _how_to_make(name, Path(folder))}"
        )
    path = Path(folder) / name / CARD_FILE
    if os.path.isfile(path):  # False for what cannot be a name at all
        return read(path)
    present = sorted(card.parent.name for card in Path(folder).glob(f"*/{CARD_FILE}"))
    hint = nearest(name, present if name in known() else [*present, *known()])
    raise DataError(
        f"data set '{short(name)}' not found: looked for {short(path, 200)}; data sets there: "
        f"{', '.join(present) or 'none'}.{hint}{_how_to_make(name, Path(folder))}"
    )


def check_modality(card: Card, modality: str, uses: str = "is trained on") -> None:
    """Refuses a set that lacks a modality that a model uses.

    Raises:
      DataError: it does.
    """
    if getattr(card, modality) is None:
        raise DataError(
            f"Data set '{card.name}' has no {modality}, but the model {uses} {modality}."
        )


def _similar_folder(folder: Path) -> str:
    beside = folder.parent
    if not os.path.isdir(beside):
        return ""
    return nearest(folder.name, [path.name for path in beside.iterdir() if path.is_dir()])


def _how_to_make(name: str, folder: Path) -> str:
    if name not in known():
        command = "python -m vatt.data.ingest --input MEDIA --output_dir"
        return f"\nTo make it: {command} {short(folder / name, 200)}"
    card = describe(name)
    lines = [f"\nTo obtain it ({card.homepage}): {card.obtain.strip()}"] if card.obtain else []
    commands = card.ingest.strip().replace(f"${ENVIRONMENT_VARIABLE}", str(folder))
    return "".join([*lines, "\nTo make it:\n  ", commands.replace("\n", "\n  ")])


def read(path: Path, stored: stored_sets.StoredSet | None = None) -> Card:
    """Returns the card in a YAML file.

    Args:
      path: of the file.
      stored: the set in a store that the file is a copy from.

    Raises:
      DataError: the file is not a valid card; all faults are listed. Or its label file is not.
    """
    path = Path(path)
    try:
        content = yaml_text.document(read_text(path, yaml_text.MAX_BYTES))
    except OSError as error:
        raise DataError(f"{short(path, 200)}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: a card is a mapping of fields, found {type(content).__name__}.")
    try:
        card = Card.model_validate(content)
    except pydantic.ValidationError as error:
        raise DataError(f"{path} is not a valid card:\n{_explain(error)}") from error
    card._folder = path.parent
    if stored is not None:
        stored.fetch_beside(card)
        card._fetch = stored.fetch_shards
    if card.label_file is not None:
        card.labels = _labels_of(card)
    strangers = [name for name in card.prompts if card.labels and name not in card.labels]
    if strangers:
        raise DataError(
            f"{path}: prompts: there is no class '{strangers[0]}'."
            f"{nearest(strangers[0], card.labels)}"
        )
    return card


def _labels_of(card: Card) -> list[str]:
    path = card.folder / card.label_file
    try:
        inside(card.folder, card.label_file)
    except ValueError as error:
        raise DataError(f"label_file: {path}: {error}") from None
    labels = read_labels(path)
    fault = label_fault(labels, card.num_classes)
    if fault:
        raise DataError(f"label_file: {path}: {fault} in {card.folder / CARD_FILE}")
    return labels


def _explain(error: pydantic.ValidationError) -> str:
    lines, faults = [], error.errors()
    for fault in faults[:_SHOWN]:
        place = short(".".join(str(part) for part in fault["loc"]))
        message = fault["msg"].removeprefix("Value error, ")
        if not place:  # of the whole card
            lines.append(f"  {message}")
            continue
        hint = ""
        if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1:
            hint = nearest(place, Card.model_fields)
        lines.append(f"  {place}: {message} (found: {short(repr(fault['input']))}).{hint}")
    more = [f"  ... and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
    return "\n".join(lines + more)


def write(card: Card, folder: Path) -> Path:
    """Writes `card` into `folder` (whole or not at all) and returns the file's path."""
    path = Path(folder) / CARD_FILE
    content = card.model_dump(exclude_none=True)
    if card.label_file is not None:
        content.pop("labels", None)  # they are in that file
    content = {name: value for name, value in content.items() if value not in ("", [], {})}
    replace_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100))
    return path
