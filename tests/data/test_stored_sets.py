"""Records in an object store give the batches of those on this machine."""

import shutil

import pytest
import test_pipeline

from tests import store_server
from vatt.data import cards, stored_sets
from vatt.errors import DataError

store = store_server.store
data_dir, words, pretrain = test_pipeline.data_dir, test_pipeline.words, test_pipeline.pretrain


def fetched(store):
    asked = (ask.removeprefix("GET bucket/records/") for ask in store.asked)
    return sorted(ask for ask in asked if ask.endswith((".tfrecord", ".yaml", ".json", ".txt")))


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_batches_are_those_of_this_machine(store, pretrain, data_dir, scheme):
    address = f"{scheme}://bucket/records"
    store_server.put_folder(store, data_dir, address)
    here = test_pipeline.take(pretrain(), data_dir, 7)
    there = test_pipeline.take(pretrain(), address, 7)
    assert len(here) == len(there) == 7
    for left, right in zip(here, there, strict=True):
        test_pipeline.assert_same(left, right)
    asked = fetched(store)
    assert len(asked) == len(set(asked)) == 7  # two cards, five shards
    assert not [name for name in asked if not name.startswith(("spoken/", "heard/"))]

    stored_sets._opened.cache_clear()  # as another process
    test_pipeline.take(pretrain(), address, 1)
    assert fetched(store) == asked


def test_only_what_is_asked_for_is_fetched(store, data_dir, tmp_path):
    folder = tmp_path / "records/heard"
    shutil.copytree(data_dir / "heard", folder)
    text = (folder / "card.yaml").read_text().replace("labels:\n- zero\n- one\n- two\n", "")
    (folder / "card.yaml").write_text(f"{text}label_file: names.txt\nnum_classes: 2\n")
    (folder / "names.txt").write_text("left\nright\n")
    (folder / ".shards").mkdir()
    (folder / ".shards/a.tfrecord.json").write_text("{}")
    (folder / "dataset.html").write_text("large")
    store_server.put_folder(store, tmp_path / "records", "gs://bucket/records")
    card = cards.load("heard", "gs://bucket/records/")
    assert card.labels == ["left", "right"]
    asked = ["heard/.shards/a.tfrecord.json", "heard/card.yaml", "heard/names.txt"]
    assert fetched(store) == asked and (card.folder / asked[0].partition("/")[2]).exists()
    assert [path.name for path in card.shards("train")] == [
        f"train-0000{i}-of-00002.tfrecord" for i in range(2)
    ]


def test_what_is_missing_is_told(store, data_dir):
    store_server.put_folder(store, data_dir, "s3://bucket/records")
    with pytest.raises(DataError, match=r"no s3://bucket/records/speken/card\.yaml"):
        cards.load("speken", "s3://bucket/records")
    cards.load("heard", "s3://bucket/records").shards("train")
    stored_sets._opened.cache_clear()  # as another process
    del store.objects["bucket/records/heard/train-00001-of-00002.tfrecord"]
    with pytest.raises(DataError, match="1 of 2 shards match 'train-"):
        cards.load("heard", "s3://bucket/records").shards("train")
    with pytest.raises(DataError, match=r"az://a/b/heard is no address"):
        cards.load("heard", "az://a/b")


@pytest.mark.parametrize(
    "pattern", ["*", "a/*", "**/*.x", "a/**/*.x", "**/b/*", "*/c?.x", "[ab]/*", "d.x", "a", "**"]
)
def test_names_match_as_files_do(tmp_path, pattern):
    names = ["d.x", "a/c1.x", "a/c1.y", "a/b/c2.x", "b/c.x", "a/b/d/c3.x", "c1.x"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = {p.relative_to(tmp_path).as_posix() for p in tmp_path.glob(pattern) if p.is_file()}
    assert {name for name in names if stored_sets._matches(name.split("/"), pattern)} == found
