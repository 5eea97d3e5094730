"""Published files of extracted features become records, or it is told why not."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path

import feature_sets
import numpy as np
import pytest
from feature_sets import clip, write_pickle

from vatt.data import cards, records
from vatt.data.ingest.command import main as ingest
from vatt.errors import EXIT_DATA, EXIT_USAGE

SAID = [(1.0, 4.5, "heat the pan"), (5.0, 9.25, "add oil")]
VIDEOS = {"food/video_a/aaa-1": SAID, "food/video_b/bbb_2": [(0.5, 3.0, "stir")]}


def run(output: Path, *arguments: object) -> int:
    return ingest([f"--output_dir={output}", "--workers=1", *map(str, arguments)])


def stored(folder: Path, split: str) -> dict[str, records.ClipRecord]:
    shards = cards.read(folder / "card.yaml").shards(split)
    found = (records.decode(record) for shard in shards for record in records.read_shard(shard))
    return {made.source: made for made in found}


def failures(folder: Path) -> dict[str, str]:
    with (folder / "failures.csv").open(newline="") as file:
        return {row["path"]: row["reason"] for row in csv.DictReader(file)}


def of_videos(root: Path, output: Path, *arguments: object) -> int:
    given = ["--input", root / "caption.json", "--list", root / "videos.csv"]
    return run(output, "--format=feature_files", f"--media_root={root}", *given, *arguments)


# Files of videos ---------------------------------------------------------------------------------


def test_files_of_videos_become_whole_records_with_their_captions(tmp_path):
    root = feature_sets.write_videos(tmp_path / "howto", VIDEOS)
    assert of_videos(root, tmp_path / "set") == 0
    card = cards.read(tmp_path / "set" / "card.yaml")
    about = {name: (one.width, one.rate) for name, one in card.features.items()}
    assert about == {"logmel": (40, 100), "resnet152": (6, 1), "resnext101": (5, 1.5)}
    assert card.audio.feature == "logmel" and card.audio.sample_rate == 16_000
    found = stored(tmp_path / "set", "train")
    assert found.keys() == VIDEOS.keys()
    made = found["food/video_a/aaa-1"]
    np.testing.assert_array_equal(made.features["resnext101"], feature_sets.values(90, 5, 0))
    np.testing.assert_array_equal(made.features["logmel"], feature_sets.decibels(6000, 0).T)
    assert made.captions == SAID and (made.start, made.end) == (0, 60)


def test_the_other_names_of_files_and_none_in_front_of_a_path_are_known(tmp_path):
    root = feature_sets.write_videos(tmp_path / "howto", VIDEOS)
    folder = root / "features" / "food" / "video_b"
    (folder / "bbb_2" / "bbb_2_2d.npz").rename(folder / "bbb_2_2d.npz")
    (folder / "bbb_2" / "bbb_2_3d.npz").rename(folder / "bbb_2" / "bbb_2.npz")
    (root / "videos.csv").write_text("path,other\nNone/food/video_b/bbb_2,1\n")
    assert of_videos(root, tmp_path / "set") == 0
    made = stored(tmp_path / "set", "train")["food/video_b/bbb_2"]
    np.testing.assert_array_equal(made.features["resnet152"], feature_sets.values(60, 6, 1))


@pytest.mark.parametrize("arrays", [False, True])
def test_captions_may_be_a_pickle(tmp_path, arrays):
    root = feature_sets.write_videos(tmp_path / "howto", VIDEOS)
    told = json.loads((root / "caption.json").read_text())
    for video in told.values() if arrays else ():
        video |= {key: np.array(video[key]) for key in ("start", "end")}
    (root / "caption.pickle").write_bytes(pickle.dumps(told))
    given = ["--input", root / "caption.pickle", "--list", root / "videos.csv"]
    kinds = ["--feature=s3d=features:3d", "--feature_rate=s3d=1"]
    assert run(tmp_path / "set", *given, f"--media_root={root}", *kinds) == 0
    made = stored(tmp_path / "set", "train")["food/video_a/aaa-1"]
    assert made.captions == SAID and list(made.features) == ["s3d"]
    assert cards.read(tmp_path / "set" / "card.yaml").features["s3d"].rate == 1


def test_videos_that_lack_something_are_counted_and_listed(tmp_path):
    root = feature_sets.write_videos(tmp_path / "howto", VIDEOS)
    (root / "audio_features/food/video_b/bbb_2/bbb_2_spec.npz").unlink()
    with (root / "videos.csv").open("a") as file:
        file.write("food/video_c/ccc\n")
    assert of_videos(root, tmp_path / "set") == EXIT_DATA
    told = failures(tmp_path / "set")
    assert told["food/video_b/bbb_2"].startswith("no logmel: there is no audio_features/food")
    assert "no captions in" in told["food/video_c/ccc"]
    assert list(stored(tmp_path / "set", "train")) == ["food/video_a/aaa-1"]


def test_a_folder_of_features_that_is_not_there_is_told(tmp_path, capsys):
    root = feature_sets.write_videos(tmp_path / "howto", VIDEOS)
    assert of_videos(root, tmp_path / "set", "--feature=clip=feature:2d") == EXIT_DATA
    assert "Did you mean 'features'?" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["--list", "--media_root"])
def test_what_is_needed_beside_the_captions_is_asked_for(tmp_path, capsys, missing):
    root = feature_sets.write_videos(tmp_path / "howto", VIDEOS)
    given = {"--list": root / "videos.csv", "--media_root": root}
    rest = [f"{name}={value}" for name, value in given.items() if name != missing]
    told = run(tmp_path / "s", "--format=feature_files", "--input", root / "caption.json", *rest)
    assert told == EXIT_USAGE and f"{missing}: features in files need" in capsys.readouterr().err


def test_a_file_of_another_width_costs_its_video(tmp_path):
    root = feature_sets.write_videos(tmp_path / "howto", VIDEOS)
    file = root / "features/food/video_b/bbb_2/bbb_2_2d.npz"
    np.savez(file, features=feature_sets.values(60, 7, 0))
    assert of_videos(root, tmp_path / "set") == EXIT_DATA
    assert "vectors of 7 values, but 6" in failures(tmp_path / "set")["food/video_b/bbb_2"]


def test_features_of_unequal_length_are_told(tmp_path):
    root = feature_sets.write_videos(tmp_path / "howto", VIDEOS)
    file = root / "features/food/video_b/bbb_2/bbb_2_2d.npz"
    np.savez(file, features=feature_sets.values(40, 6, 0))
    assert of_videos(root, tmp_path / "set") == 0
    with (tmp_path / "set" / "notices.csv").open(newline="") as table:
        (told,) = csv.DictReader(table)
    assert (told["path"], told["kind"]) == ("food/video_b/bbb_2", "features of unequal length")
    assert told["detail"] == "logmel 60.0 s, resnet152 40.0 s, resnext101 60.0 s"


# Pickles -----------------------------------------------------------------------------------------


def test_a_pickle_becomes_records_called_by_their_ids(tmp_path):
    several = ["one way to say it", "and another"]
    train = [clip(k, caption=several, eval_caption="tested") for k in range(3)]
    write_pickle(tmp_path / "resnet/train.pkl", train)
    write_pickle(tmp_path / "resnet/test.pkl", train[:1])
    inputs = [f"{split}={tmp_path}/resnet/{split}.pkl" for split in ("train", "test")]
    assert run(tmp_path / "set", "--input", *inputs) == 0
    found = stored(tmp_path / "set", "train")
    assert sorted(found) == ["video0", "video1", "video2"]
    assert [text for _, _, text in found["video1"].captions] == several
    np.testing.assert_array_equal(found["video1"].features["resnet152"], train[1]["2d"])
    np.testing.assert_array_equal(found["video1"].features["logmel"], train[1]["audio"].T)
    tested = stored(tmp_path / "set", "test")["video0"]
    assert [text for _, _, text in tested.captions] == ["tested"]


def test_features_over_time_come_before_pooled_ones_and_rows_without_are_left_out(tmp_path):
    full = {"2d_full": feature_sets.values(20, 6, 9), "3d_full": feature_sets.values(30, 5, 9)}
    pooled = {key: x.max(axis=0) for key, x in (("2d", full["2d_full"]), ("3d", full["3d_full"]))}
    clips = [clip(k, **pooled, **full, id=k) for k in range(2)] + [clip(7, id=7)]
    write_pickle(tmp_path / "resnet/val.pkl", clips)
    write_pickle(
        tmp_path / "s3d/val.pkl", [{"s3d": feature_sets.values(20, 7, k)} for k in (0, 1, 2)]
    )
    assert run(tmp_path / "set", "--input", f"test={tmp_path}/resnet/val.pkl") == EXIT_DATA
    assert failures(tmp_path / "set")["7"] == "row 2 has no 2d_full and no 3d_full"
    found = stored(tmp_path / "set", "test")
    assert sorted(found) == ["0", "1"]
    np.testing.assert_array_equal(found["1"].features["s3d"], feature_sets.values(20, 7, 1))
    assert found["1"].features["resnet152"].shape == (20, 6)


def test_a_clip_with_empty_sound_has_none(tmp_path):
    clips = [clip(0), clip(1, audio=np.zeros((40, 0), np.float32))]
    write_pickle(tmp_path / "resnet/test.pkl", clips)
    assert run(tmp_path / "set", "--input", f"test={tmp_path}/resnet/test.pkl") == 0
    assert sorted(stored(tmp_path / "set", "test")["video1"].features) == [
        "resnet152",
        "resnext101",
    ]


def test_other_networks_must_have_as_many_rows(tmp_path, capsys):
    write_pickle(tmp_path / "resnet/test.pkl", [clip(0), clip(1)])
    write_pickle(tmp_path / "clip/test.pkl", [{"clip": feature_sets.values(9, 8, 0)}])
    assert run(tmp_path / "set", "--input", f"test={tmp_path}/resnet/test.pkl") == EXIT_DATA
    told = capsys.readouterr().err
    assert "clip/test.pkl: 1 clips, but" in told and "has 2" in told


class Hostile:
    """What runs a command when it is unpickled."""

    def __reduce__(self):
        import os

        return os.system, ("touch ran",)


@pytest.mark.parametrize("form", ["feature_pickles", "howto100m"])
def test_a_pickle_with_code_is_refused_by_name_and_not_run(tmp_path, monkeypatch, capsys, form):
    monkeypatch.chdir(tmp_path)
    path = write_pickle(tmp_path / "resnet/test.pkl", [clip(0), clip(1, audio=Hostile())])
    root = [f"--media_root={tmp_path}"] if form == "howto100m" else []
    assert run(tmp_path / "set", "--input", path, f"--format={form}", *root) == EXIT_DATA
    told = capsys.readouterr().err
    assert "asks for 'posix.system'" in told and "nothing of it was run" in told
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"a": 1}, "holds a dict, not a list of clips"),
        ([{"id": 1, "caption": "x"}], "no features over time"),
        ([clip(0, caption=5)], "'caption' is 5, not text"),
        ([clip(0, **{"2d": np.zeros(6)})], "'2d' is [6], not two axes of numbers"),
    ],
)
def test_another_content_is_told(tmp_path, capsys, content, told):
    path = tmp_path / "resnet" / "test.pkl"
    path.parent.mkdir()
    path.write_bytes(pickle.dumps(content))
    assert run(tmp_path / "set", "--input", path) == EXIT_DATA
    assert told in capsys.readouterr().err


def test_a_changed_pickle_is_read_again(tmp_path):
    path = write_pickle(tmp_path / "resnet/test.pkl", [clip(0)])
    assert run(tmp_path / "set", "--input", f"test={path}") == 0
    write_pickle(path, [clip(0, caption="quite another one")])
    assert run(tmp_path / "set", "--input", f"test={path}") == 0
    (made,) = stored(tmp_path / "set", "test").values()
    assert made.captions[0][2] == "quite another one"
