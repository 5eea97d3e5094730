"""Pretrained word vectors: `.npz` files with one array, `word_embeddings`.

    table = load_word_embeddings("word2vec", vocab_size=65536, width=300)   # float32, row = word id

`vatt.tools.convert_embeddings` makes such files from the published pickles. Nothing here needs
TensorFlow.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vatt import assets
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
        with np.load(path, allow_pickle=False) as archive:
            table = archive[ENTRY]
    except Exception as error:  # whatever another kind of file or a damaged one leads to
        raise DataError(
            f"{path} is not an .npz file with an array '{ENTRY}', as 'python -m "
            f"vatt.tools.convert_embeddings' writes it: {error}"
        ) from error
    table = as_word_embeddings(table, path)
    rows, values = table.shape
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
    return table


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
    raise DataError(
        f"{source}: '{ENTRY}' is {found}; expected finite floating-point numbers [words, values]."
    )
