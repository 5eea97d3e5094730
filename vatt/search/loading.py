"""From the name of an index to what searches it, with the model that the index was made with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vatt.api import index, naming
from vatt.errors import CheckpointError, UserError
from vatt.files import sha256
from vatt.quiet import import_tensorflow_quietly
from vatt.search.gallery import Gallery
from vatt.training import checkpoint_files

if TYPE_CHECKING:
    from vatt.search.finder import Finder


def load(path: str | os.PathLike, model: str | os.PathLike | None = None, **options: Any) -> Finder:
    """Returns what searches an index.

    Args:
      path: of the index, as `vatt.tools.embed` makes it.
      model: that it was made with, where that is no longer where the index says.
      **options: as of `vatt.load`.

    Raises:
      UserError: there is no such index or model, or the index was made with another one.
    """
    gallery = Gallery(path)
    return build(gallery, find_model(gallery, model, **options))


def find_model(
    gallery: Gallery, name: str | os.PathLike | None = None, **options: Any
) -> naming.Named:
    """Returns the model that an index was made with; TensorFlow is not needed.

    Of a run the checkpoint is taken that the index was made with, where it is still there.

    Raises:
      UserError: it is not where the index says, or another one.
    """
    recipe = gallery.recipe
    given = os.fspath(name or str(recipe.get("model", "")))
    of_index = Path(given) / str(recipe.get("weights", ""))
    if Path(given).is_dir() and Path(f"{of_index}.index").is_file():
        given = str(of_index)
    try:
        named = naming.find(given, **options)
    except UserError as error:
        if name:
            raise
        told = f"{gallery.path} was made with the model {given}: {error}. Give it with --model"
        raise type(error)(told) from error
    manifest = _manifest(named.checkpoint)
    if manifest is not None and sha256(manifest) != recipe.get("checkpoint"):
        raise other_model(gallery, given)  # told at once; `build` compares once more
    return named


def _manifest(checkpoint: Path | None) -> Path | None:
    """The file of a checkpoint that its fingerprint is of, where it is one of TensorFlow's."""
    if checkpoint is None:
        return None
    if checkpoint.is_dir() and (steps := checkpoint_files.committed(checkpoint)):
        checkpoint = checkpoint / f"ckpt-{steps[-1]}"
    file = Path(f"{checkpoint}.index")
    return file if file.is_file() else None


def build(gallery: Gallery, named: naming.Named) -> Finder:
    """Returns what searches an index with a model.

    Raises:
      UserError: the index was made with other weights.
    """
    import_tensorflow_quietly()
    from vatt.api import building
    from vatt.search.finder import Finder

    model = building.build(named)
    as_indexed = {key: gallery.recipe.get(key) for key in ("modalities", "stride")}
    differing = index.same(gallery.recipe, index.as_stored(model.recipe | as_indexed))
    if "checkpoint" in differing:
        raise other_model(gallery, model.name)
    return Finder(gallery, model, differing)


def other_model(gallery: Gallery, name: str) -> UserError:
    """The error of an index of other weights."""
    return CheckpointError(
        f"{gallery.path} was made with other weights than those of {name}: with "
        f"{gallery.made_with}. Give that checkpoint with --model, or embed the files again"
    )
