"""Pretrained word vectors: `.npz` files with one array, `word_embeddings`.

    table = load_word_embeddings("word2vec", vocab_size=65536, width=300)   # float32, row = word id

`vatt.tools.convert_embeddings` makes such files from the published pickles. Nothing here needs
TensorFlow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from vatt import assets
from vatt.data import archives
from vatt.errors import DataError

ENTRY = "word_embeddings"


def load_word_embeddings(name: str | Path, vocab_size: int, width: int) -> np.ndarray:
    """Reads pretrained word vectors for an embedding table of `vocab_size` rows of `width` values.

    Args:
      name: a `.npz` file, or its name in misc_data/ or $VATT_MISC_DIR.
      vocab_size: of the text model.
      width: its d_embedding.

    Returns:
      Float32 [vocab_size, width]; the row of a word is its id.

    Raises:
      DataError: no such file, another kind of file, or a table of another size.
    """
    try:
        path = assets.find_misc(name, ".npz")
    except assets.AssetError as error:
        raise DataError(
            f"No word embeddings '{name}': {error.accepted}.{error.hint} Make them from the "
            f"published file with 'python -m vatt.tools.convert_embeddings {Path(name).stem}.pkl "
            f"misc_data/{Path(name).stem}.npz', or leave word_embeddings empty and set "
            f"trainable_embeddings; see misc_data/README.md."
        ) from error
    try:
        with archives.Archive(path) as archive:
            if ENTRY not in archive.headers:
                raise ValueError(f"it holds {', '.join(archive.headers) or 'nothing'}")
            _check_size(path, archive.headers[ENTRY], vocab_size, width)
            table = archive.array(ENTRY)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} is not an .npz file with an array '{ENTRY}', as 'python -m "
            f"vatt.tools.convert_embeddings' writes it: {error}"
        ) from error
    return as_word_embeddings(table, path)


def initialise(layer: Any, name: str | Path | None) -> None:
    """Gives a new embedding layer the word vectors of `name`, where there is one.

    Says so of a layer that is left at random values and not trained.

    Raises:
      DataError: as `load_word_embeddings`.
    """
    if name:
        layer.embeddings.assign(load_word_embeddings(name, *layer.embeddings.shape))
    elif not layer.trainable:
        logging.warning(
            "word embeddings are frozen at random values: name pretrained ones in"
            " word_embeddings of the text model, or set trainable_embeddings"
            " (misc_data/README.md)"
        )


def _check_size(path: Path, header: archives.Header, vocab_size: int, width: int) -> None:
    """Refuses a table that is not the model's, before it is unpacked."""
    if len(header.shape) != 2 or header.dtype.kind != "f":
        raise _no_table(path, str(header))
    rows, values = header.shape
    if rows != vocab_size:
        raise DataError(
            f"{path} holds vectors of {rows} words, but the text model's vocab_size is "
            f"{vocab_size}: set vocab_size to {rows}."
        )
    if values != width:
        raise DataError(
            f"{path} holds vectors of {values} values, but the text model's d_embedding is "
            f"{width}: set d_embedding to {values}."
        )


def as_word_embeddings(table: object, source: str | Path) -> np.ndarray:
    """Returns `table` in float32; DataError unless it is a finite floating-point matrix."""
    found = type(table).__name__
    if isinstance(table, np.ndarray):
        found = f"{table.dtype} {list(table.shape)}"
        if table.ndim == 2 and table.dtype.kind == "f":
            with np.errstate(over="ignore"):
                table = table.astype(np.float32, copy=False)
            if np.isfinite(table).all():
                return table
            found += " with values that are not finite in float32"
    raise _no_table(source, found)


def _no_table(source: str | Path, found: str) -> DataError:
    return DataError(
        f"{source}: '{ENTRY}' is {found}; expected finite floating-point numbers [words, values]."
    )
