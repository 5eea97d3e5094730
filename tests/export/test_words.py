"""The file that makes numbers of words beside an exported model finds what the tokenizer finds."""

from __future__ import annotations

import importlib.util

import pytest
import tensorflow as tf

from vatt.data import text
from vatt.data.text import CASED_TOKENIZER, WORD_TOKENIZER, Vocabulary
from vatt.export import exporting

WORDS = (
    "<pad>",
    "<bos>",
    "<eos>",
    "<unk>",
    "a",
    "red",
    "circle",
    "dont",
    "i\u00a0am",
    "été",
    "x_y",
)
CASED = ("<pad>", "a", "Red", "Don't", "x_y", "été")
SENTENCES = [
    "A red circle!",
    "",
    "Don't, RED\u2003circle  a\x1cred\tx",
    "i\u00a0am i\u202fam été ÉTÉ x_y x-y",
    "red " * 9,
    "Red Don't x_y (été); 1st «a»",
]


@pytest.mark.parametrize("marks", [{}, {"use_bos": True, "use_eos": True}])
@pytest.mark.parametrize("kind", [WORD_TOKENIZER, CASED_TOKENIZER])
def test_words_have_the_tokenizers_numbers(tmp_path, kind, marks):
    cased = kind == CASED_TOKENIZER
    if cased and marks:
        pytest.skip("its vocabularies have no such marks")
    vocabulary = Vocabulary(CASED if cased else WORDS, kind)
    exporting.write_words(tmp_path, vocabulary, longest=6, **marks)
    spec = importlib.util.spec_from_file_location("words", tmp_path / "words.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    expected = text.tokenizer(vocabulary, **marks)(tf.constant(SENTENCES), 6).numpy()
    found = module.ids(SENTENCES)
    assert found.dtype == expected.dtype and found.tolist() == expected.tolist()
