"""The zoo: published checkpoints by name, where they are and what reads them.

    zoo.known()["gdt_k400"]         # all that is known of one; what is not known is None
    zoo.find("GDT-K400")            # the same, however it is spelt
    cache.download("gdt_k400")      # vatt.zoo.cache: fetched, and where it lies

The table is `misc_data/zoo.yaml`. Of a method that this version does not have, checkpoints are
listed and can be fetched, but not loaded.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pydantic

from vatt import assets, methods
from vatt.configs import yaml_text
from vatt.errors import DataError, UserError, nearest, short
from vatt.files import read_text

TABLE = "misc_data/zoo.yaml"


class Checkpoint(pydantic.BaseModel):
    """A published checkpoint.

    Attributes:
      name: what it is called here.
      method: that pretrained it, by the name in `vatt.methods`.
      task: what it is a checkpoint of.
      model: in the words of its paper.
      architecture: our `--model_arch`.
      config: our configuration, where the preset of the architecture is not it.
      overrides: what that lacks, for `--params_override`.
      data: it was pretrained on; after a semicolon, fine-tuned.
      figures: published, none of them measured here.
      kind: who wrote the file.
      file: name of the file; of a checkpoint of TensorFlow without its two endings.
      address: of that file.
      sizes, sha256: by name of a file.
      page: that lists it.
      note: what else there is to say.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    method: str
    task: Literal["pretrain", "finetune"]
    model: str
    data: str
    kind: Literal["tensorflow", "torch", "flax"]
    page: str
    architecture: str | None = None
    config: str | None = None
    overrides: str | None = None
    figures: Mapping[str, float] = {}
    file: str | None = None
    address: str | None = None
    sizes: Mapping[str, int] = {}
    sha256: Mapping[str, str] = {}
    note: str | None = None

    @property
    def loadable(self) -> bool:
        """Whether this version has its method and its architecture."""
        return self.method in methods.MODULES and self.architecture is not None

    @property
    def published(self) -> str:
        """Its figures in one line."""
        return ", ".join(f"{name} {value:g}" for name, value in self.figures.items())

    def options(self) -> list[str]:
        """Options of `vatt.main` and the converter that make its configuration."""
        given = {
            "model_arch": self.architecture,
            "config_file": self.config,
            "params_override": self.overrides,
        }
        return [f"--{name}={value}" for name, value in given.items() if value]


@functools.cache
def known() -> Mapping[str, Checkpoint]:
    """Returns every checkpoint of the table by its name, in their order there.

    Raises:
      DataError: the table is not there, or damaged.
    """
    return read(assets.find(TABLE))


def read(path: Path) -> dict[str, Checkpoint]:
    """Returns what a table holds, by name.

    Raises:
      DataError: it is damaged.
    """
    try:
        rows = yaml_text.document(read_text(path, yaml_text.MAX_BYTES))["checkpoints"]
        return {name: Checkpoint(name=name, **row) for name, row in rows.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: no table of checkpoints ({short(reason, 300)})") from None


def find(name: str) -> Checkpoint:
    """Returns the checkpoint of a name; capitals and hyphens do not matter.

    Raises:
      UserError: there is none; the message has the nearest.
    """
    table = known()
    wanted = name.strip().lower().replace("-", "_")
    if wanted not in table:
        raise UserError(
            f"no published checkpoint is called '{short(name)}'.{nearest(wanted, table)} "
            "python -m vatt.tools.zoo lists them"
        )
    return table[wanted]


def having(words: list[str]) -> list[Checkpoint]:
    """Returns the checkpoints that each of `words` is said of, somewhere in the table."""

    def said(checkpoint: Checkpoint) -> str:
        return " ".join(map(str, checkpoint.model_dump(exclude_none=True).values())).lower()

    return [row for row in known().values() if all(word.lower() in said(row) for word in words)]
