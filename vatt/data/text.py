"""Captions to token ids, inside the graph: vocabularies, tokenizers, choice of candidates.

    vocabulary = text.load_vocabulary(cfg)               # cfg.text_tokenizer, cfg.vocabulary
    tokenizer = text.tokenizer(vocabulary)
    ids = tokenizer(tf.constant(["Add the garlic!"]), max_words=16)   # int32 [1, 16], 0 = padding

Words are found as in VATT's published pipeline: ASCII punctuation deleted, ASCII letters
lower-cased, split at white space. What the vocabulary lacks becomes <unk>. `CASED_TOKENIZER` is
GDT's: runs of letters, digits, underscores and apostrophes as they are written; what the vocabulary
lacks is left out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import tensorflow as tf
from absl import logging

from vatt import assets
from vatt.data import records, sampling
from vatt.errors import DataError, nearest, short

WORD_TOKENIZER = "WordTokenizer"
BERT_TOKENIZER = "BertTokenizer"
CASED_TOKENIZER = "CasedWordTokenizer"
DEFAULT_VOCABULARY = {
    WORD_TOKENIZER: "howto100m_en",
    BERT_TOKENIZER: "bert_uncased_en",
    CASED_TOKENIZER: "howto100m_cased_en",
}
# pad, bos, eos, unk
SPECIAL_WORDS = {
    WORD_TOKENIZER: ("<pad>", "<bos>", "<eos>", "<unk>"),
    BERT_TOKENIZER: ("[PAD]", "[CLS]", "[SEP]", "[UNK]"),
    CASED_TOKENIZER: ("<pad>",),
}
PUNCTUATION = r"[!-/:-@\[-`{-~]"  # the 32 ASCII punctuation characters
# Whitespace beyond ASCII that separates words; the no-break spaces U+00A0, U+2007 and U+202F do
# not.
WIDE_SPACE = (
    r"[\x{1c}-\x{1f}\x{1680}\x{2000}-\x{2006}\x{2008}-\x{200a}\x{2028}\x{2029}\x{205f}\x{3000}]"
)
NOT_CASED_WORDS = r"[^\p{L}\p{N}_']+"
_DIGITS = 9  # of an id
CAPTION_SELECTIONS = ("nearest", "first", "random")


class TextConfig(Protocol):
    """The configuration fields this module reads."""

    text_tokenizer: str
    vocabulary: str | None
    use_bos: bool
    use_eos: bool


@dataclass(frozen=True)
class Vocabulary:
    """Words by id, checked: special words present, no duplicates, padding is id 0."""

    words: tuple[str, ...]
    kind: str
    path: str = ""

    def __len__(self) -> int:
        return len(self.words)

    def _special(self, position: int) -> int:
        return self.words.index(SPECIAL_WORDS[self.kind][position])

    @property
    def text(self) -> str:
        """The words as a file has them, one per line."""
        return "".join(f"{word}\n" for word in self.words)

    @property
    def digest(self) -> str:
        """SHA-256 of the words in their order, and of how they are found."""
        return hashlib.sha256(f"{self.kind}\n{self.text}".encode()).hexdigest()

    @property
    def pad_id(self) -> int:
        return self._special(0)

    @property
    def bos_id(self) -> int:
        return self._special(1)

    @property
    def eos_id(self) -> int:
        return self._special(2)

    @property
    def unk_id(self) -> int:
        """What a caption of one unknown word becomes: padding, where it is left out."""
        return self.pad_id if self.kind == CASED_TOKENIZER else self._special(3)

    def check_fits(self, model_vocab_size: int, word_embeddings: str | None = None) -> None:
        """Raises DataError when the model's embedding table has fewer rows than there are words.

        Warns when it has more and they are pretrained: most likely they belong to other words.
        """
        if word_embeddings and len(self) < model_vocab_size:
            logging.warning(
                "The vocabulary %s has %d words, but the word embeddings '%s' have %d: row i must "
                "be the vector of word i.",
                self.path,
                len(self),
                word_embeddings,
                model_vocab_size,
            )
        if len(self) > model_vocab_size:
            raise DataError(
                f"The vocabulary {self.path} has {len(self)} words, but the text model's "
                f"vocab_size is {model_vocab_size}: raise vocab_size to at least {len(self)}, or "
                f"build a smaller vocabulary with 'python -m vatt.data.vocabulary "
                f"--max_size={model_vocab_size} ...'."
            )


def _find_vocabulary(given: str | None, kind: str) -> Path:
    """Path of a vocabulary given as a file or as a name in misc_data/, or of the published one."""
    name = given or DEFAULT_VOCABULARY[kind]
    try:
        return assets.find_misc(name, ".txt")
    except assets.AssetError as error:
        if kind == BERT_TOKENIZER:
            remedy = f"Take vocab.txt of an uncased BERT and save it as misc_data/{name}.txt"
        else:
            remedy = (
                f"Build one from the captions of a data set with 'python -m vatt.data.vocabulary "
                f"--card <data_dir>/<dataset> --output misc_data/{Path(name).stem}.txt'"
            )
        missing = f"No vocabulary '{name}'"
        if not given:
            missing = f"vocabulary is null, which stands for the published one of {kind}, '{name}'"
        raise DataError(
            f"{missing}: {error.accepted}.{error.hint} {remedy}, and name it in the "
            f"field 'vocabulary'; see misc_data/README.md."
        ) from error


def read_vocabulary(path: str | Path, kind: str = WORD_TOKENIZER) -> Vocabulary:
    """Reads a file with one word per line (id = line number from 0) or "id word" per line.

    Raises:
      DataError: unreadable or empty file, ids that are not 0..n-1, duplicates, upper-case words,
        missing special words, padding that is not id 0.
    """
    path = Path(path)
    try:
        # Only "\n" ends a line: words may hold what `str.splitlines` takes for an end of line.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read the vocabulary {path}: {error}") from error
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise DataError(f"The vocabulary {path} is empty.")
    words = _words_of_lines(lines, path)
    _check_words(words, kind, path)
    return Vocabulary(tuple(words), kind, str(path))


def _words_of_lines(lines: Sequence[str], path: Path) -> list[str]:
    # Not at all white space: the tokenizer leaves the no-break space in a word.
    fields = [re.split(r"[ \t]+", line.strip(" \t")) for line in lines]
    if not all(len(f) == 2 and f[0].isdecimal() and len(f[0]) <= _DIGITS for f in fields):
        for number, field in enumerate(fields, 1):
            if len(field) != 1 or not field[0]:
                line = short(lines[number - 1])
                raise DataError(f"{path}, line {number}: '{line}' is not one word (or 'id word').")
        return [field[0] for field in fields]
    by_id = {int(number): word for number, word in fields}
    if sorted(by_id) != list(range(len(fields))):
        raise DataError(f"{path}: the ids must be 0 to {len(fields) - 1}, each once.")
    return [by_id[i] for i in range(len(fields))]


def _check_words(words: Sequence[str], kind: str, path: Path) -> None:
    seen: dict[str, int] = {}
    for number, word in enumerate(words):
        if word in seen:
            raise DataError(
                f"{path}: the word '{short(word)}' stands twice, as id {seen[word]} and as id "
                f"{number}."
            )
        seen[word] = number
        lower = word == _ascii_lower(word) or kind == CASED_TOKENIZER
        if not lower and not (kind == BERT_TOKENIZER and word.startswith("[")):
            raise DataError(
                f"{path}: '{short(word)}' (id {number}) is not lower-case; captions are "
                f"lower-cased, so it would never be found."
            )
    missing = [word for word in SPECIAL_WORDS[kind] if word not in seen]
    if missing:
        raise DataError(
            f"{path} lacks the special words {', '.join(missing)} that {kind} needs; "
            f"'python -m vatt.data.vocabulary' writes them."
        )
    pad = SPECIAL_WORDS[kind][0]
    if seen[pad] != 0:
        raise DataError(f"{path}: {pad} must be the first word (id 0), but it has id {seen[pad]}.")


def _ascii_lower(word: str) -> str:
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in word)


def load_vocabulary(cfg: TextConfig) -> Vocabulary:
    """Reads and checks the vocabulary that a dataset configuration names."""
    kind = cfg.text_tokenizer
    if kind not in SPECIAL_WORDS:
        raise DataError(
            f"text_tokenizer is '{kind}'; accepted: {', '.join(SPECIAL_WORDS)}."
            f"{nearest(kind, SPECIAL_WORDS)}"
        )
    return read_vocabulary(_find_vocabulary(cfg.vocabulary, kind), kind)


def normalise(captions: tf.Tensor) -> tf.Tensor:
    """Deletes ASCII punctuation and lower-cases ASCII letters; other bytes stay (published)."""
    return tf.strings.lower(tf.strings.regex_replace(captions, PUNCTUATION, ""))


def split_words(captions: tf.Tensor) -> tf.RaggedTensor:
    """Words of normalised captions [n], split at runs of Unicode whitespace: [n, (words)]."""
    return tf.strings.split(tf.strings.regex_replace(captions, WIDE_SPACE, " "))


def split_cased_words(captions: tf.Tensor) -> tf.RaggedTensor:
    """Words of captions [n] as `CASED_TOKENIZER` finds them: [n, (words)]."""
    return tf.strings.split(tf.strings.regex_replace(captions, NOT_CASED_WORDS, " "))


Tokenizer = Callable[..., tf.Tensor]
_Ids = Callable[[tf.Tensor], tf.RaggedTensor]
_Table = tf.lookup.StaticHashTable | tf.lookup.StaticVocabularyTable


def tokenizer(vocabulary: Vocabulary, use_bos: bool = False, use_eos: bool = False) -> Tokenizer:
    """Returns f(captions [n], max_words) -> int32 [n, max_words], cut or padded with the pad id.

    With max_words None the result is as wide as the longest caption. Cutting may drop the end
    token. The lookup table is made here, once, and kept alive by the returned function.
    """
    if (use_bos or use_eos) and vocabulary.kind == CASED_TOKENIZER:
        raise DataError(
            f"use_bos is {use_bos}, use_eos is {use_eos}; accepted with text_tokenizer "
            f"'{CASED_TOKENIZER}': false, its vocabularies have no such marks"
        )
    initializer = tf.lookup.KeyValueTensorInitializer(
        tf.constant(vocabulary.words), tf.range(len(vocabulary), dtype=tf.int64)
    )
    ids_of = {BERT_TOKENIZER: _bert_ids, CASED_TOKENIZER: _cased_ids}
    ids_of_captions, table = ids_of.get(vocabulary.kind, _word_ids)(initializer, vocabulary.unk_id)

    def tokenize(captions: tf.Tensor, max_words: int | None) -> tf.Tensor:
        ids = ids_of_captions(captions)  # [n, (words)]
        column = tf.ones([tf.shape(captions)[0], 1], tf.int32)
        before = [vocabulary.bos_id * column] if use_bos else []
        after = [vocabulary.eos_id * column] if use_eos else []
        if before or after:
            ids = tf.concat([*before, ids, *after], axis=1)
        padded = ids.to_tensor(vocabulary.pad_id, shape=(None, max_words))
        return tf.ensure_shape(padded, (captions.shape[0], max_words))  # [n, max_words]

    tokenize.table = table  # whoever saves the graph saves this, too
    return tokenize


def _word_ids(initializer: tf.lookup.KeyValueTensorInitializer, unk_id: int) -> tuple[_Ids, _Table]:
    table = tf.lookup.StaticHashTable(initializer, default_value=unk_id)

    def ids(captions: tf.Tensor) -> tf.RaggedTensor:
        words = split_words(normalise(captions))
        return words.with_flat_values(tf.cast(table.lookup(words.flat_values), tf.int32))

    return ids, table


def _cased_ids(
    initializer: tf.lookup.KeyValueTensorInitializer, unk_id: int
) -> tuple[_Ids, _Table]:
    table = tf.lookup.StaticHashTable(initializer, default_value=unk_id)

    def ids(captions: tf.Tensor) -> tf.RaggedTensor:
        words = split_cased_words(captions)
        found = words.with_flat_values(tf.cast(table.lookup(words.flat_values), tf.int32))
        return tf.ragged.boolean_mask(found, found != unk_id)

    return ids, table


def _bert_ids(initializer: tf.lookup.KeyValueTensorInitializer, unk_id: int) -> tuple[_Ids, _Table]:
    try:
        import tensorflow_text  # heavy: only who asks for BERT pays for it
    except ImportError as error:
        raise DataError(
            "text_tokenizer 'BertTokenizer' needs the package tensorflow-text of TensorFlow's own "
            f"version, which cannot be imported: {error}"
        ) from error
    del unk_id  # the tokenizer emits the word [UNK] itself
    table = tf.lookup.StaticVocabularyTable(initializer, num_oov_buckets=1)
    bert = tensorflow_text.BertTokenizer(table, lower_case=True, token_out_type=tf.int64)

    def ids(captions: tf.Tensor) -> tf.RaggedTensor:
        return tf.cast(bert.tokenize(captions).merge_dims(1, 2), tf.int32)

    return ids, table


def has_words(ids: tf.Tensor, cfg: TextConfig) -> tf.Tensor:
    """Mask float32 of captions: 1 where one of them, int32 [..., captions, words], has a word.

    The marks of beginning and end, which an empty caption has too, are no words.
    """
    marks = int(cfg.use_bos) + int(cfg.use_eos)
    found = tf.math.count_nonzero(ids, axis=-1, dtype=tf.int32) > marks
    return tf.cast(tf.reduce_any(found, axis=-1), tf.float32)


def said_inside(
    captions: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor, seconds: tf.Tensor
) -> tf.Tensor:
    """Returns the captions, string [n], that are said in a clip of so many seconds (0: unknown).

    Those around it are left out. Without times, `starts` and `ends` [0], all are said in it.
    """
    timed = tf.size(starts) == tf.size(captions)
    timed = tf.logical_and(timed, tf.size(ends) == tf.size(captions))
    inside = tf.cond(
        timed,
        lambda: records.said_inside(starts, ends, seconds),
        lambda: tf.fill(tf.shape(captions), True),
    )
    return tf.boolean_mask(captions, inside)


def select_captions(
    captions: tf.Tensor,
    count: int,
    selection: str,
    *,
    seed: tf.Tensor | None = None,
    starts: tf.Tensor | None = None,
    ends: tf.Tensor | None = None,
    centre: tf.Tensor | None = None,
) -> tf.Tensor:
    """Chooses `count` captions of a clip; missing ones are empty strings.

    Args:
      captions: string [n].
      count: how many to return.
      selection: "first", "random" (needs `seed`: a random subset in random order) or "nearest"
        (needs the others: those whose middle is closest to `centre` first; in stored order when the
        captions carry no times).
      seed: int64 [2].
      starts: float [n] or [0], seconds.
      ends: float [n] or [0], seconds.
      centre: float, seconds.

    Returns:
      String [count].
    """
    total = tf.shape(captions)[0]
    if selection == "random":
        captions = tf.gather(captions, sampling.permutation(seed, total))
    elif selection == "nearest":
        timed = tf.logical_and(
            tf.equal(tf.shape(starts)[0], total), tf.equal(tf.shape(ends)[0], total)
        )
        distance = tf.cond(
            timed, lambda: tf.abs((starts + ends) / 2.0 - centre), lambda: tf.zeros([total])
        )
        captions = tf.gather(captions, tf.argsort(distance, stable=True))
    elif selection != "first":
        raise DataError(
            f"caption_selection is '{selection}'; accepted: {', '.join(CAPTION_SELECTIONS)}."
            f"{nearest(selection, CAPTION_SELECTIONS)}"
        )
    chosen = captions[:count]
    padded = tf.pad(chosen, [[0, count - tf.shape(chosen)[0]]], constant_values="")
    return tf.ensure_shape(padded, (count,))
