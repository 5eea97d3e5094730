"""Sentences as the words that a model was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging

from vatt import configs
from vatt.data import text, vocabulary
from vatt.errors import short
from vatt.experiments import vocabularies

UNKNOWN = "the model knows none of its words: the embedding says nothing"


class Sentences:
    """Makes numbers of sentences; the vocabulary is read when it is asked for first."""

    def __init__(
        self, cfg: configs.dataset.Dataset, folder: Path | None, checkpoint: str | None
    ) -> None:
        """Takes `eval.input` of a run, its folder and its checkpoint, where there are such."""
        own = None if folder is None else folder / vocabularies.FILE
        changes = {"vocabulary": str(own)} if own is not None and own.is_file() else {}
        self._cfg, self._checkpoint = cfg.model_copy(update=changes), checkpoint
        self._vocabulary: text.Vocabulary | None = None
        self._tokenize: text.Tokenizer | None = None

    def words(self, sentences: Sequence[str]) -> tuple[np.ndarray, list[tuple[str, ...]]]:
        """Returns int32 [sentences, words], and what is to be told of each.

        Raises:
          DataError: there is no vocabulary, or it is not that of the model.
        """
        self._open()
        most = self._cfg.max_num_words
        whole = self._tokenize(tf.constant(list(sentences)), None).numpy()
        ids = self._tokenize(tf.constant(list(sentences)), most).numpy()
        unknown = vocabulary.unknown_words(self._vocabulary, sentences)
        notices = [self._notices(*pair, most) for pair in zip(whole, unknown, strict=True)]
        for sentence, found in zip(sentences, notices, strict=True):
            for notice in found:
                logging.warning("'%s': %s", short(sentence), notice)
        return ids, notices

    def tokenizer(self) -> tuple[text.Tokenizer, text.Vocabulary]:
        """Returns what makes numbers of sentences, and the words it knows.

        Raises:
          DataError: see `words`.
        """
        self._open()
        return self._tokenize, self._vocabulary

    def _open(self) -> None:
        if self._tokenize is not None:
            return
        self._vocabulary = text.load_vocabulary(self._cfg)
        if self._checkpoint is not None:
            vocabularies.check(self._checkpoint, self._vocabulary, "vocabulary")
        cfg = self._cfg
        self._tokenize = text.tokenizer(self._vocabulary, cfg.use_bos, cfg.use_eos)

    def _notices(self, ids: np.ndarray, unknown: Sequence[str], most: int) -> tuple[str, ...]:
        """What is to be told of a sentence, of which all ids and unknown words are given."""
        known = self._vocabulary
        marks = {known.pad_id, known.unk_id}
        marks |= {known.bos_id} if self._cfg.use_bos else set()
        marks |= {known.eos_id} if self._cfg.use_eos else set()
        some = bool(set(ids.tolist()) - marks)
        found = [] if some else [UNKNOWN]
        if np.count_nonzero(ids != known.pad_id) > most:
            found.append(f"longer than the {most} words that the model reads: the rest is left out")
        if some and unknown:
            found.append(f"the model does not know {short(', '.join(unknown))}")
        return tuple(found)
