"""Converts published word vectors into an `.npz` file: a pickle of VATT or a tensor of GDT.

    python -m vatt.tools.convert_embeddings word2vec.pkl misc_data/word2vec.npz
    python -m vatt.tools.convert_embeddings word2vec.pth misc_data/gdt_word2vec.npz

VATT's has an entry `word_embeddings` (`vatt.data.pickled_arrays`), GDT's is one tensor in a file of
PyTorch (`vatt.data.torch_files`). Nothing in them is run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from vatt.data import pickled_arrays
from vatt.data.embeddings import ENTRY, as_word_embeddings
from vatt.data.pickled_arrays import Numbers
from vatt.data.pickles import UnknownNameError
from vatt.data.torch_files import ENDINGS, Tensor, TorchFile
from vatt.ended import ended
from vatt.errors import DataError
from vatt.files import make_folder, replacing


def read_pickle(path: str | Path) -> np.ndarray:
    """Returns the entry `word_embeddings` of a pickled dict, float32 `[words, values]`.

    Raises:
      DataError: unreadable, not a pickle, objects other than arrays in it, no such entry, or not
        a finite floating-point matrix.
    """
    try:
        content = pickled_arrays.read(path)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from error
    except UnknownNameError as error:
        raise DataError(f"{path} is refused: it {error}.") from error
    except ValueError as error:
        raise DataError(f"{path} is not a pickle of arrays, or damaged: {error}.") from error
    if not isinstance(content, dict):
        raise DataError(
            f"{path} holds a {type(content).__name__}; expected a dict with an entry '{ENTRY}'."
        )
    if ENTRY not in content:
        entries = ", ".join(sorted(map(repr, content))) or "none"
        raise DataError(f"{path} has no entry '{ENTRY}'; its entries are: {entries}.")
    found = content[ENTRY]
    try:
        table = found.array() if isinstance(found, Numbers) else found
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: '{ENTRY}' cannot be read: {error}.") from error
    return as_word_embeddings(table, path)


def read_torch(path: str | Path) -> np.ndarray:
    """Returns the tensor that is all there is in a file of PyTorch, float32 `[words, values]`.

    Raises:
      DataError: unreadable, another kind of file, or not a finite floating-point matrix.
    """
    try:
        file = TorchFile(path)
        if not isinstance(file.content, Tensor):
            raise ValueError(f"holds a {type(file.content).__name__}; expected one tensor")
        return as_word_embeddings(file.array(file.content), path)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise DataError(f"{path}: {error}.") from error


def write(table: np.ndarray, path: str | Path) -> None:
    """Writes the array under `word_embeddings`, the whole file or nothing.

    Raises:
      DataError: the file is not called `.npz`.
      WriteError: it cannot be written.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise DataError(f"The output is {path}, expected a name that ends in .npz.")
    make_folder(path.parent)
    with replacing(path) as partial, open(partial, "wb") as file:
        np.savez(file, **{ENTRY: table})


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m vatt.tools.convert_embeddings", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "source", metavar="IN", help="a published file of word vectors, .pkl or .pth"
    )
    parser.add_argument("output", metavar="OUT.npz", help="file to write")
    options = parser.parse_args(arguments)
    return ended(lambda: _run(options), "stopped")


def _run(options: argparse.Namespace) -> int:
    torch = options.source.lower().endswith(ENDINGS)
    table = (read_torch if torch else read_pickle)(options.source)
    write(table, options.output)
    words, values = table.shape
    print(f"{options.output}: {ENTRY}, {words} words of {values} values, {table.dtype}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
