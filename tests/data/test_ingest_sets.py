"""What is easily taken for something else in a set: splits, classes, tables, files of one name."""

from __future__ import annotations

import csv
import hashlib
import json
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from media_files import tone, write

from vatt.data import cards, records
from vatt.data.ingest import classes, overlap, sources
from vatt.data.ingest import command as ingest
from vatt.data.ingest.manifest import Row
from vatt.data.ingest.sources import Listing, Options
from vatt.errors import DataError

HEAD = "path,start,end,split,label\n"


@pytest.fixture(scope="session")
def sounds(tmp_path_factory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("sounds")
    options = {"rate": 8000, "audio_codec": "pcm_s16le"}
    return [
        write(folder / f"{k}.wav", sound=tone(300 + 50 * k, 0.5, 8000), **options).read_bytes()
        for k in range(12)
    ]


def plant(root: Path, names: list[str], content: list[bytes] | None = None) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content[number % len(content)] if content else b"")
    return root


def listing(*inputs: Path | str, form: str = "auto", **options: object) -> Listing:
    return sources.read([str(path) for path in inputs], form, Options(**options))


def told(of: Listing) -> dict[str, list[tuple[str, str]]]:
    """Notices by kind: what they are of, and the detail."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path, _, _, kind, detail in of.notices:
        found.setdefault(kind, []).append((path, detail))
    return found


def run(output: Path, *options: object) -> int:
    order = ["--sample_rate=8000", "--workers=1", f"--output_dir={output}", *map(str, options)]
    return ingest.main(order)


def stored(output: Path) -> dict[str, list[str]]:
    """Sources by split, read from the shards."""
    card = cards.read(output / "card.yaml")
    return {
        split: sorted(
            records.decode(record).source
            for shard in card.shards(split)
            for record in records.read_shard(shard)
        )
        for split in card.splits
    }


# Drawn splits ------------------------------------------------------------------------------------


def _test(root: Path, **options: object) -> set[str]:
    return {row.path for row in listing(root, **options).rows if row.split == "test"}


def test_every_class_gives_its_share_to_the_test_split(tmp_path):
    sizes = {"ant": 40, "bee": 23, "cow": 5, "dog": 2, "emu": 1}
    names = [f"{name}/{k:02}.wav" for name, size in sizes.items() for k in range(size)]
    found = listing(plant(tmp_path, names), test_share=0.2)
    drawn = {row.path for row in found.rows if row.split == "test"}
    counts = Counter(name.split("/")[0] for name in drawn)
    assert counts == {"ant": 8, "bee": 5, "cow": 1, "dog": 1}  # 0.2 of each, one where that is less
    assert told(found)["classes without a file in the split test"] == [("emu", "1 in all")]
    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in names}
    assert max(hashes[n] for n in drawn if n < "b") < min(
        hashes[n] for n in names if n < "b" and n not in drawn
    )


def test_a_file_that_comes_moves_at_most_one_other_of_its_class(tmp_path):
    names = [f"{name}/{k:02}.wav" for name in ("ant", "bee") for k in range(9)]
    root, moved = plant(tmp_path, names), []
    for number in range(30):
        before = _test(root, test_share=0.3)
        new = f"bee/new{number}.wav"
        plant(root, [new])
        after = _test(root, test_share=0.3)
        others = (before ^ after) - {new}
        assert all(name.startswith("bee/") for name in others)
        assert len(after) - len(before) in (0, 1)
        moved.append(len(others))
    assert max(moved) == 1


@pytest.mark.parametrize("folder", ["", "bee/"])
def test_files_that_differ_in_their_ending_are_drawn_together(tmp_path, folder):
    names = [f"{folder}{k:02}.cut.mp4" for k in range(40)]
    alone = _test(plant(tmp_path / "alone", names), test_share=0.3)
    assert 0 < len(alone) < 40
    plant(tmp_path / "both", [*names, *(name.replace(".mp4", ".WAV") for name in names)])
    found = listing(tmp_path / "both", test_share=0.3)
    drawn = {row.path for row in found.rows if row.split == "test"}
    assert drawn == alone | {name.replace(".mp4", ".WAV") for name in alone}
    hashes = {name: int(hashlib.sha256(name.encode()).hexdigest()[:16], 16) for name in names}
    lowest = sorted(names, key=hashes.__getitem__)[: len(alone)]  # as before there were two of each
    assert alone == set(lowest)
    assert len(alone) == (12 if folder else sum(k < 0.3 * 2**64 for k in hashes.values()))


def test_files_that_differ_in_their_ending_in_two_splits_are_told(tmp_path):
    rows = ["a.mp4,,,train,", "a.wav,,,test,", "b.mp4,,,train,", "x/b.mp4,,,test,"]
    rows += ["c.mp4,,,train_1,", "c.wav,,,test_2,", "d.mp4,,,train;test,", "d.wav,,,test,"]
    rows += ["e.001,,,train,", "e.002,,,test,", "f.mp4,,,train,"]
    (tmp_path / "m.csv").write_text(HEAD + "\n".join(rows))
    found = listing(tmp_path / "m.csv")
    earlier = {"split": "test", "root": str(tmp_path), "files": ["f.m4a", "g.m4a"], "records": 2}
    overlap.tell(found, [earlier], tmp_path)
    assert told(found) == {
        "files with clips in several splits": [("d.mp4", "test, train")],
        "files that differ in their ending alone, in several splits": [
            ("a.mp4", "a.mp4: train; a.wav: test"),
            ("f.mp4", "f.mp4: train; f.m4a: test"),
        ],
    }


def test_a_drawn_split_is_made_anew_or_kept_but_not_mixed(sounds, tmp_path, capsys):
    media = plant(tmp_path / "media", [f"{'ab'[k % 2]}/{k}.wav" for k in range(8)], sounds)
    output = tmp_path / "set"
    assert run(output, "--input", media, "--test_share=0.25") == 0
    first = stored(output)
    assert {split: len(names) for split, names in first.items()} == {"train": 6, "test": 2}
    files = {path: path.read_bytes() for path in output.glob("*.tfrecord")}
    for again in (["--input", media], ["--input", f"train={media}"]):
        assert run(output, *again) == 3
        error = capsys.readouterr().err
        assert "would make 'train' anew beside the old 'test'" in error
        assert "--test_share" in error
    assert {path: path.read_bytes() for path in output.glob("*.tfrecord")} == files
    assert run(output, "--input", media, "--test_share=0.25") == 0  # the same is kept
    assert stored(output) == first
    assert run(output, "--input", media, "--test_share=0.5") == 0  # another one replaces both
    second = stored(output)
    assert {split: len(names) for split, names in second.items()} == {"train": 4, "test": 4}
    assert sorted(second["train"] + second["test"]) == sorted(first["train"] + first["test"])
    # A split of another name may be added, with a notice where it shares files.
    assert run(output, "--input", f"late={media}") == 0
    assert "files with clips in several splits: 8" in capsys.readouterr().out
    with (output / "notices.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"].startswith("files with clips")]
    shared = {row["path"]: row["detail"] for row in rows}
    assert shared == {
        name: f"late, {split}" for split in ("train", "test") for name in second[split]
    }


def test_drawing_none_removes_the_old_test_split(sounds, tmp_path):
    media, output = (
        plant(tmp_path / "media", [f"{k}.wav" for k in range(6)], sounds),
        tmp_path / "s",
    )
    assert run(output, "--input", media, "--test_share=1") == 0
    assert list(stored(output)) == ["test"]
    assert run(output, "--input", media, "--test_share=1e-9") == 0
    assert {split: len(names) for split, names in stored(output).items()} == {"train": 6}


def test_clips_of_another_folder_are_replaced_with_a_word(sounds, tmp_path, capsys):
    one, two = (
        plant(tmp_path / name, [f"{name}{k}.wav" for k in range(3)], sounds) for name in "xy"
    )
    assert run(tmp_path / "set", "--input", one) == 0
    assert "replaced" not in capsys.readouterr().out
    assert run(tmp_path / "set", "--input", two) == 0
    said = f"replaced: 3 clips that an earlier command took from {one.resolve()}"
    assert said in capsys.readouterr().out
    assert stored(tmp_path / "set") == {"train": ["y0.wav", "y1.wav", "y2.wav"]}


def test_files_shared_with_a_set_from_before_are_noticed_too(sounds, tmp_path, capsys):
    """What an earlier version left does not say which files its shards hold."""
    media = plant(tmp_path / "media", ["test/a.wav", "train/b.wav"], sounds)
    assert run(tmp_path / "set", "--input", media) == 0
    for state in (tmp_path / "set/.shards").glob("*.tfrecord.json"):
        known = json.loads(state.read_text())
        del known["files"], known["root"]
        state.write_text(json.dumps(known))
    table = media / "more.csv"
    table.write_text(HEAD + "test/a.wav,,,train,\ntrain/b.wav,,,train,\n")
    assert run(tmp_path / "set", "--manifest", table) == 0
    assert "files with clips in several splits: 1 (test/a.wav: test, train)" in (
        capsys.readouterr().out
    )


# Classes -----------------------------------------------------------------------------------------


def settled(labels: list[str], folder: Path, known: str = "") -> tuple[tuple[str, ...], Listing]:
    of = Listing(folder, [Row(f"{k}.wav", labels=(name,)) for k, name in enumerate(labels)])
    given = None
    if known:
        given = folder / "names.txt"
        given.write_text(known, encoding="utf-8")
    return classes.settle(of, given, folder), of


def test_classes_of_two_unicode_forms_are_one(tmp_path):
    one, two = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    names, of = settled([two, one, "tea"], tmp_path)
    assert names == (one, "tea")
    assert [row.labels for row in of.rows] == [(one,), (one,), ("tea",)]
    assert list(told(of).values()) == [[(one, "")]]
    names, of = settled([two, "tea"], tmp_path)  # one form only: kept as it is
    assert (set(names), of.notices) == ({two, "tea"}, [])
    names, of = settled([one, "tea"], tmp_path, known=f"tea\n{two}\n")  # that of the list
    assert names == ("tea", two)
    assert of.rows[0].labels == (two,)


def test_classes_that_differ_in_case_and_numbers_are_told(tmp_path):
    names, of = settled(["dog", "Dog", "cat"], tmp_path)
    assert names == ("Dog", "cat", "dog")
    assert list(told(of).values()) == [[("Dog, dog", "")]]
    names, of = settled(["0", "1", "10", "2"], tmp_path)
    assert names == ("0", "1", "10", "2")
    assert list(told(of).values()) == [[("10", "index 2"), ("2", "index 3")]]
    _, of = settled(["2", "0", "1"], tmp_path)
    assert of.notices == []


def test_folders_without_media_are_told(tmp_path):
    plant(tmp_path, ["train/cow/a.wav", "test/cow/b.wav", ".git/x"])
    for name in ("train/ant/deep", "test/ant", "valid"):
        (tmp_path / name).mkdir(parents=True)
    found = [path for path, _ in told(listing(tmp_path))["folders without media, left out"]]
    assert found == ["valid", "test/ant", "train/ant"]


# Tables ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '\ufeffpath;start;end;label\r\na.wav;0;1,5;"x;y"\r\n'.replace("1,5", "1.5"),
        "path|label|end|start\na.wav|x;y|1.5|0\n",
        "path\tstart\tend\tlabel\na.wav\t0\t1.5\tx;y\n",
        ",path,start,end,label\n0,a.wav,0.0,1.5,x;y\n",
        "\ufeffUnnamed: 0,path,start,end,label,\n17,a.wav,0,1.5,x;y,\n",
    ],
)
def test_tables_of_other_programs_are_understood(tmp_path, text):
    (tmp_path / "m.csv").write_bytes(text.encode())
    (row,) = listing(tmp_path / "m.csv").rows
    assert (row.path, row.start, row.end, row.labels) == ("a.wav", 0.0, 1.5, ("x", "y"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,,label\na.wav,some text,x\n", "line 2: 'some text' stands in a column"),
        ("path,label,label\na.wav,x,y\n", "column 'label' stands 2 times"),
        ("path;start;end\na.wav;0,5;1\n", "line 2: start '0,5' is not a time"),
        ("path;label\na.wav;x;y\n", "line 2: 1 values more than there are columns"),
        ("file;label\na.wav;x\n", "column 'path' is missing; found: file, label"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_understood(tmp_path, text, message):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(DataError) as error:
        listing(tmp_path / "m.csv")
    assert message in str(error.value)


def test_paths_of_windows(tmp_path):
    plant(tmp_path, ["deep/a.wav", "odd\\name.wav"])
    rows = ["deep\\a.wav,,,,", "odd\\name.wav,,,,", "gone\\b.wav,,,,"]
    (tmp_path / "m.csv").write_text(HEAD + "\n".join(rows))
    found = listing(tmp_path / "m.csv")
    assert [row.path for row in found.rows] == ["deep/a.wav", "odd\\name.wav", "gone\\b.wav"]
    assert told(found) == {"paths with \\ read as paths with /": [("deep\\a.wav", "")]}


def test_paths_with_a_drive_are_refused_with_the_reason(sounds, tmp_path):
    plant(tmp_path, ["a.wav"], sounds)
    (tmp_path / "m.csv").write_text(HEAD + "C:\\\\a.wav,,,,\na.wav,,,,\n")
    assert run(tmp_path / "set", "--manifest", tmp_path / "m.csv") == 3
    assert "begins with a drive" in (tmp_path / "set/failures.csv").read_text()


def test_one_row_per_label_becomes_one_clip(tmp_path):
    rows = [
        "a.wav,0,2,train;test,Speech",
        "b.wav,0,2,train,Cat",
        "a.wav,0,2,train;test,Dog;Cat",
        "a.wav,2,4,train,Dog",
        "b.wav,0,2,train,Cat",
    ]
    (tmp_path / "m.csv").write_text(HEAD + "\n".join(rows))
    found = listing(tmp_path / "m.csv")
    assert [(row.path, row.start, row.split, row.labels) for row in found.rows] == [
        ("a.wav", 0, "train", ("Speech", "Dog", "Cat")),
        ("a.wav", 0, "test", ("Speech", "Dog", "Cat")),
        ("b.wav", 0, "train", ("Cat",)),
        ("a.wav", 2, "train", ("Dog",)),
        ("b.wav", 0, "train", ("Cat",)),
    ]
    assert told(found) == {
        "several rows of one clip with other labels, joined": [("a.wav", "Speech, Dog, Cat")] * 2,
        "rows that stand several times, stored as often": [("b.wav", "2 times")],
    }


# Files of one name -------------------------------------------------------------------------------


def test_files_of_one_name_in_two_folders_are_told(tmp_path):
    plant(tmp_path / "m", ["b/abc.wav", "a/abc.wav", "c/abc.mp4", "a/other.wav", "b/other.wav"])
    (tmp_path / "class_labels_indices.csv").write_text("index,mid,display_name\n0,/m/1,Bell\n")
    (tmp_path / "eval.csv").write_text('abc, 0.0, 5.0, "/m/1"\nabc, 5.0, 10.0, "/m/1"\n')
    found = listing(tmp_path / "eval.csv", media_root=tmp_path / "m")
    assert {row.path for row in found.rows} == {"c/abc.mp4"}
    assert list(told(found).values()) == [[("c/abc.mp4", "not a/abc.wav, b/abc.wav")]]


def test_files_of_one_id_and_other_names_are_told(tmp_path):
    plant(tmp_path / "m", ["abc_5.wav", "Yabc_5.000_10.000.wav", "abc.mp4", "Yxyz.mp4", "xyz.mp4"])
    (tmp_path / "class_labels_indices.csv").write_text("index,mid,display_name\n0,/m/1,Bell\n")
    (tmp_path / "eval.csv").write_text('abc, 5.0, 10.0, "/m/1"\nxyz, 5.0, 10.0, "/m/1"\n')
    found = listing(tmp_path / "eval.csv", media_root=tmp_path / "m")
    assert {(row.path, row.start) for row in found.rows} == {("abc_5.wav", None), ("xyz.mp4", 5.0)}
    assert list(told(found).values()) == [
        [("abc_5.wav", "not Yabc_5.000_10.000.wav, abc.mp4"), ("xyz.mp4", "not Yxyz.mp4")]
    ]


# A set of sounds ---------------------------------------------------------------------------------


def test_one_video_does_not_make_a_set_of_sounds_one_of_videos(sounds, tmp_path):
    media = plant(tmp_path / "media", [f"dog/{k}.wav" for k in range(9)], sounds)
    frames = np.random.default_rng(0).integers(0, 255, (10, 32, 32, 3), dtype=np.uint8)
    write(media / "dog/v.mp4", frames, tone(440, 0.4))
    assert run(tmp_path / "set", "--input", media, "--min_side=16") == 0
    assert cards.read(tmp_path / "set/card.yaml").tasks == ["audio_classification"]
