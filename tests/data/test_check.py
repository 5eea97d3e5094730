from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml
from PIL import Image
from record_sets import clip, jpeg, write_set

from vatt.data import bad_records, framing, records
from vatt.data.check import contact_sheet, leakage
from vatt.data.check.command import find_card, main
from vatt.data.check.report import COLUMNS
from vatt.data.check.splits import check_splits
from vatt.data.ingest import samples

TRAIN = [clip(f"train{k}.mp4") for k in range(7)]
TEST = [clip(f"test{k}.mp4", labels=["cat"], label_indices=[0]) for k in range(3)]


def run(folder: Path, *arguments: str) -> int:
    return main([str(folder), "--workers=1", *arguments])


def listed(folder: Path) -> list[list[str]]:
    with (folder / "bad_records.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == list(COLUMNS)
    return rows


def starts(path: Path) -> list[int]:
    return [record.offset for record in framing.walk(path)]


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


# What is counted ---------------------------------------------------------------------------------


def test_a_good_set(tmp_path, capsys):
    folder = tmp_path / "pets"
    nothing = {"waveform": None, "captions": [], "labels": [], "label_indices": []}
    write_set(folder, {"train": [*TRAIN, clip("silent.mp4", end=4.0, **nothing)], "test": TEST})
    assert run(folder) == 0
    table = {
        line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()[2:4]
    }
    assert table == {
        "test": ["3", "3", "0", "3", "3", "3", "3", "0.00"],
        "train": ["8", "8", "0", "8", "7", "7", "7", "0.00"],
    }
    found = json.loads((folder / "check.json").read_text())
    assert found["fine"] is True
    assert found["bad_records"] == 0
    train = found["splits"]["train"]
    assert (train["records"], train["shards"], train["longest"]) == (8, 2, 4.0)
    assert train["seconds"] == pytest.approx(7 * 1.5 + 4.0)
    assert train["classes"] == {"dog": 7}
    assert train["durations"] == {"1.5 - 2 s": 7, "4 - 5 s": 1}
    assert listed(folder) == []


def test_only_some_splits(tmp_path, capsys):
    folder = tmp_path / "pets"
    write_set(folder, {"train": TRAIN, "test": TEST})
    assert run(folder, "--splits", "test") == 0
    assert list(json.loads((folder / "check.json").read_text())["splits"]) == ["test"]
    assert run(folder, "--splits", "tset") == 3
    assert "Did you mean 'test'?" in capsys.readouterr().err


def test_a_set_made_by_others(tmp_path):
    """Example records, other names, no counts, no manifest, labels as numbers, no sources."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for split, colours in {"train": [10, 60, 110], "test": [160, 110]}.items():
        with tf.io.TFRecordWriter(str(folder / f"{split}.tfrecord")) as writer:
            for colour in colours:
                image = tf.train.BytesList(value=[jpeg((colour, 0, 0))])
                label = tf.train.Int64List(value=[1])
                fields = {
                    "jpeg": tf.train.Feature(bytes_list=image),
                    "class": tf.train.Feature(int64_list=label),
                }
                features = tf.train.Features(feature=fields)
                writer.write(tf.train.Example(features=features).SerializeToString())
    card = {
        "name": "theirs",
        "record_type": "Example",
        "fields": {"image": "jpeg", "label_index": "class"},
        "video": {"fps": 1.0},
        "labels": ["cat", "dog"],
        "splits": {name: {"pattern": f"{name}.tfrecord"} for name in ("train", "test")},
    }
    (folder / "card.yaml").write_text(yaml.safe_dump(card))
    report = check_splits(find_card(str(folder)), workers=1)
    assert (report.bad, report.problems) == ([], [])
    assert report.splits["train"]["records"] == 3
    assert report.splits["train"]["classes"] == {"dog": 3}
    (leak,) = report.leaks  # found by what the picture is, as nobody says where it is from
    assert (set(leak.splits), leak.sources) == ({"train", "test"}, 1)
    assert "no manifest.json" in report.notes[0]


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(tmp_path):
    folder = tmp_path / "pets"
    card, _ = write_set(folder, {"train": TRAIN, "test": TEST}, shards=3)
    flip(folder / records.shard_name("train", 1, 3), 100)
    assert check_splits(card, samples=4, workers=1) == check_splits(card, samples=4, workers=3)


# What is wrong -----------------------------------------------------------------------------------


def test_flipped_bytes_are_found_and_cost_one_record_each(tmp_path, capsys):
    folder = tmp_path / "pets"
    write_set(folder, {"train": TRAIN, "test": TEST})
    path = folder / records.shard_name("train", 0, 2)  # records 0, 2, 4 and 6
    places = starts(path)
    flip(path, places[1] + 2)  # its length
    flip(path, places[3] + 500)  # its payload
    assert run(folder) == 3
    rows = listed(folder)
    assert [row[:5] for row in rows] == [
        ["pets", "train", path.name, "1", str(places[1])],
        ["pets", "train", path.name, "3", str(places[3])],
    ]
    assert "header" in rows[0][5]
    assert "checksum" in rows[1][5]
    train = json.loads((folder / "check.json").read_text())["splits"]["train"]
    assert [train[key] for key in ("records", "usable", "bad", "with_video")] == [7, 5, 2, 5]
    out = capsys.readouterr().out
    assert f"bad records: 2, listed in {folder / 'bad_records.csv'}" in out
    assert f"train, {path.name}, record 1 at byte {places[1]}: the header" in out
    assert f"{path.name}: its SHA-256 is not that of manifest.json" in out


def test_records_lost_together_are_all_counted(tmp_path):
    folder = tmp_path / "pets"
    card, _ = write_set(folder, {"train": TRAIN, "test": TEST}, shards=1)
    path = folder / records.shard_name("train", 0, 1)
    places, whole = starts(path), path.read_bytes()
    path.write_bytes(whole[: places[2] + 5] + whole[places[5] :])  # 2, 3 and 4 are gone
    report = check_splits(card, workers=1)
    assert [report.splits["train"][key] for key in ("records", "usable", "bad")] == [7, 4, 3]
    (row,) = report.bad
    assert row[3:5] == [2, places[2]]
    assert row[5].endswith("; 3 records lost")
    path.write_bytes(whole[: places[4] - 1])  # the end is gone, from within 3
    report = check_splits(card, workers=1)
    assert [report.splits["train"][key] for key in ("records", "usable", "bad")] == [7, 3, 4]
    path.write_bytes(whole + whole[: places[1]])  # one record twice
    report = check_splits(card, workers=1)
    assert report.bad == []
    assert f"{path.name}: 1 record more than expected" in report.problems
    assert "split 'train': the card says 7 records, the shards hold 8" in report.problems


def test_payloads_that_cannot_be_used_are_listed_with_their_place(tmp_path):
    folder = tmp_path / "pets"
    bad = {2: {"frames": [b"no picture"]}, 4: {"labels": ["cow"], "label_indices": [2]}}
    good = write_set(tmp_path / "good", {"train": TRAIN}, shards=1)[0]
    with records.ShardWriter(good.shards("train")[0]) as writer:
        for number in range(7):
            writer.write(records.encode(clip(f"train{number}.mp4", **bad.get(number, {}))))
    os.rename(tmp_path / "good", folder)
    report = check_splits(find_card(str(folder)), workers=1)
    places = starts(folder / records.shard_name("train", 0, 1))
    assert [row[3:] for row in report.bad] == [
        [2, places[2], "frame 0 is not a JPEG or PNG"],
        [4, places[4], "label index 2, but the card has 2 classes"],
    ]


def test_label_texts_must_be_those_of_the_card(tmp_path):
    wrong = [clip("a.mp4"), clip("b.mp4", labels=["cat"], label_indices=[1])]
    card, _ = write_set(tmp_path / "pets", {"train": wrong}, shards=1)
    (problem,) = check_splits(card, workers=1).problems
    assert "names for their indices, in 1 of the records" in problem
    assert "record 1: ['cat'], card: ['dog']" in problem


def test_missing_shards_and_a_damaged_manifest(tmp_path):
    folder = tmp_path / "pets"
    card, _ = write_set(folder, {"train": TRAIN, "test": TEST})
    (folder / records.shard_name("train", 1, 2)).unlink()
    report = check_splits(card, workers=1)
    assert "missing: train-00001-of-00002.tfrecord" in report.problems[0]
    assert "the card says 7 records, the shards hold 4" in report.problems[1]
    (folder / "manifest.json").write_text("{")
    assert "manifest.json cannot be used" in check_splits(card, workers=1).problems[0]
    (folder / "manifest.json").write_text('{"shards": [{"file": "a", "records": 1e30}]}')
    told = check_splits(card, workers=1).problems[0]
    assert told.endswith("{'file': 'a', 'records': 1e+30}, not file, records and sha256")
    for path in folder.glob("train*"):
        path.unlink()
    report = check_splits(card, workers=1)
    assert "matches" in report.problems[1]
    assert report.splits["test"]["usable"] == 3  # the rest is checked all the same


# Leakage -----------------------------------------------------------------------------------------


def test_the_same_source_in_two_splits(tmp_path, capsys):
    folder = tmp_path / "pets"
    train = [clip("a.mp4", 0, 2), clip("a.mp4", 2, 4), clip("b.mp4", 0, 2), clip("c.mp4", 0, 2)]
    test = [clip("a.mp4", 3.5, 5), clip("b.mp4", 2, 4), clip("d.mp4", 0, 2)]
    write_set(folder, {"train": train, "test": test})
    assert run(folder) == 3
    (leak,) = json.loads((folder / "check.json").read_text())["leaks"]
    assert leak == {
        "splits": ["test", "train"],
        "sources": 2,
        "overlapping": 1,
        "examples": ["a.mp4"],
        "renamed": False,
    }
    expected = "leakage: 2 sources are in test and in train, 1 of them with the same moments"
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize(
    ("first", "second", "leaks"),
    [
        ("train", "test", True),
        ("train_1", "test_1", True),
        ("train_1", "test_2", False),  # folds of cross-validation
        ("test_1", "test_2", False),
        ("train1", "test2", False),
        ("train1", "test1", True),
        ("train_1", "train_2", False),
        ("train", "test_3", True),
        ("valid", "test", True),
    ],
)
def test_which_splits_may_share_sources(first, second, leaks):
    clips = {first: {"a": [(0.0, 1.0)]}, second: {"a": [(0.0, 1.0)], "b": [(0.0, 1.0)]}}
    assert bool(leakage.find(clips, {})) == leaks


def test_overlap_is_that_of_comparing_all_pairs():
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        first, second = (
            [(s, s + d) for s, d in zip(rng.integers(0, 30, n), rng.integers(1, 5, n), strict=True)]
            for n in rng.integers(1, 4, 2)
        )
        truth = any(a < d and c < b for a, b in first for c, d in second)
        (leak,) = leakage.find({"train": {"x": first}, "test": {"x": second}}, {})
        assert leak.overlapping == truth
        seen.add(truth)
    assert seen == {True, False}


def test_the_same_content_under_two_names_is_leakage(tmp_path, capsys):
    folder, tone = tmp_path / "pets", np.sin(np.arange(900, dtype=np.float32))
    sound, nothing = {"frames": None}, {"waveform": np.zeros(500, np.float32)}
    train = [clip("a.wav", waveform=tone, **sound), clip("b.wav", **sound), *TRAIN[:2]]
    test = [clip("copy.wav", waveform=tone, labels=[], label_indices=[], **sound), *TEST]
    black = [clip(f"black{k}.mp4", **nothing) for k in range(2)]  # alike, but no copies
    write_set(folder, {"train": [*train, black[0]], "test": [*test, black[1]]})
    assert run(folder) == 3
    printed = capsys.readouterr().out
    said = "leakage: 1 clips with the same content are in test and in train under other names"
    assert said in printed
    assert "copy.wav = a.wav" in printed
    (leak,) = json.loads((folder / "check.json").read_text())["leaks"]
    assert (leak["renamed"], leak["sources"]) == (True, 1)


def test_records_are_judged_by_what_the_set_is_for(tmp_path):
    nine = [clip(f"{k}.wav", frames=None) for k in range(9)]
    card, _ = write_set(tmp_path / "sounds", {"train": [*nine, clip("v.mp4"), clip("w.mp4")]})
    assert card.tasks == ["audio_classification"]
    report = check_splits(card, workers=1)
    assert (report.bad, report.fine) == ([], True)
    assert "split 'train': 9 of 11 records have no pictures" in report.notes
    mute = clip("mute.mp4", waveform=None)  # of no use here
    report = check_splits(write_set(tmp_path / "mute", {"train": [*nine, mute]})[0], workers=1)
    (bad,) = report.bad
    assert bad[-1] == "no sound, and the set is for audio_classification only"
    videos = [clip(f"{k}.mp4", labels=[], label_indices=[]) for k in range(3)]
    sound = clip("a.wav", frames=None, labels=[], label_indices=[])
    card, _ = write_set(tmp_path / "videos", {"train": [*videos, sound]})
    card = card.model_copy(update={"tasks": ["pretrain", "retrieval"]})
    assert "no frames" in check_splits(card, workers=1).bad[0][-1]


# Contact sheet -----------------------------------------------------------------------------------


def test_the_sheet_shows_clips_of_all_splits(tmp_path):
    folder = tmp_path / "pets"
    red, green = jpeg((220, 0, 0), (64, 48)), jpeg((0, 200, 0), (64, 48))
    train = [clip(f"train{k}.mp4", frames=[red] * 4) for k in range(9)]
    test = [clip(f"test{k}.mp4", frames=[green] * 4, waveform=None) for k in range(3)]
    card, _ = write_set(folder, {"train": train, "test": test})
    report = check_splits(card, samples=4, workers=1)
    assert [sample.split for sample in report.samples] == ["test", "test", "train", "train"]
    sheet = np.asarray(contact_sheet.draw(report.samples, "pets")).astype(int)
    is_red = (sheet[..., 0] > 180) & (sheet[..., 1] < 60) & (sheet[..., 2] < 60)
    is_green = (sheet[..., 1] > 160) & (sheet[..., 0] < 60) & (sheet[..., 2] < 60)
    for colour, above in ((is_red, False), (is_green, True)):
        assert colour.sum() > 2 * 4 * 150 * 110
        assert colour[: len(sheet) // 3].any() == above
        assert colour[-len(sheet) // 3 :].any() != above
    assert report.notes == ["split 'test': the card has audio, but no record has"]
    for name in ("a.png", "b.png"):
        assert run(folder, "--samples=4", f"--contact_sheet={tmp_path / name}") == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (contact_sheet.WIDTH, len(sheet))


def test_clips_that_lack_something_can_be_drawn():
    made = [
        clip(
            "a" * 300 + ".mp4", captions=[(0.0, 1.0, "größer 日本 " * 90)] * 9, labels=["x y"] * 9
        ),
        clip("", frames=None, waveform=None, captions=[], labels=[]),
        clip("silent.wav", end=0.0, frames=None, waveform=np.zeros(7, np.float32)),
        clip("tall.jpg", frames=[jpeg(size=(8, 400))], fps=0.0, sample_rate=0),
    ]
    shown = [samples.make(one, "train") for one in made]
    sheet = contact_sheet.draw(shown, "odd")
    assert sheet.height > 300
    assert contact_sheet.draw([], "none").height > 20


def test_a_bad_sample_is_replaced_by_the_next_record(tmp_path):
    card, _ = write_set(tmp_path / "pets", {"train": TRAIN}, shards=1)
    path = card.shards("train")[0]
    assert check_splits(card, samples=1, workers=1).samples[0].source == "train3.mp4"
    flip(path, starts(path)[3] + 100)
    assert check_splits(card, samples=1, workers=1).samples[0].source == "train4.mp4"


def test_places_are_spread_evenly():
    assert samples.spread([4, 0, 4], 2) == [(0, 2), (2, 2)]
    assert samples.spread([3, 2], 99) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert samples.spread([], 3) == samples.spread([0], 3) == []
    places = samples.spread([10, 90, 400], 50)
    flat = [[0, 10, 100][part] + index for part, index in places]
    assert flat == list(range(5, 500, 10))


def test_the_outline_of_a_sound():
    sound = np.zeros(1000, np.float32)
    sound[500:505] = [0.5, -0.25, 0, 0, 0]
    outline = samples.make(clip("a.wav", waveform=sound), "train").outline
    assert len(outline) == samples.OUTLINE_BINS
    assert [k for k, piece in enumerate(outline) if any(piece)] == [100]
    assert outline[100] == [-0.25, 0.5]


# Command line ------------------------------------------------------------------------------------


def test_columns_are_those_of_the_list_of_a_run():
    assert COLUMNS == bad_records.COLUMNS


def test_what_cannot_be_checked_is_said(tmp_path, capsys, monkeypatch):
    write_set(tmp_path / "pets", {"train": TRAIN[:1]})
    cases = {
        str(tmp_path): "no card.yaml in this folder; data sets in it: pets",
        str(tmp_path / "pets" / "no.yaml"): "no.yaml: cannot be read",
        "pest": "data set 'pest' not found",
    }
    monkeypatch.setenv("VATT_DATA_DIR", str(tmp_path))
    for name, message in cases.items():
        assert main([name]) == 3
        assert message in capsys.readouterr().err
    assert main(["pets", "--workers=1"]) == 0  # found in VATT_DATA_DIR
    monkeypatch.delenv("VATT_DATA_DIR")
    assert main(["pets", "--workers=1"]) == 3
    assert "Set --data_dir, or the environment variable VATT_DATA_DIR" in capsys.readouterr().err
    assert main(["pets", "--workers=1", f"--data_dir={tmp_path}"]) == 0
    monkeypatch.setenv("VATT_DATA_DIR", str(tmp_path))
    assert main([str(tmp_path / "pets" / "card.yaml"), "--workers=1"]) == 0
    with pytest.raises(SystemExit) as stop:
        main(["pets", "--samples=0"])
    assert stop.value.code == 2
    (tmp_path / "pets" / "card.yaml").write_text("name: pets\n")
    assert main(["pets"]) == 3
    assert "the card names no split" in capsys.readouterr().err
