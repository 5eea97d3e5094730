"""Vocabularies, their command line, and the choice of captions."""

from __future__ import annotations

import re
import types
from pathlib import Path

import corpus
import numpy as np
import pytest
import tensorflow as tf

from vatt import assets
from vatt.data import sampling, text, vocabulary
from vatt.errors import DataError


def select(captions, count, selection, **more):
    return text.select_captions(tf.constant(captions), count, selection, **more).numpy().tolist()


def test_select_first_pads_with_empty_strings():
    assert select(["a", "b", "c"], 2, "first") == [b"a", b"b"]
    assert select(["a"], 3, "first") == [b"a", b"", b""]
    assert text.select_captions(tf.zeros([0], tf.string), 2, "first").numpy().tolist() == [b""] * 2


def test_select_random_is_a_subset_that_varies():
    drawn = [
        tuple(select(["a", "b", "c"], 2, "random", seed=sampling.root_seed(i))) for i in range(40)
    ]
    assert all(len(set(pair)) == 2 for pair in drawn)
    assert len(set(drawn)) == 6


def test_select_nearest_by_the_middle_of_the_caption():
    times = {"starts": tf.constant([0.0, 4.0, 1.0]), "ends": tf.constant([1.0, 5.0, 3.0])}
    centre = tf.constant(1.9)
    assert select(["a", "b", "c"], 3, "nearest", centre=centre, **times) == [b"c", b"a", b"b"]
    untimed = {"starts": tf.zeros([0]), "ends": tf.zeros([0])}
    assert select(["a", "b", "c"], 2, "nearest", centre=centre, **untimed) == [b"a", b"b"]


def test_select_unknown_names_the_choices():
    with pytest.raises(
        DataError, match=r"accepted: nearest, first, random.*Did you mean 'nearest'"
    ):
        select(["a"], 1, "neares")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["<pad>", "<bos>", "<eos>", "<unk>", "a", "a"], "'a' stands twice, as id 4 and as id 5"),
        (["<pad>", "<bos>", "<unk>", "a"], "lacks the special words <eos>"),
        (["a", "<pad>", "<bos>", "<eos>", "<unk>"], "<pad> must be the first word"),
        (["<pad>", "<bos>", "<eos>", "<unk>", "Red"], "'Red' .id 4. is not lower-case"),
        (["<pad>", "<bos>", "two words"], "line 3: 'two words'"),
        ([], "is empty"),
        ([f"{'9' * 5000} a", "1 b"], r"line 1: '9{77}\.\.\.' is not one word"),
        (["x" * 5000] * 2, r"the word 'x{77}\.\.\.' stands twice"),
    ],
)
def test_bad_vocabularies(tmp_path, words, message):
    path = corpus.write_vocabulary(tmp_path, words)
    with pytest.raises(DataError, match=message):
        text.read_vocabulary(path)


PIECES = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "##s"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (PIECES[2:], r"lacks the special words \[PAD\] that BertTokenizer needs"),
        (PIECES[1::-1] + PIECES[2:], r"\[PAD\] must be the first word"),
        ([*PIECES, "Red"], "'Red' .id 8. is not lower-case"),
        ([*PIECES, "red"], "'red' stands twice"),
    ],
)
def test_bad_bert_vocabularies(tmp_path, words, message):
    good = text.read_vocabulary(corpus.write_vocabulary(tmp_path, PIECES), text.BERT_TOKENIZER)
    assert (good.pad_id, good.bos_id, good.eos_id, good.unk_id) == (0, 3, 4, 2)
    path = corpus.write_vocabulary(tmp_path, words)
    with pytest.raises(DataError, match=message):
        text.read_vocabulary(path, text.BERT_TOKENIZER)


def test_a_word_with_a_space_the_tokenizer_keeps_survives_the_file(tmp_path):
    caption = "10\u00a0km of\u0085road\u3000ahead"  # only the last splits, as published
    words = [*vocabulary.SPECIAL, *vocabulary.count_words([caption.encode()])]
    assert len(words) == len(vocabulary.SPECIAL) + 3
    vocabulary.write_words(words, tmp_path / "words.txt")
    found = text.read_vocabulary(tmp_path / "words.txt")
    assert found.words == tuple(words)
    ids = text.tokenizer(found)(tf.constant([caption]), 4).numpy().tolist()
    assert ids == [[4, 5, 6, 0]]


def test_vocabularies_are_found_in_a_folder_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setenv(assets.MISC_DIR, str(tmp_path))
    cfg = types.SimpleNamespace(text_tokenizer=text.WORD_TOKENIZER, vocabulary=None)
    with pytest.raises(DataError, match=r"'howto100m_en': no such file.*vatt.data.vocabulary"):
        text.load_vocabulary(cfg)
    Path(corpus.write_vocabulary(tmp_path)).rename(tmp_path / "howto100m_en.txt")
    assert text.load_vocabulary(cfg).words == tuple(corpus.WORDS)
    cfg.vocabulary = "toy_en"  # in misc_data
    assert len(text.load_vocabulary(cfg)) == 206
    cfg.text_tokenizer, cfg.vocabulary = text.BERT_TOKENIZER, None
    with pytest.raises(DataError, match=r"Take vocab.txt of an uncased BERT.*bert_uncased_en"):
        text.load_vocabulary(cfg)


def test_a_vocabulary_smaller_than_pretrained_vectors_is_warned_of(tmp_path, caplog):
    words = text.read_vocabulary(corpus.write_vocabulary(tmp_path))
    words.check_fits(65536)
    words.check_fits(len(words), "word2vec")
    assert not caplog.records
    words.check_fits(65536, "word2vec")
    assert "has 11 words, but the word embeddings 'word2vec' have 65536" in caplog.text


def test_vocabulary_with_ids_in_the_file(tmp_path):
    lines = [f"{i} {word}" for i, word in enumerate(corpus.WORDS)]
    plain = text.read_vocabulary(corpus.write_vocabulary(tmp_path))
    numbered = text.read_vocabulary(corpus.write_vocabulary(tmp_path, lines[::-1]))
    assert plain.words == numbered.words == tuple(corpus.WORDS)
    assert (plain.pad_id, plain.bos_id, plain.eos_id, plain.unk_id) == (0, 1, 2, 3)
    with pytest.raises(DataError, match="ids must be 0 to 9"):
        text.read_vocabulary(corpus.write_vocabulary(tmp_path, lines[1:]))


def test_missing_vocabulary_and_too_small_model(tmp_path):
    cfg = types.SimpleNamespace(text_tokenizer=text.WORD_TOKENIZER, vocabulary=str(tmp_path / "no"))
    with pytest.raises(DataError, match=r"python -m vatt.data.vocabulary --card"):
        text.load_vocabulary(cfg)
    cfg.vocabulary = corpus.write_vocabulary(tmp_path)
    loaded = text.load_vocabulary(cfg)
    loaded.check_fits(len(corpus.WORDS))
    with pytest.raises(DataError, match="vocab_size is 5: raise vocab_size to at least 11"):
        loaded.check_fits(5)
    cfg.text_tokenizer = "WordTokeniser"
    with pytest.raises(DataError, match="Did you mean 'WordTokenizer'"):
        text.load_vocabulary(cfg)


def test_build_from_card_manifest_and_captions(tmp_path):
    spoken = [corpus.example(i, frames=1, captions=["Red, red!", "Don't stop"]) for i in range(2)]
    corpus.write_set(tmp_path, "spoken", spoken, shards=1)
    (tmp_path / "clips.csv").write_text(
        'path,start,end,caption\na.mp4,0,1,"blue RED"\nb.mp4,0,1,\n'
    )
    (tmp_path / "talk.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nOrange moon\n")
    output = tmp_path / "out/words.txt"
    code = vocabulary.main(
        [
            f"--card={tmp_path / 'spoken'}",
            f"--manifest={tmp_path / 'clips.csv'}",
            f"--captions={tmp_path / 'talk.srt'}",
            f"--output={output}",
        ]
    )
    assert code == 0
    found = text.read_vocabulary(output)
    assert found.words[:4] == vocabulary.SPECIAL
    assert found.words[4:] == ("red", "dont", "stop", "blue", "moon", "orange")
    ids = text.tokenizer(found)(tf.constant(["Don't, red"]), 3).numpy().tolist()
    assert ids == [[5, 4, 0]]


def test_vocabulary_reads_the_manifests_of_ingest(tmp_path):
    """Each sentence counts once, however many splits and clips it belongs to."""
    told = '"captions": [[0, 1, "two two"]]'
    (tmp_path / "talk.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:01.000\nthree three three\n")
    (tmp_path / "clips.jsonl").write_text(
        '{"path": "a.mp4", "caption": "one", "split": ["train_1", "test_2"]}\n'
        f'{{"path": "b.mp4", "end": 1, {told}}}\n{{"path": "b.mp4", "start": 1, {told}}}\n'
        '{"path": "c.mp4", "end": 1, "captions": "talk.vtt"}\n'
        '{"path": "c.mp4", "start": 1, "captions": "talk.vtt"}\n'
    )
    (tmp_path / "clips.tsv").write_text("path\tcaption\nd.mp4\tfour, four\n")
    tables = [str(tmp_path / name) for name in ("clips.jsonl", "clips.tsv")]
    _, counts = vocabulary.build(manifests=tables)
    assert counts == {"one": 1, "two": 2, "three": 3, "four": 2}
    (tmp_path / "clips.tsv").write_text("path\tcaptions\nd.mp4\t../talk.vtt\n")
    with pytest.raises(DataError, match=r"clips.tsv: captions '../talk.vtt': leads out of"):
        vocabulary.build(manifests=tables)


def test_vocabulary_limits_and_errors(tmp_path, capsys):
    (tmp_path / "clips.csv").write_text("path,caption\na.mp4,b b a a a c\n")
    table = str(tmp_path / "clips.csv")
    words, _ = vocabulary.build(manifests=[table], min_count=2)
    assert words[4:] == ["a", "b"]
    words, _ = vocabulary.build(manifests=[table], max_size=5)
    assert words[4:] == ["a"]
    with pytest.raises(DataError, match="max_size is 4"):
        vocabulary.build(manifests=[table], max_size=4)
    (tmp_path / "bad.csv").write_text("path,text\n")
    bad = str(tmp_path / "bad.csv")
    code = vocabulary.main(["--manifest", bad, "--output", str(tmp_path / "words.txt")])
    assert code == DataError.exit_code
    assert "column 'text' is unknown" in capsys.readouterr().err
    assert not (tmp_path / "words.txt").exists()
    with pytest.raises(SystemExit):
        vocabulary.main(["--output", "words.txt"])


@pytest.mark.parametrize("marks", [{}, {"use_bos": True}, {"use_bos": True, "use_eos": True}])
def test_an_empty_caption_has_no_words_whatever_marks_it_is_given(marks):
    cfg = types.SimpleNamespace(**{"use_bos": False, "use_eos": False} | marks)
    words = text.Vocabulary(("<pad>", "<bos>", "<eos>", "<unk>", "red"), text.WORD_TOKENIZER)
    tokenize = text.tokenizer(words, **marks)
    ids = tokenize(tf.constant(["", "...", "red", "unheard of"]), 6)[:, tf.newaxis]  # [4, 1, 6]
    assert text.has_words(ids, cfg).numpy().tolist() == [0, 0, 1, 1]
    assert text.has_words(ids[:, 0], cfg).numpy() == 1  # one of several candidates


def test_the_digest_is_that_of_the_words_in_their_order(tmp_path):
    words = ["<pad>", "<bos>", "<eos>", "<unk>", "red", "ring"]
    made = []
    for name, lines in (
        ("a", words),
        ("b", [f"{number} {word}" for number, word in enumerate(words)]),
        ("c", [*words[:4], "ring", "red"]),
    ):
        (tmp_path / name).write_text("\n".join(lines))
        made.append(text.read_vocabulary(tmp_path / name))
    assert made[0].digest == made[1].digest != made[2].digest
    assert made[0].text.split() == words


def test_cased_words_keep_their_case_and_unknown_ones_are_left_out(tmp_path):
    (tmp_path / "words").write_text("<pad>\nCut\nit\ndon't\n_x\n2\né\n")
    words = text.read_vocabulary(tmp_path / "words", text.CASED_TOKENIZER)
    assert (words.pad_id, words.unk_id) == (0, 0)
    tokenize = text.tokenizer(words)
    told = ["Cut it; cut-it!", "don't\t2é 2 é", "_x x_ _X", "", "unheard", "it it it it it"]
    ids = tokenize(tf.constant(told), 4).numpy().tolist()
    assert ids == [[1, 2, 2, 0], [3, 5, 6, 0], [4, 0, 0, 0], [0] * 4, [0] * 4, [2] * 4]
    for caption in told:
        known = [words.words.index(w) for w in re.findall(r"[\w']+", caption) if w in words.words]
        assert tokenize(tf.constant([caption]), 9).numpy()[0, : len(known)].tolist() == known
    with pytest.raises(DataError, match="use_bos is True"):
        text.tokenizer(words, use_bos=True)


def test_a_vocabulary_of_cased_words(tmp_path):
    (tmp_path / "said.txt").write_text("Cut it, it's red\nCut\n")
    output = tmp_path / "words.txt"
    arguments = ["--captions", str(tmp_path / "said.txt"), "--cased", "--output", str(output)]
    assert vocabulary.main(arguments) == 0
    assert output.read_text().split() == ["<pad>", "Cut", "it", "it's", "red"]
    assert len(text.read_vocabulary(output, text.CASED_TOKENIZER)) == 5


def test_published_words_of_an_array(tmp_path, capsys):
    def run(array):
        np.save(tmp_path / "dict.npy", array)
        output = tmp_path / "words.txt"
        output.unlink(missing_ok=True)
        code = vocabulary.main(["--words", str(tmp_path / "dict.npy"), "--output", str(output)])
        return code, output, capsys.readouterr().err

    code, output, _ = run(np.array(["the", "Cut", "don't"]))
    words = text.read_vocabulary(output, text.CASED_TOKENIZER)
    assert (code, words.words) == (0, ("<pad>", "the", "Cut", "don't"))  # id: position + 1
    for wrong, told in (
        (np.array([1, 2]), "holds int64 [2]; accepted: one list of texts"),
        (np.array(["the", object()]), "is not a .npy file with an array of texts"),
        (np.array(["the", "a word"]), "entry 2 is 'a word'; accepted: one word"),
        (np.array(["", "a"]), "entry 1 is ''"),
        (np.array(["a", "<pad>"]), "entry 2 is <pad>, which stands for padding"),
    ):
        code, output, error = run(wrong)
        assert code == DataError.exit_code and told in error
        assert not output.exists()
    arguments = ["--words", str(tmp_path / "none.npy"), "--output", str(tmp_path / "w")]
    assert vocabulary.main(arguments) == DataError.exit_code
    assert "No such file" in capsys.readouterr().err
