"""Extracted features: from side files through ingest and shards to tensors, exactly."""

from __future__ import annotations

import csv
import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml
from media_files import grey_frames, write

from vatt.data import cards, clips, framing, records
from vatt.data.check.command import main as check
from vatt.data.check.splits import check_splits
from vatt.data.features import RECORD
from vatt.data.ingest import features
from vatt.data.ingest.command import main as ingest
from vatt.data.ingest.manifest import read_manifest
from vatt.errors import DataError, UserError


def vectors(steps: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(steps, width)).astype(np.float32)


def card(**fields) -> cards.Card:
    about = {"resnet152": {"width": 5, "rate": 1.0}}
    return cards.Card.model_validate({"name": "x", "features": about} | fields)


def parsed(record: bytes, of: cards.Card) -> dict[str, np.ndarray]:
    @tf.function(autograph=False)
    def parse(data: tf.Tensor) -> dict[str, tf.Tensor]:
        schema = RECORD.renamed(of.fields)
        found = clips.parse(data, schema, of.record_type, of.feature_widths)
        return dict(found.features)

    return {name: value.numpy() for name, value in parse(tf.constant(record)).items()}


def table(folder: Path, *rows: tuple[str, ...]) -> str:
    with (folder / "clips.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return str(folder / "clips.csv")


def stored(folder: Path, split: str = "train") -> dict[tuple[str, float], records.ClipRecord]:
    found = [
        records.decode(record)
        for shard in sorted(folder.glob(f"{split}-*.tfrecord"))
        for record in records.read_shard(shard)
    ]
    return {(clip.source, clip.start): clip for clip in found}


def failures(folder: Path) -> list[dict[str, str]]:
    with (folder / "failures.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# Records -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_features_come_back_exactly(tmp_path, seed):
    rng = np.random.default_rng(seed)
    about = {
        f"f{k}": {"width": int(rng.integers(1, 300)), "rate": float(rng.uniform(0.5, 100))}
        for k in range(rng.integers(1, 4))
    }
    given = []
    for number in range(5):
        own = [name for name in about if rng.random() < 0.8]
        # Every bit pattern of a finite number: also denormal ones and -0.
        bits = {name: rng.integers(0, 2**32, (int(rng.integers(1, 40)), about[name]["width"]))
                for name in own}  # fmt: skip
        arrays = {name: value.astype(np.uint32).view(np.float32) for name, value in bits.items()}
        arrays = {name: np.where(np.isfinite(a), a, np.float32(-0.0)) for name, a in arrays.items()}
        given.append(records.ClipRecord(f"{number}.npz", features=arrays))
    path = tmp_path / "train-00000-of-00001.tfrecord"
    with records.ShardWriter(path) as shard:
        for clip in given:
            shard.write(records.encode(clip))
    for clip, record in zip(given, framing.walk(path), strict=True):
        back, fault = records.examine(record.data, card(features=about))
        assert fault == ""
        assert list(back.features) == sorted(clip.features)
        read = parsed(record.data, card(features=about))
        for name in about:
            expected = clip.features.get(name, np.zeros([0, about[name]["width"]], np.float32))
            assert read[name].dtype == np.float32
            assert read[name].shape == expected.shape
            assert read[name].tobytes() == expected.tobytes()
            if name in clip.features:
                assert back.features[name].tobytes() == expected.tobytes()


def test_a_record_without_features_has_the_bytes_it_always_had():
    clip = records.ClipRecord("a.mp4", end=1.0, waveform=vectors(1, 9)[0], sample_rate=9)
    example = tf.train.SequenceExample.FromString(records.encode(clip))
    assert sorted(example.feature_lists.feature_list) == ["waveform/floats"]
    with_it = records.ClipRecord("a.mp4", end=1.0, waveform=clip.waveform, sample_rate=9,
                                 features={"x": vectors(2, 3)})  # fmt: skip
    example = tf.train.SequenceExample.FromString(records.encode(with_it))
    del example.feature_lists.feature_list["feature/x"]
    assert example.SerializeToString(deterministic=True) == records.encode(clip)


def test_features_that_are_not_asked_for_are_not_read():
    clip = records.ClipRecord("a.npz", features={"a": vectors(2, 3), "b": np.float32([[np.nan]])})
    record = records.encode(clip)
    assert clips.parse(tf.constant(record)).features == {}
    read = parsed(record, card(features={"a": {"width": 3, "rate": 1}}))
    np.testing.assert_array_equal(read["a"], clip.features["a"])
    assert list(read) == ["a"]


def test_lists_of_others_are_found_by_their_beginning():
    example = tf.train.SequenceExample()
    step = example.feature_lists.feature_list["VISUAL/resnet152"].feature.add()
    step.float_list.value.extend([1, 2, 3, 4, 5])
    of = card(fields={"feature": "VISUAL/"})
    data = example.SerializeToString()
    np.testing.assert_array_equal(parsed(data, of)["resnet152"], [[1, 2, 3, 4, 5]])
    clip, fault = records.examine(data, of)
    assert (list(clip.features), fault) == (["resnet152"], "")


def broken(*steps: list[float]) -> bytes:
    example = tf.train.SequenceExample()
    for values in steps:
        step = example.feature_lists.feature_list["feature/resnet152"].feature.add()
        step.float_list.value.extend(values)
    return example.SerializeToString()


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (broken([1.0] * 4), "feature 'resnet152': 4 values per vector, but the card says 5"),
        (broken([1.0] * 5, [1, 2, np.inf, 4, 5]), "feature 'resnet152': vector 1 is not finite"),
        (broken([1.0] * 5, [np.nan] * 5), "feature 'resnet152': vector 1 is not finite"),
        (
            broken([1.0] * 5, [1.0] * 4),
            "'feature/resnet152': vector 1 has 4 values, vector 0 has 5",
        ),
        (broken([], []), "feature 'resnet152': 0 values per vector, but the card says 5"),
    ],
)
def test_a_record_is_bad_for_the_graph_and_for_the_list_alike(record, reason):
    assert records.diagnose(record, card()) == reason
    with pytest.raises(tf.errors.InvalidArgumentError):
        parsed(record, card())


def test_cards_say_what_features_there_are(tmp_path):
    about = {"resnet152": {"width": 2048, "rate": 1.0}, "mel40": {"width": 40, "rate": 100.0}}
    cards.write(card(features=about), tmp_path)
    assert yaml.safe_load((tmp_path / "card.yaml").read_text())["features"] == about
    read = cards.read(tmp_path / "card.yaml")
    assert read.feature_widths == {"resnet152": 2048, "mel40": 40}
    cards.write(card(features={}), tmp_path)
    assert "features" not in (tmp_path / "card.yaml").read_text()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"features": {"a": {"width": 0, "rate": 1}}}, r"features\.a\.width"),
        ({"features": {"a": {"width": 1, "rate": 0}}}, r"features\.a\.rate"),
        ({"features": {"a": {"width": 1}}}, r"features\.a\.rate: Field required"),
        ({"features": {"a b": {"width": 1, "rate": 1}}}, "'a b': letters, digits and _ only"),
        (
            {"features": {"a": {"width": 1, "rate": 1}}, "record_type": "Example"},
            "features need record_type: SequenceExample",
        ),
    ],
)
def test_cards_that_cannot_be(tmp_path, fields, message):
    (tmp_path / "card.yaml").write_text(yaml.safe_dump({"name": "x"} | fields))
    with pytest.raises(DataError, match=message):
        cards.read(tmp_path / "card.yaml")


# Cutting -----------------------------------------------------------------------------------------


def test_a_clip_has_every_vector_of_which_it_has_some_time():
    rng = np.random.default_rng(4)
    for _ in range(500):
        rate = Fraction(int(rng.integers(1, 200)), int(rng.choice([1, 2, 3, 4])))
        steps = int(rng.integers(1, 400))
        start = Fraction(int(rng.integers(0, 1000)), 100)
        end = start + Fraction(int(rng.integers(1, 1000)), 100)
        expected = [k for k in range(steps) if k / rate < end and (k + 1) / rate > start]
        numbers = np.arange(steps)[:, np.newaxis]
        found = features.cut(numbers, float(rate), float(start), float(end))
        assert found[:, 0].tolist() == expected, (rate, start, end)


# Ingest ------------------------------------------------------------------------------------------


def test_features_beside_videos(tmp_path, capsys):
    media = tmp_path / "media"
    media.mkdir()
    write(media / "a.mp4", grey_frames([60] * 40), fps=10)
    write(media / "b.mp4", grey_frames([90] * 20), fps=10)
    a, b = vectors(4, 6, 1), vectors(2, 6, 2).astype(np.float16)
    mel = vectors(400, 3, 3).astype(np.float64)
    np.save(media / "a.npy", a)
    np.savez_compressed(media / "b.npz", other=np.zeros(3), features=b)
    np.savez(media / "mel.npz", mel)  # without a name: arr_0
    source = table(
        media,
        ("path", "start", "end", "feature/resnet", "feature/mel"),
        ("a.mp4", "1", "2.5", "a.npy", "mel.npz"),
        ("a.mp4", "3", "", "a.npy", ""),
        ("b.mp4", "", "", "b.npz", ""),
    )
    out = tmp_path / "mine"
    command = ["--input", source, "--output_dir", str(out), "--min_side", "16", "--workers", "1"]
    rates = ["--feature_rate", "resnet=1", "--feature_rate", "mel=100"]
    assert ingest([*command, *rates]) == 0
    assert "1 with mel, 3 with resnet" in capsys.readouterr().out
    found = stored(out)
    one, two, whole = (found["a.mp4", 1.0], found["a.mp4", 3.0], found["b.mp4", 0.0])
    assert all(clip.frames for clip in (one, two, whole))
    np.testing.assert_array_equal(one.features["resnet"], a[1:3])
    np.testing.assert_array_equal(one.features["mel"], mel[100:250].astype(np.float32))
    np.testing.assert_array_equal(two.features["resnet"], a[3:])
    np.testing.assert_array_equal(whole.features["resnet"], b.astype(np.float32))
    assert list(two.features) == list(whole.features) == ["resnet"]
    known = cards.read(out / "card.yaml")
    assert known.features["resnet"] == cards.FeatureInfo(width=6, rate=1)
    assert known.features["mel"] == cards.FeatureInfo(width=3, rate=100)
    counted = json.loads((out / "manifest.json").read_text())["splits"]["train"]["features"]
    assert counted == {
        "mel": {"width": 3, "records": 1, "vectors": 150, "rate": 100.0},
        "resnet": {"width": 6, "records": 3, "vectors": 5, "rate": 1.0},
    }
    page = (out / "dataset.html").read_text()
    assert "mel: 100 vectors per second of 3 values" in page
    assert ">without mel</th>" in page
    assert "resnet: 6 values, 1 per second" in page
    report = check_splits(known, workers=1)
    assert report.fine
    assert report.splits["train"]["features"]["resnet"]["vectors"] == 5
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert ingest([*command, *rates]) == 0  # nothing is made again
    after = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    del before["ingest.log"], after["ingest.log"]
    assert before == after


def features_only(folder: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """A table of five videos of which there are features and captions only."""
    folder.mkdir()
    arrays, rows = {}, [("feature/clip", "caption", "split", "feature/s3d")]
    for number in range(5):
        arrays[f"clip/{number}.npy"] = vectors(number + 2, 4, number)
        arrays[f"s3d/{number}.npz"] = vectors(2 * number + 3, 7, number)
        split = "test" if number == 4 else "train"
        rows.append((f"clip/{number}.npy", f"video {number}", split, f"s3d/{number}.npz"))
    for name, array in arrays.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (np.save if name.endswith("npy") else np.savez)(folder / name, array)
    rates = ["--feature_rate", "clip=1", "--feature_rate", "s3d=1.5"]
    return ["--input", table(folder, *rows), *rates, "--workers", "1"], arrays


def test_a_set_of_features_without_media(tmp_path, capsys):
    command, arrays = features_only(tmp_path / "media")
    out = tmp_path / "mine"
    assert ingest([*command, "--output_dir", str(out)]) == 0
    known = cards.read(out / "card.yaml")
    assert (known.video, known.audio, known.text.captions) == (None, None, True)
    assert known.tasks == ["pretrain", "retrieval"]
    assert {name: (f.width, f.rate) for name, f in known.features.items()} == {
        "clip": (4, 1.0),
        "s3d": (7, 1.5),
    }
    found = stored(out) | stored(out, "test")
    assert len(found) == 5
    for number in range(5):
        clip = found[f"clip/{number}.npy", 0.0]
        np.testing.assert_array_equal(clip.features["clip"], arrays[f"clip/{number}.npy"])
        np.testing.assert_array_equal(clip.features["s3d"], arrays[f"s3d/{number}.npz"])
        longest = max(number + 2, (2 * number + 3) / 1.5)
        assert clip.captions == [(0.0, np.float32(longest), f"video {number}")]
        assert (clip.end, clip.frames, clip.waveform) == (np.float32(longest), None, None)
    capsys.readouterr()
    assert check([str(out), "--workers", "1"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"train +4 +4 +0 +0 +0 +4 +0 +4 +4 ", shown)
    head = "split records usable bad video audio text labels clip s3d hours"
    assert shown.splitlines()[1].split() == head.split()
    for shard in known.shards("train"):
        read = [parsed(record, known) for record in records.read_shard(shard)]
        assert [r["clip"].shape[1] for r in read] == [4] * 4


def test_the_order_of_rows_changes_no_byte(tmp_path):
    command, _ = features_only(tmp_path / "media")
    assert ingest([*command, "--output_dir", str(tmp_path / "one")]) == 0
    path = tmp_path / "media" / "clips.csv"
    head, *rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join([head, *reversed(rows)]))
    assert ingest([*command, "--output_dir", str(tmp_path / "two")]) == 0
    one, two = (
        {file.name: file.read_bytes() for file in (tmp_path / name).glob("*.tfrecord")}
        for name in ("one", "two")
    )
    assert one == two


def test_shards_are_made_again_when_their_features_change(tmp_path):
    command, arrays = features_only(tmp_path / "media")
    out = tmp_path / "mine"
    command += ["--output_dir", str(out)]

    def made(*, rate: float = 1.5) -> set[str]:
        """The splits whose shards a run makes."""
        before = {file.name: file.stat().st_mtime_ns for file in out.glob("*.tfrecord")}
        asked = [f"s3d={rate}" if part == "s3d=1.5" else part for part in command]
        assert ingest(asked) == 0
        after = {file.name: file.stat().st_mtime_ns for file in out.glob("*.tfrecord")}
        return {name.partition("-")[0] for name in after if after[name] != before.get(name)}

    assert made() == {"test", "train"}
    assert made() == set()
    changed = arrays["s3d/4.npz"] + 1
    np.savez(tmp_path / "media" / "s3d" / "4.npz", changed)
    assert made() == {"test"}
    np.testing.assert_array_equal(stored(out, "test")["clip/4.npy", 0.0].features["s3d"], changed)
    assert made(rate=3) == {"test", "train"}
    assert stored(out, "test")["clip/4.npy", 0.0].end == 6.0  # of the other features


def test_splits_that_are_added_must_have_the_same_features(tmp_path, capsys):
    command, _ = features_only(tmp_path / "media")
    out = tmp_path / "mine"
    assert ingest([*command, "--output_dir", str(out)]) == 0
    np.save(tmp_path / "media" / "new.npy", vectors(3, 9))
    source = table(tmp_path / "media", ("feature/clip", "split"), ("new.npy", "valid"))
    again = ["--input", source, "--output_dir", str(out), "--workers", "1"]
    capsys.readouterr()
    assert ingest([*again, "--feature_rate", "clip=1"]) == 3
    assert (
        "whose feature/clip has 4 values per vector, 1 vectors per second, not 9 and 1"
        in capsys.readouterr().err
    )
    np.save(tmp_path / "media" / "new.npy", vectors(3, 4))
    assert ingest([*again, "--feature_rate", "clip=1"]) == 0
    known = cards.read(out / "card.yaml")
    assert sorted(known.splits) == ["test", "train", "valid"]
    assert known.features["s3d"].rate == 1.5  # of the splits that are there


def test_every_file_that_cannot_be_used_is_named(tmp_path, capsys):
    media = tmp_path / "media"
    media.mkdir()
    good = vectors(10, 4)
    np.save(media / "1good.npy", good)
    np.save(media / "wide.npy", vectors(10, 5))
    nan = good.copy()
    nan[7, 2] = np.nan
    np.save(media / "nan.npy", nan)
    np.save(media / "large.npy", good.astype(np.float64) * 1e300)
    np.save(media / "flat.npy", good[0])
    np.save(media / "words.npy", np.array([["a"]]))
    np.save(media / "none.npy", good[:0])
    np.save(media / "narrow.npy", good[:, :0])
    np.save(media / "objects.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.savez(media / "keys.npz", feature=good, more=good)
    (media / "text.npy").write_text("no array")
    (media / "empty.npy").write_bytes(b"")
    (media / "cut.npy").write_bytes((media / "1good.npy").read_bytes()[:150])
    (media / "vectors.csv").write_text("1,2")
    np.save(tmp_path / "outside.npy", good)
    reasons = {
        "wide.npy": "vectors of 5 values, but 4 in 1good.npy",
        "nan.npy": "vector 7 (from 0) is not finite",
        "large.npy": "vector 5 (from 0) is not finite",
        "flat.npy": "has the shape [4], not [steps, width]",
        "words.npy": "holds values of type <U1, not real numbers",
        "none.npy": "there is no vector in it",
        "narrow.npy": "has the shape [10, 0], not [steps, width]",
        "objects.npy": "holds objects, not numbers",
        "keys.npz": "it has the keys feature, more; needed: features, or one key only. Did you "
        "mean 'feature'?",
        "text.npy": "cannot be read as features",
        "empty.npy": "cannot be read as features",
        "cut.npy": "cannot be read as features",
        "vectors.csv": "features must be one of .npy, .npz, not '.csv'",
        "gone.npy": "there is no such file of features",
        "../outside.npy": "leads out of",
        "http://a/b.npy": "not a path of a local file",
    }
    rows = [(name, "5", "8") for name in ["1good.npy", *reasons]]
    late = ("1good.npy", "20", "25")
    source = table(media, ("feature/x", "start", "end"), *rows, late)
    out = tmp_path / "mine"
    command = ["--input", source, "--output_dir", str(out), "--workers", "1"]
    assert ingest([*command, "--feature_rate", "x=1"]) == 3
    assert list(stored(out)) == [("1good.npy", 5.0)]
    found = {row["path"]: row["reason"] for row in failures(out)}
    assert found.pop("1good.npy") == (
        "feature/x: 1good.npy: its 10 vectors, 1 per second, end at 10.00 s, before the clip "
        "begins (20.00 s)"
    )
    assert sorted(found) == sorted(reasons)
    for name, reason in reasons.items():
        assert found[name].startswith(f"feature/x: {name}: "), found[name]
        assert reason in found[name], found[name]


def test_rates_are_asked_for(tmp_path):
    command, _ = features_only(tmp_path / "media")
    rows, root = read_manifest(command[1]), tmp_path / "media"
    with pytest.raises(
        UserError, match=r"feature/s3d: its rate is not known; .*--feature_rate s3d"
    ):
        features.plan(rows, {"clip": 1.0}, root)
    with pytest.raises(UserError, match=r"'s3' is no feature .*: clip, s3d. Did you mean 's3d'\?"):
        features.plan(rows, {"clip": 1.0, "s3d": 1.5, "s3": 1.0}, root)
    kinds = features.plan(rows, {"clip": 1.0, "s3d": 1.5}, root)
    assert kinds == (
        features.Kind("clip", 1.0, 4, "clip/0.npy"),
        features.Kind("s3d", 1.5, 7, "s3d/0.npz"),
    )


@pytest.mark.parametrize("rate", ["s3d", "=1", "s 3=1", "s3d=", "s3d=0", "s3d=-1", "s3d=nan"])
def test_rates_that_are_none(tmp_path, capsys, rate):
    with pytest.raises(SystemExit):
        ingest(["--input", "x.csv", "--output_dir", str(tmp_path), "--feature_rate", rate])
    assert "--feature_rate: " in capsys.readouterr().err


def test_two_rates_of_one_name(tmp_path, capsys):
    command = ["--input", "x.csv", "--output_dir", str(tmp_path), "--feature_rate", "s3d=1"]
    with pytest.raises(SystemExit):
        ingest([*command, "--feature_rate", "s3d=1.5"])
    assert "--feature_rate: 's3d' has the rates 1 and 1.5" in capsys.readouterr().err


def test_rates_are_for_tables_only(tmp_path, capsys):
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "a.mp4").write_bytes(b"")
    command = ["--input", str(tmp_path / "media"), "--output_dir", str(tmp_path / "out")]
    assert ingest([*command, "--feature_rate", "x=1"]) == 2
    assert "--feature_rate has no meaning for --format folder" in capsys.readouterr().err


def test_columns_that_cannot_be(tmp_path):
    rows = [("feature/a b", "caption"), ("a.npy", "x")]
    with pytest.raises(DataError, match="'feature/a b': the name of a feature is letters"):
        read_manifest(table(tmp_path, *rows))
    rows = [("path", "features/s3d"), ("a.mp4", "a.npy")]
    with pytest.raises(DataError, match=r"'features/s3d' is unknown.*Did you mean 'feature/s3d'\?"):
        read_manifest(table(tmp_path, *rows))
    rows = [("feature/s3d", "caption"), ("", "x")]
    with pytest.raises(DataError, match="line 2: path is empty"):
        read_manifest(table(tmp_path, *rows))


def test_json_lines_name_features_too(tmp_path):
    path = tmp_path / "clips.jsonl"
    path.write_text(json.dumps({"feature/b": "b.npy", "feature/a": "a.npz", "start": 1}))
    (row,) = read_manifest(path)
    assert row.features == (("a", "a.npz"), ("b", "b.npy"))
    assert (row.source, row.start, row.files) == ("a.npz", 1.0, ["a.npz", "b.npy"])


def test_several_tables_keep_their_folders(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        np.save(tmp_path / split / "a.npy", vectors(3, 2, len(split)))
        table(tmp_path / split, ("feature/x",), ("a.npy",))
    out = tmp_path / "mine"
    inputs = [f"{split}={tmp_path / split / 'clips.csv'}" for split in ("train", "test")]
    command = ["--input", *inputs, "--output_dir", str(out), "--workers", "1"]
    assert ingest([*command, "--feature_rate", "x=1"]) == 0
    for split in ("train", "test"):
        (clip,) = stored(out, split).values()
        assert clip.source == f"{split}/a.npy"
        np.testing.assert_array_equal(clip.features["x"], vectors(3, 2, len(split)))


# Check -------------------------------------------------------------------------------------------


def test_check_compares_records_with_the_card(tmp_path, capsys):
    command, _ = features_only(tmp_path / "media")
    out = tmp_path / "mine"
    assert ingest([*command, "--output_dir", str(out)]) == 0
    content = yaml.safe_load((out / "card.yaml").read_text())
    content["features"] = {"s3d": {"width": 8, "rate": 1.5}, "clp": {"width": 4, "rate": 1.0}}
    (out / "card.yaml").write_text(yaml.safe_dump(content))
    report = check_splits(cards.read(out / "card.yaml"), workers=1)
    assert len(report.bad) == 5
    assert report.bad[0][-1] == "feature 's3d': 7 values per vector, but the card says 8"
    content["features"]["s3d"]["width"] = 7
    (out / "card.yaml").write_text(yaml.safe_dump(content))
    report = check_splits(cards.read(out / "card.yaml"), ["train"], workers=1)
    assert report.bad == []
    assert report.notes == [
        "split 'train': the card has clp, but no record has",
        "split 'train': 4 records have clip, of which the card says nothing. Did you mean 'clp'?",
    ]
