"""Ids of CLIP's tokenizer, where the file of its merges is there."""

from __future__ import annotations

import tensorflow as tf

from tests.golden.checks import Checks, Golden, Note, absolute
from vatt.data.tokens import bpe, words
from vatt.errors import DataError

MERGES = "bpe_simple_vocab_16e6"  # comes with CLIP; in misc_data/ or $VATT_MISC_DIR


def _tokenize(content: Golden) -> Checks:
    try:
        tokenizer = bpe.load(MERGES)
    except DataError as error:
        yield Note(f"tokenize/ids are not compared: {error}")
        return
    reference = content["tokenize/ids"]
    for row, sentence in enumerate(content["tokenize/texts"].tolist()):
        found = words.split(tf.constant([sentence]))
        ids, _ = bpe.encoded(found, tokenizer, 20, reference.shape[1])
        yield absolute(f"tokenize/{row}", ids, reference[row], 0.0)


HANDLERS = {"clip_text.npz": _tokenize}
