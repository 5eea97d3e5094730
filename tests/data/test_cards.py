from __future__ import annotations

import pytest
import yaml

from vatt.data import cards
from vatt.errors import DataError


@pytest.fixture
def data_dir(tmp_path):
    folder = tmp_path / "birds"
    folder.mkdir()
    card = cards.Card(
        name="birds",
        tasks=["retrieval"],
        video=cards.VideoFacts(fps=10, height=72, width=80),
        splits={
            "train": cards.Split(pattern="train-?????-of-00003.tfrecord", num_shards=3, records=30),
            "test": cards.Split(pattern="test-*-of-*.tfrecord", num_shards=1, records=7),
        },
        labels=["crow", "robin"],
    )
    cards.write(card, folder)
    for index in range(3):
        (folder / f"train-{index:05d}-of-00003.tfrecord").write_bytes(b"x")
    return tmp_path


def test_round_trip_and_shards(data_dir, monkeypatch):
    card = cards.load("birds", data_dir)
    assert card.video.fps == 10
    assert card.records("train") == 30
    assert [p.name for p in card.shards("train")] == [
        f"train-{index:05d}-of-00003.tfrecord" for index in range(3)
    ]
    monkeypatch.setenv("VATT_DATA_DIR", str(data_dir))
    assert cards.load("birds") == card


def test_missing_data_set_says_where_and_how(data_dir, monkeypatch):
    with pytest.raises(DataError) as error:
        cards.load("brids", data_dir)
    for part in (str(data_dir / "brids" / "card.yaml"), "there: birds", "'birds'", "ingest"):
        assert part in str(error.value)
    with pytest.raises(DataError, match=r"vatt\.data\.toy .*--sets toy_howto"):
        cards.load("toy_howto", data_dir)
    monkeypatch.delenv("VATT_DATA_DIR", raising=False)
    with pytest.raises(DataError, match="VATT_DATA_DIR"):
        cards.load("birds")


def test_missing_split_and_shards(data_dir):
    card = cards.load("birds", data_dir)
    with pytest.raises(DataError, match=r"no split 'tset'; it has: train, test\..*'test'"):
        card.shards("tset")
    with pytest.raises(DataError, match=r"no file in .*birds matches 'test-\*-of-\*.tfrecord'"):
        card.shards("test")
    (card.folder / "train-00001-of-00003.tfrecord").write_bytes(b"")
    with pytest.raises(DataError, match=r"empty shards in .*train-00001-of-00003"):
        card.shards("train")
    (card.folder / "train-00001-of-00003.tfrecord").unlink()
    with pytest.raises(DataError, match=r"2 of 3 shards .*missing: train-00001-of-00003"):
        card.shards("train")


def test_all_faults_of_a_card_are_listed(tmp_path):
    path = tmp_path / "card.yaml"
    path.write_text(yaml.safe_dump({"name": 3, "spilts": {}, "video": {"fps": -1}}))
    with pytest.raises(DataError) as error:
        cards.read(path)
    for part in ("name", "spilts", "Did you mean 'splits'", "video.fps"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system",
        "- a\n- b",
        "{a: [",
        "",
    ],
)
def test_unsafe_or_broken_yaml_is_refused(tmp_path, text):
    path = tmp_path / "card.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=r"card\.yaml"):
        cards.read(path)
