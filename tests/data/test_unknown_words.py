"""How many words of a set a vocabulary lacks is said when a training begins."""

from __future__ import annotations

import pytest
import record_sets

from vatt import configs, methods
from vatt.data import text, vocabulary
from vatt.errors import DataError

SPECIAL = list(vocabulary.SPECIAL)


def captioned(folder, captions, shards=2):
    clips = [
        record_sets.clip(f"{k}.mp4", captions=[(0.0, 1.0, caption)])
        for k, caption in enumerate(captions)
    ]
    return record_sets.write_set(folder, {"train": clips}, shards)[0]


def words(folder, *names):
    vocabulary.write_words([*SPECIAL, *names], folder / "words.txt")
    return text.read_vocabulary(folder / "words.txt")


def said(caplog, card, known, split="train"):
    caplog.clear()
    with caplog.at_level("INFO", "absl"):
        vocabulary.check_words(card, split, known, "train.input.vocabulary")
    (line,) = caplog.records
    return line.levelname, line.getMessage()


def test_the_share_is_said_and_many_are_warned_of(tmp_path, caplog):
    card = captioned(tmp_path / "a", ["One two!", "one three", "four four ONE one"])  # 8 words
    level, message = said(caplog, card, words(tmp_path, "one", "two", "three", "four"))
    assert level == "INFO" and ": 0.0 % of the words" in message
    level, message = said(caplog, card, words(tmp_path, "one", "two", "four"))  # "three" once
    assert level == "INFO" and ": 12.5 % of the words" in message and "three" not in message
    level, message = said(caplog, card, words(tmp_path, "one", "two", "three"))  # "four" twice
    assert level == "WARNING" and ": 25.0 % of the words" in message
    assert "such as: four. Make one" in message
    assert f"vatt.data.vocabulary --card {card.folder} --output" in message
    assert message.endswith("name it in train.input.vocabulary")


def test_a_vocabulary_of_another_script_is_refused(tmp_path):
    card = captioned(tmp_path / "a", ["красный круг", "синий"])
    with pytest.raises(DataError, match=r"'a': 100\.0 % of .*such as: "):
        vocabulary.check_words(card, "train", words(tmp_path, "red"), "train.input.vocabulary")


def test_only_some_records_are_looked_at(tmp_path, caplog, monkeypatch):
    """Of 12 shards every third, and of each the first; a damaged one is passed over."""
    monkeypatch.setattr(vocabulary, "SAMPLE", 4)
    card = captioned(tmp_path / "a", ["seen"] * 12 + ["unseen"] * 12, shards=12)
    assert ": 0.0 % of" in said(caplog, card, words(tmp_path, "seen"))[1]
    monkeypatch.setattr(vocabulary, "SAMPLE", 8)
    assert ": 50.0 % of" in said(caplog, card, words(tmp_path, "seen"))[1]
    shard = card.shards("train")[0]
    content = bytearray(shard.read_bytes())
    content[20] ^= 255
    shard.write_bytes(content)
    assert ": 57.1 % of" in said(caplog, card, words(tmp_path, "seen"))[1]  # 4 of 7


def test_captions_without_any_word_say_nothing(tmp_path, caplog):
    card = captioned(tmp_path / "a", ["...", "!"])
    with caplog.at_level("INFO", "absl"):
        vocabulary.check_words(card, "train", words(tmp_path, "one"), "train.input.vocabulary")
    assert not caplog.records


def config(folder, name):
    return configs.resolve(
        config_file="configs/pretrain/toy.yaml",
        data_dir=str(folder),
        params_override={"train.input": {"name": name, "mixing_weights": None, "vocabulary": None}},
    )


def test_a_vocabulary_is_needed_where_there_are_captions(tmp_path, monkeypatch):
    monkeypatch.setenv("VATT_MISC_DIR", str(tmp_path))
    clips = [record_sets.clip("a.mp4", captions=[])]
    record_sets.write_set(tmp_path / "silent", {"train": clips})
    captioned(tmp_path / "told", ["a b"])
    cfg = config(tmp_path, "silent")
    methods.of(cfg).examples(cfg)
    cfg = config(tmp_path, "silent+told")
    with pytest.raises(DataError, match="vocabulary is null, which stands for the published one"):
        methods.of(cfg).examples(cfg)
    vocabulary.write_words([*SPECIAL, "c"], tmp_path / "howto100m_en.txt")
    with pytest.raises(DataError, match=r"'told': 100\.0 % of the words"):
        methods.of(cfg).examples(cfg)
