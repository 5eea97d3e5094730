from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml

from vatt import configs
from vatt.data import cards, clips, framing
from vatt.data.features import RECORD
from vatt.data.ingest import command as ingest_command
from vatt.data.ingest.manifest import read_manifest
from vatt.data.toy import command as toy_command
from vatt.errors import DataError
from vatt.experiments import labelled

DOCS = Path(__file__).resolve().parents[2] / "docs" / "datasets.md"


@pytest.fixture
def data_dir(tmp_path):
    folder = tmp_path / "birds"
    folder.mkdir()
    card = cards.Card(
        name="birds",
        tasks=["retrieval"],
        video=cards.VideoInfo(fps=10, height=72, width=80),
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


def write_card(folder: Path, **fields) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump({"name": folder.name, **fields}))
    return path


# Cards on disk -----------------------------------------------------------------------------------


def test_round_trip_and_shards(data_dir, monkeypatch):
    card = cards.load("birds", data_dir)
    assert card.video.fps == 10
    assert card.records("train") == 30
    assert card.classes == 2
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
    typo = data_dir.parent / f"{data_dir.name}x"
    with pytest.raises(DataError, match=r"data_dir is '.*', and there is no such") as caught:
        cards.load("birds", typo)
    assert str(caught.value).endswith(f"Did you mean '{data_dir.name}'?")
    with pytest.raises(DataError, match=r"no such folder\.\nTo make it: .*zz/records/birds"):
        cards.load("birds", data_dir / "zz" / "records")
    with pytest.raises(DataError, match="VATT_DATA_DIR"):
        cards.load("birds")


def test_missing_described_set_says_how_to_get_it(data_dir):
    with pytest.raises(DataError) as error:
        cards.load("audioset", data_dir)
    card = cards.describe("audioset")
    assert card.obtain in str(error.value)
    assert f"--output_dir {data_dir / 'audioset'} " in str(error.value)
    assert "$VATT_DATA_DIR" not in str(error.value)
    assert "mean" not in str(error.value)
    (data_dir / "birds").rename(data_dir / "audio_set")
    with pytest.raises(DataError, match=r"Did you mean 'audio_set'\?\nTo obtain it \(http"):
        cards.load("audioset", data_dir)
    with pytest.raises(DataError, match=r"Did you mean 'audioset'\?"):
        cards.load("audiosets", data_dir)
    with pytest.raises(DataError, match=r"described are: audioset, .*Did you mean 'msrvtt'\?"):
        cards.describe("msrvt")


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
    path = write_card(
        tmp_path,
        name=3,
        spilts={},
        video={"fps": -1},
        tasks=["retreival"],
        fields={"imgae": "x"},
        record_type="Sequence",
        splits={"train": {"pattern": "../other/*"}, "test": {"pattern": "/data/*"}},
    )
    with pytest.raises(DataError) as error:
        cards.read(path)
    for part in (
        "name", "spilts", "Did you mean 'splits'", "video.fps", "Did you mean 'retrieval'",
        "Did you mean 'image'", "'SequenceExample' or 'Example'", "splits.train.pattern",
        "splits.test.pattern: must be relative to the folder of the card and stay in it",
    ):  # fmt: skip
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


def test_tasks_of_older_cards_are_understood(tmp_path):
    card = cards.read(write_card(tmp_path, tasks=["pretrain", "classification"]))
    assert card.tasks == ["pretrain", "video_classification", "audio_classification"]


def test_empty_fields_are_not_written(tmp_path):
    text = cards.write(cards.Card(name="few", tasks=["pretrain"]), tmp_path).read_text()
    assert yaml.safe_load(text) == {
        "name": "few",
        "tasks": ["pretrain"],
        "record_type": "SequenceExample",
        "multi_label": False,
    }


# Splits ------------------------------------------------------------------------------------------


def with_splits(*names: str) -> cards.Card:
    return cards.Card(name="mine", splits={name: cards.Split(pattern="*") for name in names})


def test_folds():
    assert with_splits("test", "train").folds() == [("train", "test")]
    assert with_splits("train", "valid").folds() == [("train", "valid")]
    assert with_splits("train", "valid", "test").folds() == [("train", "test")]
    assert with_splits("test").folds() == []
    numbers = [10, 2, 1]
    card = with_splits(*(f"{part}_{n}" for n in numbers for part in ("test", "train")), "train")
    assert card.folds() == [(f"train_{n}", f"test_{n}") for n in (1, 2, 10)]
    assert with_splits("train2", "test2", "train1", "test1").folds()[0] == ("train1", "test1")
    with pytest.raises(DataError, match=r"'train_2' has no counterpart 'test_2'; splits: train_1"):
        with_splits("train_1", "test_1", "train_2").folds()


@pytest.mark.parametrize(
    ("names", "folds"),
    [
        (["Train", "Validation"], [("Train", "Validation")]),
        (["training", "val", "testing"], [("training", "testing")]),
        (["TRAIN", "dev"], [("TRAIN", "dev")]),
        (["Train", "train", "Test", "test", "eval"], [("train", "test")]),  # the usual names first
        (
            ["evaluation_2", "Train_2", "train_1", "val_1"],
            [("train_1", "val_1"), ("Train_2", "evaluation_2")],
        ),
        (["train", "test", "eval2000", "dev93"], [("train", "test")]),
        (["train", "held_out"], []),
    ],
)
def test_other_names_of_splits_are_understood(names, folds):
    assert with_splits(*names).folds() == folds


@pytest.mark.parametrize(
    "name, count",
    [("hmdb51", 3), ("ucf101", 3), ("esc50", 5), ("kinetics400", 1), ("mit", 1), ("msrvtt", 0)],
)
def test_folds_of_described_sets(name, count):
    card = cards.describe(name)
    assert len(card.folds()) == count
    totals = {sum(card.paper_splits[part] or 0 for part in fold) for fold in card.folds()}
    assert len(totals) <= 1  # the folds divide the same clips


# Counting ----------------------------------------------------------------------------------------


@pytest.fixture
def others(tmp_path):
    """A set whose shards others made, 1 to 9 records of odd sizes in each: (card file, counts)."""
    rng = np.random.default_rng(3)
    folder = tmp_path / "theirs"
    path = write_card(
        folder, splits={"train": {"pattern": "train*-of-*"}, "deep": {"pattern": "*/*.tfrecord"}}
    )
    (folder / "deep").mkdir()
    names = [f"train.tfrecord-{n:05d}-of-00012" for n in range(12)] + ["deep/a.tfrecord"]
    counts = {}
    for number, name in enumerate(names):
        counts[folder / name] = 1 + number % 9
        with tf.io.TFRecordWriter(str(folder / name)) as writer:
            for _ in range(counts[folder / name]):
                writer.write(rng.bytes(int(rng.choice([0, 1, 7, 300, 5000]))))
    return path, counts


def test_counting_equals_what_was_written(others):
    path, counts = others
    card = cards.read(path)
    for split in ("train", "deep"):
        expected = {shard: counts[shard] for shard in card.shards(split)}
        assert card.shard_records(split) == expected
        assert list(card.shard_records(split)) == card.shards(split)
        assert card.records(split) == sum(expected.values())
    assert len(card.shards("train")) == 12
    again = sum(1 for _ in tf.data.TFRecordDataset([str(p) for p in card.shards("train")]))
    assert card.records("train") == again


def test_counts_are_kept_and_the_manifest_saves_counting(others, monkeypatch):
    path, counts = others
    shards = [{"file": s.relative_to(path.parent).as_posix(), "records": 50} for s in counts]
    manifest = path.with_name("manifest.json")
    manifest.write_text(json.dumps({"shards": shards[1:]}))
    card = cards.read(path)
    assert card.records("train") == sum(counts[shard] for shard in card.shards("train"))
    manifest.write_text(json.dumps({"shards": shards}))
    assert card.records("train") != 12 * 50  # not asked again
    monkeypatch.setattr(framing, "count_records", None)
    assert cards.read(path).records("train") == 12 * 50
    assert set(cards.read(path).shard_records("train").values()) == {50}


def test_what_the_card_says_is_not_counted(data_dir):
    assert cards.load("birds", data_dir).records("test") == 7  # there are no such files


@pytest.mark.parametrize("kept", [1, 11, 12, 15, 20, -1, -4])
def test_cut_off_file_is_named_with_its_offset(tmp_path, kept):
    path = write_card(tmp_path / "cut", splits={"train": {"pattern": "*.tfrecord"}})
    shard = path.with_name("a.tfrecord")
    with tf.io.TFRecordWriter(str(shard)) as writer:
        writer.write(b"first")
        writer.write(b"second")
    whole, first = shard.read_bytes(), 8 + 4 + len(b"first") + 4
    shard.write_bytes(whole[:kept])
    where = first if kept < 0 else 0
    with pytest.raises(DataError, match=rf"a\.tfrecord: at byte {where}, after {where // first} "):
        cards.read(path).records("train")


def test_every_damaged_file_is_named(tmp_path):
    path = write_card(tmp_path / "bad", splits={"train": {"pattern": "*.x"}})
    for name in "ab":
        path.with_name(f"{name}.x").write_text("These are not the records you are looking for.")
    with pytest.raises(DataError, match=r"2 shards cannot be counted:\n.*a\.x.*\n.*b\.x"):
        cards.read(path).shard_records("train")


# Labels ------------------------------------------------------------------------------------------

NAMES = ["crow", "hooded crow, grey", "Zaunkönig"]


@pytest.mark.parametrize(
    "file, text",
    [
        ("labels.txt", "\n".join(NAMES) + "\n\n"),
        ("labels.csv", '0,crow\n1,"hooded crow, grey"\n2,Zaunkönig\n'),
        ("labels.csv", 'index,name\n0,crow\n1,"hooded crow, grey"\n2,Zaunkönig\n'),
        (
            "class_labels_indices.csv",
            'index,mid,display_name\n0,/m/1,"crow"\n1,/m/2,"hooded crow, grey"\n2,/m/3,Zaunkönig',
        ),
        ("labels.txt", "\ufeff" + "\r\n".join(NAMES)),
    ],
)
def test_label_files(tmp_path, file, text):
    path = write_card(tmp_path / "birds", label_file=file, num_classes=3)
    path.with_name(file).write_text(text, encoding="utf-8", newline="")
    card = cards.read(path)
    assert card.labels == NAMES
    assert card.classes == 3
    cards.write(card, path.parent)
    assert "crow" not in path.read_text()
    assert cards.read(path) == card


@pytest.mark.parametrize(
    "file, text, message",
    [
        ("a.txt", "crow\nrobin\ncrow\nwren\nwren", "2 labels stand more than once: crow, wren"),
        ("a.txt", "crow\nrobin\n", r"a\.txt: 2 labels, but num_classes is 3 in .*card\.yaml"),
        ("a.txt", "crow\n\nrobin", "class 1 has no name"),
        ("a.csv", "0,crow\n2,robin\n3,wren", "'2,robin' stands where class 1 should"),
        ("a.csv", "1,crow\n2,robin\n3,wren", "'1,crow' stands where class 0 should"),
        ("a.csv", "index,name\n0\n", "'0' stands where class 0 should"),
        ("a.csv", "name\ncrow\nrobin\nwren", "'crow' stands where class 0 should"),
    ],
)
def test_label_files_that_do_not_fit(tmp_path, file, text, message):
    path = write_card(tmp_path / "birds", label_file=file, num_classes=3)
    path.with_name(file).write_text(text)
    with pytest.raises(DataError, match=message):
        cards.read(path)


def test_labels_are_checked(tmp_path):
    with pytest.raises(DataError, match=r"label_file: there is no file .*names\.txt"):
        cards.read(write_card(tmp_path, label_file="names.txt"))
    with pytest.raises(DataError, match=r"label_file: must be relative to the folder of the card"):
        cards.read(write_card(tmp_path, label_file="../names.txt"))
    with pytest.raises(DataError, match=r"2 labels, but num_classes is 3"):
        cards.read(write_card(tmp_path, labels=["a", "b"], num_classes=3))
    with pytest.raises(DataError, match=r"1 labels stand more than once: a"):
        cards.read(write_card(tmp_path, labels=["a", "b", "a"]))
    with pytest.raises(DataError, match=r"labels and label_file exclude each other"):
        cards.read(write_card(tmp_path, labels=["a", "b"], label_file="a.txt"))
    assert cards.read(write_card(tmp_path, num_classes=3)).classes == 3
    assert cards.read(write_card(tmp_path)).classes == 0


# Described sets ----------------------------------------------------------------------------------

REPOSITORY = Path(__file__).resolve().parents[2]
CLASSES = {  # as published
    "kinetics400": 400, "kinetics600": 600, "kinetics700": 700, "mit": 339, "hmdb51": 51,
    "ucf101": 101, "esc50": 50, "audioset": 527, "imagenet": 1000, "vggsound": 309,
    "howto100m": 0, "youcook2": 0, "msrvtt": 0,
    "toy_howto": 0, "toy_retrieval": 0, "toy_audioset": 16, "toy_actions": 8, "toy_sounds": 8,
}  # fmt: skip


def test_every_published_set_is_described():
    assert set(cards.known()) == set(CLASSES)
    names = {configs.dataset.Finetune().name, *configs.dataset.Evaluation().name}
    assert names | set(configs.dataset.Pretrain().name.split("+")) <= set(cards.known())


@pytest.mark.parametrize("name", CLASSES)
def test_described_card_is_complete(name):
    card = cards.describe(name)
    assert card.name == name
    assert card.description and card.licence and card.tasks
    assert card.classes == CLASSES[name]
    assert bool(card.classes) == any(task.endswith("classification") for task in card.tasks)
    assert card.multi_label == (name in ("audioset", "toy_audioset"))
    if name.startswith("toy_"):
        return
    assert card.homepage and card.obtain and card.paper_splits
    assert card.video is None or card.video.fps == (10 if name == "howto100m" else 25)
    assert card.audio is None or card.audio.sample_rate == 48000
    assert card.video or card.audio
    assert card.text or "retrieval" not in card.tasks
    if "retrieval" in card.tasks:
        assert card.test_records == {"youcook2": 3320, "msrvtt": 1000}[name]


def test_the_cards_of_published_sets_serve_the_recipes_that_name_them():
    served = 0
    for file in sorted((REPOSITORY / "configs" / "finetune").glob("*.yaml")):
        cfg = configs.resolve(config_file=str(file), model_dir="x", data_dir="x")
        if cfg.task.lower() != "finetune" or cfg.train.input.name not in CLASSES:
            continue
        card, model = cards.describe(cfg.train.input.name), cfg.model
        wanted = {task for m in model.modalities for task in labelled.TASKS[m]}
        assert wanted & set(card.tasks), file.name
        served += 1
    assert served > 10


@pytest.mark.parametrize("name", CLASSES)
def test_ingest_commands_are_accepted(name):
    card = cards.describe(name)
    lines = card.ingest.replace("\\\n", " ").splitlines()
    *renders, (*start, module) = [shlex.split(line)[:3] for line in lines]
    assert (start, module) == (["python", "-m"], "vatt.data.ingest")
    for line, render in zip(lines, renders, strict=False):
        assert render == ["python", "-m", "vatt.data.toy"]
        assert toy_command.parse_arguments(shlex.split(line)[3:]).sets == name
    arguments = ingest_command.parse_arguments(shlex.split(lines[-1])[3:])
    assert str(arguments.output_dir) == f"$VATT_DATA_DIR/{name}"
    assert card.video is None or arguments.fps == card.video.fps
    assert card.audio is None or arguments.sample_rate == card.audio.sample_rate


# The documentation -------------------------------------------------------------------------------


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.M | re.S)


def test_documentation_names_everything():
    text = DOCS.read_text(encoding="utf-8")
    for name in (*cards.Card.model_fields, *cards.known(), *cards.TASKS):
        assert f"`{name}`" in text, name
    for name, meaning in cards.TASKS.items():
        assert f"| `{name}` | {meaning} |" in text
    for name, count in CLASSES.items():
        [row] = [row for row in text.splitlines() if row.startswith(f"| `{name}` |")]
        _, tasks, classes, splits, _ = [cell.strip() for cell in row.strip("|").split("|")]
        card = cards.describe(name)
        assert tasks.split(", ") == card.tasks
        assert classes.split(",  ")[0].startswith(f"{count:,}" if count else "")
        for split, clips_there in list(card.paper_splits.items())[:2]:
            assert f"`{split}`" + (f" ({clips_there:,})" if clips_there else "") in splits


def _feature(values) -> tf.train.Feature:
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


@pytest.mark.parametrize("record_type", ["SequenceExample", "Example"])
def test_example_cards_of_the_documentation_read_shards_of_others(tmp_path, record_type):
    content = [yaml.safe_load(block) for block in blocks("yaml")]
    [content] = [card for card in content if card.get("record_type") == record_type]
    path = write_card(tmp_path / content["name"], **content)
    names = [f"class {n}" for n in range(content["num_classes"])]
    path.with_name(content["label_file"]).write_text("\n".join(names))
    if record_type == "Example":
        features = {"image": [b"jpeg"], "label": [7], "file_name": [b"n1.JPEG"]}
        features = {name: _feature(values) for name, values in features.items()}
        record = tf.train.Example(features=tf.train.Features(feature=features))
        shard = "imagenet2012-train.tfrecord-00000-of-01024"
    else:
        frames, waveform = [_feature([b"jpeg"])] * 3, [_feature([0.5, -0.5])]
        lists = {"image/encoded": frames, "WAVEFORM/feature/floats": waveform}
        context = {"clip/label/index": _feature([7]), "clip/label/text": _feature([b"class 7"])}
        record = tf.train.SequenceExample(
            context=tf.train.Features(feature=context),
            feature_lists=tf.train.FeatureLists(
                feature_list={k: tf.train.FeatureList(feature=v) for k, v in lists.items()}
            ),
        )
        shard = "train-00000-of-01000"
    with tf.io.TFRecordWriter(str(path.with_name(shard))) as writer:
        writer.write(record.SerializeToString())
    card = cards.load(content["name"], tmp_path)
    assert card.shard_records("train") == {path.with_name(shard): 1}
    assert card.classes == len(card.labels) == content["num_classes"]
    [serialized] = tf.data.TFRecordDataset([str(path) for path in card.shards("train")])
    read = clips.parse(serialized, RECORD.renamed(card.fields), card.record_type)
    assert read.label_index.numpy().tolist() == [7]
    assert read.frames.numpy().tolist() == [b"jpeg"] * (1 if record_type == "Example" else 3)
    if record_type == "Example":
        assert read.source.numpy() == b"n1.JPEG"
    else:
        assert read.waveform.numpy().tolist() == [0.5, -0.5]


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def _table(path: Path, *rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def _run_program(name: str, folder: Path) -> str:
    """Runs the program of the documentation that begins with "# name"; returns what it prints."""
    [program] = [block for block in blocks("python") if block.startswith(f"# {name}\n")]
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True
    )
    return run.stdout


def test_manifest_program_for_kinetics(tmp_path):
    root = tmp_path / "kinetics400"
    header = ("label", "youtube_id", "time_start", "time_end", "split")
    _table(root / "train.csv", header, ("tai chi", "-abc", 5, 15, "train"))
    _table(root / "val.csv", header, ("yoga", "x_1", 120, 130, "val"), ("yoga", "y", 1, 11, "val"))
    _touch(root, "train/-abc_000005_000015.mp4", "valid/x_1_000120_000130.mp4")
    assert _run_program("kinetics", tmp_path) == "2 clips, 1 are missing\n"
    rows = [(row.path, row.split, row.labels) for row in read_manifest(root / "manifest.csv")]
    assert rows == [
        ("train/-abc_000005_000015.mp4", "train", ("tai chi",)),
        ("valid/x_1_000120_000130.mp4", "valid", ("yoga",)),
    ]


def test_manifest_program_for_hmdb51(tmp_path):
    lists = tmp_path / "testTrainMulti_7030_splits"
    lists.mkdir()
    (tmp_path / "hmdb51").mkdir()
    for fold in (1, 2, 3):
        text = f"a.avi {1 if fold < 3 else 2} \nb,c.avi 0 \n"
        (lists / f"brush_hair_test_split{fold}.txt").write_text(text)
    _run_program("hmdb51", tmp_path)
    rows = read_manifest(tmp_path / "hmdb51/manifest.csv")
    assert {row.split for row in rows} == {"train_1", "train_2", "test_3"}
    assert {(row.path, row.labels) for row in rows} == {("brush_hair/a.avi", ("brush_hair",))}


def test_manifest_program_for_ucf101(tmp_path):
    (tmp_path / "ucfTrainTestlist").mkdir()
    (tmp_path / "UCF-101").mkdir()
    for fold in (1, 2, 3):
        for part, index in (("train", " 1"), ("test", "")):
            lines = f"Archery/v_{part}_{fold}.avi{index}\r\n"
            (tmp_path / f"ucfTrainTestlist/{part}list0{fold}.txt").write_text(lines, newline="")
    _run_program("ucf101", tmp_path)
    rows = read_manifest(tmp_path / "UCF-101/manifest.csv")
    assert {row.path: (row.split, *row.labels) for row in rows} == {
        f"Archery/v_{part}_{fold}.avi": (f"{part}_{fold}", "Archery")
        for part in ("train", "test")
        for fold in (1, 2, 3)
    }


def test_manifest_program_for_youcook2(tmp_path):
    root = tmp_path / "youcook2"
    step = {"segment": [41, 54], "id": 0, "sentence": "spread margarine, on bread"}
    videos = {"a-1": "training", "b_2": "validation", "gone": "validation"}
    database = {name: {"subset": part, "annotations": [step]} for name, part in videos.items()}
    _touch(
        root, "videos/a-1.mkv", "videos/b_2.mp4", "videos/b_2.description", "videos/gone.info.json"
    )
    (root / "youcookii_annotations_trainval.json").write_text(json.dumps({"database": database}))
    assert _run_program("youcook2", tmp_path) == "2 clips; 1 videos are missing\n"
    rows = read_manifest(root / "manifest.csv")
    assert [(row.path, row.start, row.end, row.split) for row in rows] == [
        ("videos/a-1.mkv", 41, 54, "train"),
        ("videos/b_2.mp4", 41, 54, "test"),
    ]
    assert {row.caption for row in rows} == {"spread margarine, on bread"}

    _touch(root, "videos/a-1.webm")
    text = json.dumps({"database": database})
    twice = json.dumps({"b_2": {"subset": "training", "annotations": []}})[1:-1]
    text = text.replace('"b_2"', f'{twice}, "b_2"')
    (root / "youcookii_annotations_trainval.json").write_text(text)
    assert _run_program("youcook2", tmp_path).splitlines() == [
        "two videos of one id: videos/a-1.mkv is taken, videos/a-1.webm is not",
        "b_2 stands 2 times in the annotations: the last one is taken",
        "2 clips; 1 videos are missing",
    ]
    assert read_manifest(root / "manifest.csv") == rows


def test_manifest_program_for_msrvtt(tmp_path):
    header = ("key", "vid_key", "video_id", "sentence")
    first = ("ret0", "msr9770", "video9770", 'a man says "hi", twice')
    _table(tmp_path / "msrvtt/MSRVTT_JSFUSION_test.csv", header, first)
    _run_program("msrvtt", tmp_path)
    [row] = read_manifest(tmp_path / "msrvtt/manifest.csv")
    assert (row.path, row.split) == ("videos/video9770.mp4", "test")
    assert row.caption == 'a man says "hi", twice'


def test_manifest_program_for_vggsound(tmp_path):
    root = tmp_path / "vggsound"
    first, gone = ("---g-f_I2yQ", 1, "people, marching", "test"), ("zz", 0, "owl hooting", "train")
    _table(root / "vggsound.csv", first, gone)
    _touch(root, "videos/---g-f_I2yQ_000001.mp4")
    assert _run_program("vggsound", tmp_path) == "1 clips, 1 are missing\n"
    [row] = read_manifest(root / "manifest.csv")
    assert (row.path, row.split) == ("videos/---g-f_I2yQ_000001.mp4", "test")
    assert row.labels == ("people, marching",)


def test_prompts_belong_to_classes(tmp_path):
    prompts = {"crow": ["a crow calls"]}
    card = cards.read(write_card(tmp_path, labels=["crow", "wren"], prompts=prompts))
    assert card.prompts == prompts
    with pytest.raises(DataError, match=r"no class 'crew'.*Did you mean 'crow'"):
        cards.read(write_card(tmp_path, labels=["crow", "wren"], prompts={"crew": ["x"]}))
    with pytest.raises(DataError, match=r"class 'crow' has no sentence"):
        cards.read(write_card(tmp_path, labels=["crow", "wren"], prompts={"crow": []}))


@pytest.mark.parametrize("name", ["toy_actions", "toy_sounds"])
def test_every_class_of_a_toy_set_has_prompts(name):
    card = cards.describe(name)
    assert len(card.prompts) == card.classes
