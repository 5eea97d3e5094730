"""Vectors of words: both formats read where they stand, captions to vectors, CLIP's ids."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import tensorflow as tf
import word_files
from word_files import VECTORS

from vatt.data.tokens import bpe, words
from vatt.errors import DataError

FORMS = {
    "binary": lambda path: word_files.binary(path),
    "binary, lines": lambda path: word_files.binary(path, end=b"\n"),
    "text": lambda path: word_files.text(path),
    "text without its first line": lambda path: word_files.text(path, header=False),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_vectors_that_were_written(tmp_path, form):
    found = words.WordVectors(FORMS[form](tmp_path / "words.bin"))
    assert found.width == 3 and len(found) == len(VECTORS)
    for word, vector in VECTORS.items():
        np.testing.assert_array_equal(found.find(word.encode()), vector)
    for word in (b"Heat", b"hea", b"heat ", b"", b"\xff"):
        assert found.find(word) is None


def test_of_two_vectors_of_a_word_the_first_one_counts(tmp_path):
    path = word_files.text(tmp_path / "words.txt")
    path.write_text(path.read_text() + "heat 7 7 7\n")
    np.testing.assert_array_equal(words.WordVectors(path).find(b"heat"), VECTORS["heat"])


def test_a_word_with_a_space_in_it_is_left_out_of_a_text_file(tmp_path):
    path = word_files.text(tmp_path / "words.txt")
    path.write_text(path.read_text() + ". . . 1 2 3\nlast 4 5 6\n")
    found = words.WordVectors(path)
    assert len(found) == len(VECTORS) + 1 and found.find(b".") is None
    np.testing.assert_array_equal(found.find(b"last"), [4, 5, 6])


def test_what_is_kept_in_memory_does_not_grow_with_the_width(tmp_path):
    wide = {f"w{k}": np.full(50_000, k, np.float32) for k in range(40)}
    found = words.WordVectors(word_files.binary(tmp_path / "wide.bin", wide))
    assert found._prints.nbytes + found._places.nbytes == 16 * len(wide)
    np.testing.assert_array_equal(found.find(b"w39"), wide["w39"])


def cut_off(path):
    content = word_files.binary(path).read_bytes()
    path.write_bytes(content[:-2])


def longer(path):
    path.write_bytes(word_files.binary(path).read_bytes() + b"more and more")


def ragged(path):
    word_files.text(path)
    path.write_text(path.read_text() + "short 1 2\n")


FAULTS = {
    "cut off or damaged at word 2 of 3": cut_off,
    "something stands behind the last of its 3 words": longer,
    "2 values, 3 in its first line": ragged,
    "an empty file": lambda path: path.write_bytes(b""),
    "no 'WORDS VALUES' nor a word": lambda path: path.write_bytes(b"\x80\x04]q\x00.\n" * 9),
    "says 3 words of 999999 values": lambda path: path.write_bytes(b"3 999999\nx "),
}


@pytest.mark.parametrize("told", FAULTS)
def test_another_kind_of_file_is_refused(tmp_path, told):
    path = tmp_path / "words.bin"
    FAULTS[told](path)
    with pytest.raises(DataError, match=told) as error:
        words.WordVectors(path)
    assert str(path) in str(error.value)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("form", "value"), [(word_files.binary, np.inf), (word_files.text, 1e39)])
def test_a_vector_that_is_not_finite_is_told_by_its_place(tmp_path, form, value):
    path = form(tmp_path / "words.bin", {"one": np.ones(2), "two": np.array([1.0, value])})
    found = words.WordVectors(path)
    assert found.find(b"one").tolist() == [1.0, 1.0]
    place = path.read_bytes().index(b"two ") + 4
    with pytest.raises(DataError, match=f"words.bin, byte {place}: no 2 finite numbers"):
        found.find(b"two")


def test_captions_become_vectors_of_known_words_in_a_graph(tmp_path):
    vectors = words.load(str(word_files.binary(tmp_path / "words.bin")), 3)

    @tf.function(autograph=False)
    def embedded(captions):
        return words.embedded(words.split(captions), vectors, 4)

    found, mask = embedded(tf.constant(["Heat: heat, the naïve-pan", "don't"]))
    assert found.shape == (4, 3) and mask.numpy().tolist() == [1, 1, 1, 0]
    rows = [VECTORS[word] for word in ("heat", "naïve", "don't")]
    np.testing.assert_array_equal(found, [*rows, np.zeros(3)])
    nothing, mask = embedded(tf.constant(["xyz"]))
    assert not np.any(nothing) and not np.any(mask)


def test_no_more_words_than_there_are_places():
    found, mask = words.values([b"a", b"b", b"c"], words.DrawnVectors(5), 2)
    assert found.shape == (2, 5) and mask.tolist() == [1, 1]


def test_drawn_vectors_depend_on_the_letters_alone():
    one, other = words.DrawnVectors(64), words.DrawnVectors(64)
    np.testing.assert_array_equal(one.find(b"pan"), other.find(b"pan"))
    cosine = one.find(b"pan") @ one.find(b"pans")
    assert abs(cosine) < 0.5 and 0.5 < np.linalg.norm(one.find(b"pan")) < 1.5


def test_a_file_that_is_not_there_and_one_of_another_width_are_told(tmp_path):
    with pytest.raises(DataError, match=r"tokens\.word_vectors: no file 'nowhere\.bin'"):
        words.load(str(tmp_path / "nowhere.bin").rpartition("/")[2], 300)
    path = word_files.binary(tmp_path / "words.bin")
    with pytest.raises(DataError, match="vectors of 3 values, but text_embed_dim is 300"):
        words.load(str(path), 300)


# CLIP --------------------------------------------------------------------------------------------

MERGES = ["h e", "a t</w>", "he at</w>", "p an</w>", "a n</w>"]


@pytest.fixture
def tokenizer(tmp_path):
    path = tmp_path / "merges.txt.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(["#version: 0.2", *MERGES]) + "\n")
    return bpe.load(str(path))


def test_ids_are_bytes_marked_bytes_merges_and_two_marks(tokenizer):
    assert (tokenizer.start, tokenizer.end) == (512 + len(MERGES), 513 + len(MERGES))
    assert tokenizer.encode("heat") == [512 + 2]
    # Though "a n</w>" stands behind "p an</w>", it has to come first.
    assert tokenizer.encode("pan") == [512 + 3]
    assert tokenizer.encode("hea") == [512 + 0, 256 + ord("a") - 33]
    assert tokenizer.encode("!") == [256]


def test_short_forms_digits_and_letters_stand_apart(tokenizer):
    assert list(bpe._words("Don't   heat 42°, it's naïve_pan")) == [
        *("don", "'t", "heat", "4", "2", "°,", "it", "'s", "naïve", "_", "pan"),
    ]


def test_a_long_sentence_keeps_the_mark_of_its_end(tokenizer):
    long, short = tokenizer(["heat " * 100, "heat"], 8)
    assert long.tolist() == [tokenizer.start, *[514] * 6, tokenizer.end]
    assert short.tolist() == [tokenizer.start, 514, tokenizer.end, 0, 0, 0, 0, 0]


def test_the_mask_is_of_the_ids_between_the_marks(tokenizer):
    ids, mask = bpe.encoded(tf.constant(["heat", "heat"]), tokenizer, 4, 8)
    assert ids.shape == (8,) and mask.numpy().tolist() == [1, 1, 0, 0]
    _, mask = bpe.encoded(tf.constant([], tf.string), tokenizer, 4, 8)
    assert not np.any(mask)


@pytest.mark.parametrize("content", [b"#version\na b c\n", b"#version\n", b"\x1f\x8b\x00damaged"])
def test_another_file_of_merges_is_refused(tmp_path, content):
    path = tmp_path / "merges.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match="merges of CLIP's tokenizer"):
        bpe.ClipTokenizer(path)
