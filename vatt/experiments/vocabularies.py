"""Words are numbers to a model, so it is evaluated with the vocabulary that it was trained with.

    files, facts = vocabularies.FILE, vocabularies.metadata(words)     # what a run leaves
    vocabularies.check("runs/toy/ckpt-2000", words, "eval.input.vocabulary")

The manifest of a checkpoint has the checksum of the words in their order, and the folder of the run
a copy of them, so that it can be moved to where there is no such file. Of runs from before, the
vocabulary counts that their config.yaml names.
"""

from __future__ import annotations

import os
from pathlib import Path

from absl import logging

from vatt import configs
from vatt.data import text
from vatt.data.text import Vocabulary
from vatt.errors import DataError
from vatt.training.checkpoints import manifest_metadata

FILE = "vocabulary.txt"  # in the folder of a run
_KEY = "vocabulary"  # in the manifest of a checkpoint


def metadata(vocabulary: Vocabulary | None) -> dict[str, object]:
    """Returns what the manifest of a checkpoint says of the words that the model knows."""
    if vocabulary is None:
        return {}
    return {_KEY: {"sha256": vocabulary.digest, "words": len(vocabulary)}}


def load(cfg: configs.dataset.Dataset, folder: Path) -> Vocabulary:
    """Returns the vocabulary that `cfg` names or, where it is not there, the copy in `folder`.

    Raises:
      DataError: neither is there, or it is no vocabulary.
    """
    try:
        return text.load_vocabulary(cfg)
    except DataError:
        copy = folder / FILE
        if not copy.exists():
            raise
        logging.info("vocabulary '%s' is not here: its copy %s is read", cfg.vocabulary, copy)
        cfg.vocabulary = str(copy)
        return text.load_vocabulary(cfg)


def check_same(cfg: configs.dataset.Dataset, vocabulary: Vocabulary) -> None:
    """Raises DataError where the vocabulary that `cfg` trains with has other words."""
    try:
        trained = text.load_vocabulary(cfg)
    except DataError:  # training without captions needs none
        return
    if trained.digest != vocabulary.digest:
        raise DataError(
            f"eval.input.vocabulary: {vocabulary.path} holds other words than that of train.input, "
            f"{trained.path}: the same numbers would mean other words"
        )


def differs(prefix: str | os.PathLike, vocabulary: Vocabulary) -> str:
    """Returns what is wrong with using `vocabulary` for a checkpoint; empty if nothing is known."""
    digest, words, name = _of(Path(prefix))
    if digest in (None, vocabulary.digest):
        return ""
    return (
        f"{vocabulary.path or 'the vocabulary'} ({len(vocabulary)} words) is not the vocabulary "
        f"that {prefix} was trained with ({name}{words} words): the same numbers mean other words"
    )


def check(prefix: str | os.PathLike, vocabulary: Vocabulary, field: str) -> None:
    """Raises DataError where a checkpoint knows other words than those of `vocabulary`."""
    if wrong := differs(prefix, vocabulary):
        copy = Path(prefix).parent / FILE
        remedy = f". Give {copy}" if copy.exists() else ". Give that one"
        raise DataError(f"{field}: {wrong}{remedy}")


def _of(prefix: Path) -> tuple[str | None, int, str]:
    """Checksum, number and name (or nothing) of the words that a checkpoint knows."""
    facts = manifest_metadata(prefix).get(_KEY)
    if isinstance(facts, dict) and isinstance(facts.get("sha256"), str):
        return facts["sha256"], facts.get("words"), ""
    try:
        tree = configs.read(prefix.parent / "config.yaml")
        if tree["mode"] == "eval":
            return None, 0, ""
        fields = {key: tree["train"]["input"][key] for key in ("text_tokenizer", "vocabulary")}
        words = text.load_vocabulary(configs.dataset.Pretrain(**fields))
    except (OSError, configs.ConfigError, ValueError, KeyError, TypeError, DataError):
        return None, 0, ""
    return words.digest, len(words), f"{words.path}, "
