"""Vectors of words, from files of word2vec that need not fit into memory.

    vectors = WordVectors("GoogleNews-vectors-negative300.bin")
    values, mask = vectors([b"heat", b"the", b"pan"], most=20)   # float32 [20, 300] and [20]

Kept in memory is where each word stands, 16 bytes for each. The binary format: a line "words
values", then for each word its bytes, a space, float32 values (little-endian) and perhaps the end
of a line. The text format: a line for each word, with or without such a first line.
"""

from __future__ import annotations

import functools
import hashlib
import mmap
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import tensorflow as tf

from vatt import assets
from vatt.data import text
from vatt.errors import DataError, short

ENDINGS = (".bin", ".txt", ".vec")
MAX_WORD = 4096  # bytes
_MAX_VALUES, _MAX_WORDS = 100_000, 2**31
_KNOWN = 1 << 16  # words whose drawn vectors are kept


class Vectors(Protocol):
    """What knows vectors of words.

    Attributes:
      width: values of a vector.
    """

    width: int

    def find(self, word: bytes) -> np.ndarray | None:
        """Returns float32 [width]; None for a word that is not known."""


class DrawnVectors:
    """A vector for every word, of length 1 or so, that only its letters decide."""

    def __init__(self, width: int) -> None:
        """Draws nothing yet."""
        self.width = width
        self.find = functools.lru_cache(_KNOWN)(self._draw)

    def _draw(self, word: bytes) -> np.ndarray:
        drawn = np.random.Generator(np.random.Philox(key=_fingerprint(word)))
        values = drawn.standard_normal(self.width) / np.sqrt(self.width)
        return values.astype(np.float32)


class WordVectors:
    """A file of word vectors, binary or text; what is asked for is read when it is asked for.

    Attributes:
      path: of the file.
      width: values of a vector.
    """

    def __init__(self, path: str | Path) -> None:
        """Finds out where each word stands.

        Raises:
          DataError: the file cannot be read, or is of neither format.
        """
        self.path = Path(path)
        try:
            with open(self.path, "rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # an empty file cannot be mapped
            reason = error.strerror if isinstance(error, OSError) else "an empty file"
            raise DataError(f"{self.path}: cannot be read as word vectors: {reason}") from None
        try:
            self._binary, count, self.width, begin = self._form()
            found = self._binary_places(begin, count) if self._binary else self._lines(begin)
        except ValueError as error:
            raise DataError(f"{self.path}: no file of word vectors: {error}") from None
        prints, places = (np.frombuffer(part, np.uint64) for part in found)
        order = np.argsort(prints, kind="stable")  # of two vectors of a word the first one counts
        self._prints, self._places = prints[order], places[order]
        if hasattr(mmap, "MADV_DONTNEED"):  # what was passed over on the way need not stay
            self._bytes.madvise(mmap.MADV_DONTNEED)

    def __len__(self) -> int:
        """How many words there are."""
        return len(self._places)

    def find(self, word: bytes) -> np.ndarray | None:
        """Returns float32 [width]; None for a word that is not in the file."""
        sought = np.uint64(_fingerprint(word))
        at = int(np.searchsorted(self._prints, sought))
        while at < len(self._prints) and self._prints[at] == sought:
            place = int(self._places[at])
            end = place + len(word)
            if self._bytes[place : end + 1] == word + b" ":
                return self._values(end + 1)
            at += 1
        return None

    def _values(self, place: int) -> np.ndarray:
        try:
            if self._binary:
                values = np.frombuffer(self._bytes, "<f4", self.width, place).astype(np.float32)
            else:
                end = self._bytes.find(b"\n", place)
                line = self._bytes[place : end if end >= 0 else len(self._bytes)]
                values = _floats(line.split())
            if np.isfinite(values).all():
                return values
        except ValueError:
            pass  # as those that are not finite in float32
        raise DataError(f"{self.path}, byte {place}: no {self.width} finite numbers")

    def _form(self) -> tuple[bool, int, int, int]:
        """Whether it is binary, how many words of how many values, and where they begin."""
        header = self._bytes[: self._bytes.find(b"\n", 0, MAX_WORD) + 1]
        fields = header.split()
        if not (len(fields) == 2 and all(field.isdigit() for field in fields)):
            width = len(header.split()) - 1
            if width < 1 or not _numbers(header):
                raise ValueError(f"it begins with {short(header)!r}, no 'WORDS VALUES' nor a word")
            return False, 0, width, 0
        count, width = (int(field[:12]) for field in fields)
        if not (0 < count <= _MAX_WORDS and 0 < width <= _MAX_VALUES):
            raise ValueError(f"its first line says {count} words of {width} values")
        end = self._bytes.find(b"\n", len(header), len(header) + MAX_WORD + 32 * width)
        line = self._bytes[len(header) : end if end >= 0 else len(self._bytes)]
        text_format = len(line.split()) == width + 1 and _numbers(line)
        return not text_format, count, width, len(header)

    def _binary_places(self, begin: int, count: int) -> tuple[array, array]:
        """Fingerprints of the words, and where they stand."""
        content, size = self._bytes, 4 * self.width
        prints, places = array("Q"), array("Q")
        for number in range(count):
            while content[begin : begin + 1] == b"\n":
                begin += 1
            end = content.find(b" ", begin, begin + MAX_WORD)
            if end < 0 or end + 1 + size > len(content):
                raise ValueError(f"cut off or damaged at word {number} of {count}, byte {begin}")
            prints.append(_fingerprint(content[begin:end]))
            places.append(begin)
            begin = end + 1 + size
        if content[begin : begin + 2].strip():
            raise ValueError(f"something stands behind the last of its {count} words")
        return prints, places

    def _lines(self, begin: int) -> tuple[array, array]:
        """The same of a text file, without words that have a space in them, as in no caption."""
        prints, places = array("Q"), array("Q")
        self._bytes.seek(begin)
        while line := self._bytes.readline():
            spaces = len(line.split()) - 1
            if spaces == self.width:
                prints.append(_fingerprint(line.partition(b" ")[0]))
                places.append(begin)
            elif spaces >= 0 and spaces < self.width:
                raise ValueError(f"byte {begin}: {spaces} values, {self.width} in its first line")
            begin += len(line)
        return prints, places


def _numbers(line: bytes) -> bool:
    """Says whether all but the first field of a line are numbers."""
    try:
        _floats(line.split()[1:])
    except ValueError:
        return False
    return True


def _floats(fields: list[bytes]) -> np.ndarray:
    """Numbers as float32, infinite where they are beyond it; ValueError where they are none."""
    with np.errstate(over="ignore"):
        return np.array(fields, np.float32)


def _fingerprint(word: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(word, digest_size=8).digest(), "little")


@functools.lru_cache(maxsize=4)
def of_file(path: Path) -> WordVectors:
    """Returns the vectors of a file, once for all that ask."""
    return WordVectors(path)


def load(name: str | None, width: int) -> Vectors:
    """Returns the vectors that a configuration names; for None drawn ones.

    Args:
      name: a file, or its name in misc_data/ or $VATT_MISC_DIR.
      width: values that a vector must have.

    Raises:
      DataError: no such file, another kind of file, or vectors of another width.
    """
    if name is None:
        return DrawnVectors(width)
    path = _path(name)
    found = of_file(path)
    if found.width != width:
        raise DataError(
            f"tokens.word_vectors: {path} has vectors of {found.width} values, but text_embed_dim "
            f"is {width}: set it to {found.width}."
        )
    return found


def _path(name: str) -> Path:
    for ending in ENDINGS:
        try:
            return assets.find_misc(name, ending)
        except assets.AssetError as error:
            missing = error
    raise DataError(
        f"tokens.word_vectors: no file '{name}': {missing.accepted}.{missing.hint} The published "
        "models were trained with GoogleNews-vectors-negative300.bin; null draws vectors."
    ) from missing


def values(words: Sequence[bytes], vectors: Vectors, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of the first `most` words that are known, float32 [most, width], and a mask [most].

    All zeros where none is.
    """
    found = np.zeros([most, vectors.width], np.float32)
    place = 0
    for word in words:
        if place == most:
            break
        vector = vectors.find(bytes(word))
        if vector is not None:
            found[place] = vector
            place += 1
    return found, (np.arange(most) < place).astype(np.float32)


def split(captions: tf.Tensor) -> tf.Tensor:
    r"""The words of captions, string [n], one after another: string [words].

    Runs of letters, digits, underscores and apostrophes, as they are written.
    """
    return text.split_cased_words(captions).flat_values


def embedded(words: tf.Tensor, vectors: Vectors, most: int) -> tuple[tf.Tensor, tf.Tensor]:
    """`values` of string [words], in a graph."""
    found, mask = tf.numpy_function(
        lambda given: values(given, vectors, most),
        [words],
        (tf.float32, tf.float32),
        stateful=False,
    )
    return tf.ensure_shape(found, (most, vectors.width)), tf.ensure_shape(mask, (most,))
