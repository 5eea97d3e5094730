"""Ids of CLIP's tokenizer: pieces of words, by the file of merges that CLIP comes with.

    tokenizer = ClipTokenizer("bpe_simple_vocab_16e6.txt.gz")
    ids = tokenizer(["heat the pan"])      # int32 [1, 77]: 49406, ..., 49407, 0, ...

Byte pair encoding (Sennrich et al., 2016): a word is its bytes in UTF-8, the last one marked; of
neighbours those are joined first that stand first in the file. Of CLIP's own clean-up, text that
was decoded in a wrong way stays as it is.
"""

from __future__ import annotations

import functools
import gzip
import html
import itertools
import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from vatt import assets
from vatt.configs.tokens import CLIP_CONTEXT
from vatt.errors import DataError

ENDINGS = (".txt.gz", ".txt")
MERGES = 49152 - 256 - 2  # that are used: with bytes, marked bytes and two marks 49408 ids
MAX_BYTES = 2**25
_LAST = "</w>"
_SHORT = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
_KNOWN = 1 << 16  # words whose pieces are kept


class ClipTokenizer:
    """A tokenizer.

    Attributes:
      start: id in front of every sentence.
      end: id behind it, the largest one.
    """

    def __init__(self, path: str | Path) -> None:
        """Reads the merges.

        Raises:
          DataError: the file cannot be read, or holds something else.
        """
        merges = _read(Path(path))
        self._letters = _letters()
        names = [*self._letters.values(), *(letter + _LAST for letter in self._letters.values())]
        names += ["".join(pair) for pair in merges]
        self._ids = {name: number for number, name in enumerate(names)}
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self.start, self.end = len(names), len(names) + 1
        self._of_word = functools.lru_cache(_KNOWN)(self._pieces)

    def encode(self, sentence: str) -> list[int]:
        """Returns the ids of a sentence of any length, without the marks."""
        return [number for word in _words(sentence) for number in self._of_word(word)]

    def __call__(self, sentences: Sequence[str], length: int = CLIP_CONTEXT) -> np.ndarray:
        """Returns int32 [sentences, length], cut so that the mark of the end stays, or filled up.

        Zeros fill up, as published, though 0 is the id of "!".
        """
        found = np.zeros([len(sentences), length], np.int32)
        for row, sentence in zip(found, sentences, strict=True):
            ids = [self.start, *self.encode(sentence)[: length - 2], self.end]
            row[: len(ids)] = ids
        return found

    def _pieces(self, word: str) -> tuple[int, ...]:
        letters = [self._letters[byte] for byte in word.encode()]
        parts = [*letters[:-1], letters[-1] + _LAST]
        while len(parts) > 1:
            pairs = set(itertools.pairwise(parts))
            first = min(pairs, key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if first not in self._ranks:
                break
            parts = list(_joined(parts, first))
        return tuple(self._ids[part] for part in parts)


def _joined(parts: Sequence[str], pair: tuple[str, str]) -> Iterator[str]:
    """Yields the parts, neighbours that are the pair as one, from left to right."""
    place = 0
    while place < len(parts):
        if tuple(parts[place : place + 2]) == pair:
            yield "".join(pair)
            place += 2
        else:
            yield parts[place]
            place += 1


def _letters() -> dict[int, str]:
    """A letter for each byte, in the order of their ids: printable ones are themselves."""
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in shown]
    return {byte: chr(byte) for byte in shown} | {
        byte: chr(256 + number) for number, byte in enumerate(others)
    }


def _words(sentence: str) -> Iterator[str]:
    """Yields what is encoded by itself: endings of short forms, letters, single digits, the rest.

    All in lower case.
    """
    clean = html.unescape(html.unescape(unicodedata.normalize("NFC", sentence)))
    clean = re.sub(r"\s+", " ", clean).strip().lower()
    kinds = "".join(_kind(letter) for letter in clean)
    place = 0
    while place < len(clean):
        short = next((form for form in _SHORT if clean.startswith(form, place)), None)
        length = len(short) if short else 1
        if not short and kinds[place] in "LO":
            length = len(re.match(f"{kinds[place]}+", kinds[place:])[0])
        if kinds[place] != " ":
            yield clean[place : place + length]
        place += length


def _kind(letter: str) -> str:
    """L a letter, N a digit or number, a space, or O something else."""
    kind = unicodedata.category(letter)[0]
    return kind if kind in "LN" else " " if letter.isspace() else "O"


def _read(path: Path) -> list[tuple[str, str]]:
    """Returns the pairs of the file, the first ones first; its first line says its version."""
    try:
        content = path.read_bytes() if path.stat().st_size <= MAX_BYTES else b""
        if content[:2] == b"\x1f\x8b":
            with gzip.open(path) as file:
                content = file.read(MAX_BYTES)
        lines = content.decode("utf-8").split("\n")[1 : MERGES + 1]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as merges of CLIP's tokenizer: {error}") from None
    pairs = [tuple(line.split()) for line in lines if line.strip()]
    wrong = next((number for number, pair in enumerate(pairs, 2) if len(pair) != 2), None)
    if wrong is not None or not pairs:
        reason = f"line {wrong} is no pair" if wrong else "there is no pair in it"
        raise DataError(f"{path}: no file of merges of CLIP's tokenizer: {reason}")
    return pairs


@functools.lru_cache(maxsize=4)
def load(name: str) -> ClipTokenizer:
    """Returns the tokenizer of a file of merges, or of its name in misc_data/ or $VATT_MISC_DIR.

    Raises:
      DataError: no such file, or another kind of file.
    """
    for ending in ENDINGS:
        try:
            return ClipTokenizer(assets.find_misc(name, ending))
        except assets.AssetError as error:
            missing = error
    raise DataError(
        f"tokens.merges: no file '{name}': {missing.accepted}.{missing.hint} CLIP comes with "
        "bpe_simple_vocab_16e6.txt.gz."
    ) from missing


def encoded(
    words: tf.Tensor, tokenizer: ClipTokenizer, most: int, length: int = CLIP_CONTEXT
) -> tuple[tf.Tensor, tf.Tensor]:
    """Ids of a sentence of words, string [words], in a graph.

    Returns:
      Int32 [length], and float32 [most], 1 for each id between the marks of beginning and end: the
      tokens that a model makes of them.
    """

    def encode(given: np.ndarray) -> np.ndarray:
        sentence = b" ".join(given.tolist()).decode("utf-8", "replace")
        return tokenizer([sentence], length)[0]

    ids = tf.numpy_function(encode, [words], tf.int32, stateful=False)
    ids = tf.ensure_shape(ids, (length,))
    count = tf.argmax(ids, output_type=tf.int32) - 1  # the mark of the end is the largest id
    return ids, tf.sequence_mask(count, most, tf.float32)
