"""Cards from strangers: what they name stays in their folder, and nothing in them costs much."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from vatt.data import cards
from vatt.data.check import command as check
from vatt.data.ingest import command as ingest
from vatt.errors import DataError


def write_card(folder: Path, **fields) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump({"name": "birds", **fields}))
    return path


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        cards.read(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and len(message) < 5000
    return message


TEXTS = {
    "[" * 100_000: "more than 50 values in one another",
    "name: &a [*a]": "a value that holds itself",
    f"name: birds\nnum_classes: {'9' * 5000}": "a number of 5000 characters",
    "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdef", "bcdefg")): (  # noqa: B905
        "more than 500000 values"
    ),
    "name: birds\nname: cats": "key 'name' is given twice",
    "name: birds\nvideo: {fps: .inf}": "video.fps: Input should be a finite number",
    "name: birds\nvideo: {fps: 1e999}": "video.fps: Input should be a finite number",
    "name: birds\nlabels: [" + "1, " * 1000 + "1]": "... and 981 more",
    "name: birds\n" + "a" * 900 + ": 1": "Extra inputs",
    "name: birds\nlicence: [" + "x" * 100_000 + "]": "licence: Input should be a valid string",
    "name: !!python/object/apply:os.system [ls]": "could not determine a constructor",
}


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_texts_that_are_refused(tmp_path, text):
    (tmp_path / "card.yaml").write_text(text)
    assert TEXTS[text] in refused(tmp_path / "card.yaml")


def test_bytes_that_are_refused(tmp_path):
    for content, reason in ((b"\xff\xfe", "utf-8"), (b"#" * (2**22 + 1), "more than 4194304")):
        (tmp_path / "card.yaml").write_bytes(content)
        assert reason in refused(tmp_path / "card.yaml")


@pytest.mark.parametrize(
    "pattern", ["a**b", "**a", "a/**b/c", "**/**/x", "**/a/**", ".", "./.", "../x", "/x", "a\0b"]
)
def test_patterns_that_are_refused(tmp_path, pattern):
    path = write_card(tmp_path, splits={"train": {"pattern": [pattern]}})
    assert "splits.train.pattern" in refused(path)


def test_patterns_that_find_files(tmp_path):
    for name in ("a-1.tfrecord", "deep/er/a-2.tfrecord"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    path = write_card(
        tmp_path,
        splits={
            "one": {"pattern": "a-*"},
            "all": {"pattern": "**/a-?.tfrecord"},
            "none": {"pattern": "*a" * 2000},
        },
    )
    card = cards.read(path)
    assert [path.name for path in card.shards("one")] == ["a-1.tfrecord"]
    assert [path.name for path in card.shards("all")] == ["a-1.tfrecord", "a-2.tfrecord"]
    with pytest.raises(DataError, match="no file in"):
        card.shards("none")


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "..", " ", "", "a" * 101, "a\nb", "a\0b"])
def test_names_that_files_cannot_have(tmp_path, capsys, name):
    """Files of an evaluation are called by the name of the set: eval/<name>-<step>.npz."""
    path = write_card(tmp_path, name=name)
    assert "name: must" in refused(path)
    path = write_card(tmp_path, splits={name: {"pattern": "x"}})
    assert "splits: " in refused(path)
    if name.strip():
        (tmp_path / "v").mkdir(exist_ok=True)
        (tmp_path / "v" / "a.mp4").write_bytes(b"")
        out = tmp_path / "out"
        given = ["--input", str(tmp_path / "v"), "--output_dir", str(out), "--name", name]
        assert ingest.main(given) == 2
        assert capsys.readouterr().err.startswith("error: --name '") and not out.exists()


def test_a_label_file_elsewhere_is_not_read(tmp_path):
    (tmp_path / "secret.txt").write_text("password\nother\n")
    folder = tmp_path / "birds"
    path = write_card(folder, label_file="labels.txt")
    os.symlink("../secret.txt", folder / "labels.txt")
    with pytest.raises(DataError, match=r"label_file: .*labels.txt: leads out of") as caught:
        cards.read(path)
    assert "password" not in str(caught.value)
    os.unlink(folder / "labels.txt")
    (folder / "mine.txt").write_text("crow\nrobin\n")
    os.symlink("mine.txt", folder / "labels.txt")
    assert cards.read(path).labels == ["crow", "robin"]
    os.symlink("birds", tmp_path / "link")  # the whole folder may well be elsewhere
    assert cards.load("link", tmp_path).labels == ["crow", "robin"]


@pytest.mark.parametrize("name", ["x" * 5000, "x/" * 2500 + "x", "a\0b"])
def test_names_that_no_file_system_has(tmp_path, monkeypatch, capsys, name):
    with pytest.raises(DataError, match="not found: looked for") as caught:
        cards.load(name, tmp_path)
    assert len(str(caught.value)) < 1000
    monkeypatch.setenv("VATT_DATA_DIR", str(tmp_path))
    for given in (name, f"{name}.yaml"):
        assert check.main([given]) == 3
        assert len(capsys.readouterr().err) < 1000


def test_a_manifest_of_nonsense_counts_nothing(tmp_path):
    path = write_card(tmp_path, splits={"train": {"pattern": "a-*"}})
    (tmp_path / "a-1.tfrecord").write_bytes(b"")
    for text in (
        "[" * 100_000,
        "9" * 5000,
        '{"shards": 3}',
        '{"shards": [{"file": 1, "records": 1}]}',
        '{"shards": [{"file": "a-1.tfrecord", "records": Infinity}]}',
        '{"shards": [{"file": "a-1.tfrecord", "records": -1}]}',
        '{"shards": [{"file": "a-1.tfrecord", "records": 1' + 30 * "0" + "}]}",
        '{"shards": [{"file": "a-1.tfrecord", "records": "7"}]}',
    ):
        (tmp_path / "manifest.json").write_text(text)
        card = cards.read(path)
        assert card.splits["train"].records is None
        with pytest.raises(DataError, match="empty shards"):
            card.records("train")
        (tmp_path / "a-1.tfrecord").write_bytes(b"x" * 16)
        with pytest.raises(DataError, match=r"a-1\.tfrecord"):
            card.records("train")
        (tmp_path / "a-1.tfrecord").write_bytes(b"")
