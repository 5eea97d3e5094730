"""Every form of input that ingest takes: which clips it finds, what it refuses and lists."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from media_files import grey_frames, tone, write
from PIL import Image

from vatt.data import cards, records
from vatt.data.ingest import command as ingest
from vatt.data.ingest import sources
from vatt.data.ingest.sources import Options, audioset, howto100m, tree
from vatt.errors import DataError, UserError

OPTIONS = ["--min_side=16", "--sample_rate=8000", "--workers=1", "--fps=5"]


@pytest.fixture(scope="session")
def video(tmp_path_factory) -> bytes:
    """2 s of pictures, brighter by 4 levels in each of 50 frames, with a tone."""
    path = tmp_path_factory.mktemp("video") / "x.mp4"
    return write(path, grey_frames(20 + 4 * np.arange(50), 16, 24), tone(440, 2)).read_bytes()


@pytest.fixture(scope="session")
def sound(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "x.wav"
    return write(path, sound=tone(440, 1, 8000), rate=8000, audio_codec="pcm_s16le").read_bytes()


def plant(root: Path, content: dict[str, bytes | str]) -> Path:
    """Writes files under a folder."""
    for name, data in content.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return root


def listing(*inputs, form: str = "auto", **options) -> sources.Listing:
    return sources.read([str(path) for path in inputs], form, Options(**options))


def found(of: sources.Listing) -> set[tuple]:
    return {(row.path, row.split, row.labels) for row in of.rows}


def run(output: Path, *options) -> int:
    return ingest.main([*OPTIONS, f"--output_dir={output}", *map(str, options)])


def stored(output: Path, split: str = "train") -> dict[str, records.ClipRecord]:
    shards = cards.read(output / "card.yaml").shards(split)
    clips = [records.decode(record) for shard in shards for record in records.read_shard(shard)]
    return {clip.source: clip for clip in clips}


def failures(output: Path) -> dict[str, str]:
    with (output / "failures.csv").open(newline="", encoding="utf-8") as file:
        return {row["path"]: row["reason"] for row in csv.DictReader(file)}


# Manifests ---------------------------------------------------------------------------------------


def test_csv_tsv_and_jsonl_say_the_same(tmp_path):
    head = ["path", "start", "end", "split", "label", "caption"]
    rows = [["a b.mp4", "0", "1.5", "train;test", "x;y", "one, two"], ["ü.mp4", "", "", "", "", ""]]
    for name, sign in (("a.csv", ","), ("a.tsv", "\t")):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=sign).writerows([head, *rows])
    objects = [
        {"path": "a b.mp4", "start": 0, "end": "0:01.5", "split": ["train", "test"],
         "label": ["x", "y"], "caption": "one, two"},
        {"path": "ü.mp4", "start": None},
    ]  # fmt: skip
    lines = "\n\n".join(json.dumps(line) for line in objects)
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    read = [listing(tmp_path / f"a.{kind}").rows for kind in ("csv", "tsv", "jsonl")]
    plain = [[(r.path, r.start, r.end, r.split, r.labels, r.caption) for r in x] for x in read]
    assert plain[0] == plain[1] == plain[2]
    assert plain[0][1] == ("a b.mp4", 0.0, 1.5, "test", ("x", "y"), "one, two")
    assert plain[0][2] == ("ü.mp4", None, None, "train", (), "")


def test_captions_inside_a_jsonl_line_are_stored_with_their_times(video, tmp_path):
    plant(tmp_path, {"a.mp4": video})
    line = {"path": "a.mp4", "start": 1, "end": 2, "captions": [[1.5, 2, "in"], [0, 0.4, "out"]]}
    (tmp_path / "a.jsonl").write_text(json.dumps(line))
    assert run(tmp_path / "set", "--input", tmp_path / "a.jsonl", "--caption_context=0.5") == 0
    clip = stored(tmp_path / "set")["a.mp4"]
    assert [text for *_, text in clip.captions] == ["in"]
    np.testing.assert_allclose(clip.captions[0][:2], (0.5, 1.0))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1, 2]", "a list, not an object"),
        ('{"path": "a"', "not JSON"),
        ('{"path": "a", "lable": "x"}', "'lable' is unknown"),
        ('{"path": 3}', "path 3 is not text"),
        ('{"path": "a", "start": true}', "start 'True'"),
        ('{"path": "a", "start": NaN}', "start 'nan'"),
        ('{"path": "a", "label": [1]}', "label [1] is not a list of names"),
        ('{"path": "a", "captions": [[1, "x"]]}', "is not [start, end, text]"),
        ("[" * 100_000, "not JSON (nested too deeply)"),
        (
            '{"path": "a", "start": ' + "9" * 5000 + "}",
            "not JSON (a number of thousands of digits)",
        ),
        ('{"path": "a", "start": ' + "9" * 400 + "}", "9...' is not a time"),
        ('{"path": "a", "end": 1e999}', "end 'inf' is not a time"),
        ('{"path": "a", "captions": [[0, 1e300, "x"]]}', "is not [start, end, text]"),
        ('{"path": "a", "split": "' + "a" * 101 + '"}', "letters, digits and _ only, at most 100"),
    ],
)
def test_bad_jsonl_lines_are_counted_and_named(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_text('{"path": "good.mp4"}\n' + line)
    with pytest.raises(DataError) as error:
        listing(tmp_path / "a.jsonl")
    assert "1 lines cannot be used" in str(error.value)
    assert "line 2: " in str(error.value)
    assert message in str(error.value) and len(str(error.value)) < 1000


# Folders -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train/cat/a.mp4", "val/dog/b.wav"], {("train", ("cat",)), ("val", ("dog",))}),
        (["cat/a.mp4", "dog/b.mp4"], {("train", ("cat",)), ("train", ("dog",))}),
        (["train_1/a.mp4", "test_1/b.mp4"], {("train_1", ()), ("test_1", ())}),
        (["a.mp4", "b.MP4"], {("train", ())}),
    ],
)
def test_the_form_of_a_tree_is_seen(tmp_path, names, expected):
    plant(tmp_path, dict.fromkeys(names, b""))
    rows = listing(tmp_path, form="folder").rows
    assert {row.path for row in rows} == set(names)
    assert {(row.split, row.labels) for row in rows} == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.mp4", "cat/b.mp4"], ["1 below 0 folders, as a.mp4", "1 below 1 folder, as cat/b.mp4"]),
        (["x/y/z/a.mp4"], ["1 below 3 folders", "accepted: split/class/file"]),
        (["train/a.mp4", "cat/b.mp4"], ["splits (train) beside others (cat)", "--input train="]),
        (["2019/cat/a.mp4"], ["2019 is no name of a split", "--input NAME="]),
        (["a.pdf", "b.pdf"], ["no videos or sounds", ".pdf (2)"]),
        ([], ["found: nothing"]),
    ],
)
def test_trees_of_no_clear_form_are_refused_with_what_was_found(tmp_path, names, message):
    plant(tmp_path, dict.fromkeys(names, b""))
    with pytest.raises(DataError) as error:
        listing(tmp_path, form="folder")
    for part in message:
        assert part in str(error.value)


def test_splits_given_by_name(tmp_path):
    plant(tmp_path, dict.fromkeys(["one/train/a.mp4", "one/dog/b.mp4", "two/dog/c.mp4"], b""))
    both = listing(f"train={tmp_path / 'one'}", f"late={tmp_path / 'two'}")
    assert both.root == tmp_path.resolve()
    assert found(both) == {
        ("one/train/a.mp4", "train", ("train",)),  # a class, here
        ("one/dog/b.mp4", "train", ("dog",)),
        ("two/dog/c.mp4", "late", ("dog",)),
    }
    with pytest.raises(UserError, match="2 inputs need a split each"):
        listing(f"train={tmp_path / 'one'}", tmp_path / "two")


def test_odd_names_side_files_and_everything_else_in_a_folder(video, tmp_path, capsys):
    media = plant(
        tmp_path / "my media",
        {
            "-y.mp4": video,
            "ü ber 猫.mp4": video,
            "Soup: the film.mp4": video,
            "-y.txt": "said\nof all",
            "ü ber 猫.en.vtt": "WEBVTT\n\n00:00.500 --> 00:01.000\nin English\n",
            "ü ber 猫.srt": "1\n00:00:00,500 --> 00:00:01,500\nnearer\n",
            "lonely.vtt": "WEBVTT\n",
            "notes.pdf": "",
            ".hidden.mp4": b"",
            "Makefile": "",
        },
    )
    assert run(tmp_path / "set", "--input", media) == 0
    clips = stored(tmp_path / "set")
    assert set(clips) == {"-y.mp4", "ü ber 猫.mp4", "./Soup: the film.mp4"}
    assert clips["-y.mp4"].captions == [(0.0, pytest.approx(2.0, abs=0.05), "said of all")]
    assert [text for *_, text in clips["ü ber 猫.mp4"].captions] == ["nearer"]
    for clip in clips.values():
        frame = np.asarray(Image.open(io.BytesIO(clip.frames[2])), int)
        assert abs(frame.mean() - (20 + 4 * 12)) < 3  # frame 12 is shown at 0.5 s
    printed, log = capsys.readouterr().out, (tmp_path / "set/ingest.log").read_text()
    for reason, name in {
        "files ending in .pdf, left out: 1": "notes.pdf",
        "files without an ending, left out: 1": "Makefile",
        "hidden files, left out: 1": ".hidden.mp4",
        "captions without a media file of that name, left out: 1": "lonely.vtt",
        "captions of a file of which others are taken, or none of that language, left out: 1": (
            "ü ber 猫.en.vtt"
        ),
    }.items():
        assert reason in printed
        assert name in printed
        assert name in log
    kinds = json.loads((tmp_path / "set/manifest.json").read_text())["notices"]
    assert kinds["captions without a media file of that name, left out"] == 1
    assert sum(kinds.values()) == 5
    with (tmp_path / "set/notices.csv").open(newline="", encoding="utf-8") as file:
        assert "lonely.vtt" in {row["path"] for row in csv.DictReader(file)}
    assert "lonely.vtt" not in (tmp_path / "set/failures.csv").read_text()
    assert "files ending in .pdf, left out" in (tmp_path / "set/dataset.html").read_text()


def test_the_test_share_depends_on_each_name_alone(tmp_path):
    names = [f"{k:03}.mp4" for k in range(300)]
    plant(tmp_path / "all", dict.fromkeys(names, b""))
    plant(tmp_path / "half", dict.fromkeys(names[::2], b""))
    splits = [
        {row.path: row.split for row in listing(tmp_path / part, test_share=0.2).rows}
        for part in ("all", "half")
    ]
    assert splits[1].items() <= splits[0].items()
    assert 30 <= list(splits[0].values()).count("test") <= 90  # 60 expected
    plant(tmp_path / "split", {"train/a.mp4": b""})
    with pytest.raises(UserError, match="--test_share"):
        listing(tmp_path / "split", test_share=0.1)


@pytest.mark.parametrize(
    ("length", "seconds", "step", "expected"),
    [
        (10.0, 4.0, 4.0, [(0, 4), (4, 8), (6, 10)]),  # the last one ends with the file
        (8.4, 4.0, 4.0, [(0, 4), (4, 8.4)]),  # not a second clip of what has been
        (10.84, 10.0, 10.0, [(0, 10.84)]),
        (8.0, 4.0, 4.0, [(0, 4), (4, 8)]),
        (7.0, 4.0, 2.0, [(0, 4), (2, 7)]),
        (8.0, 4.0, 2.0, [(0, 4), (2, 6), (4, 8)]),
        (0.9, 0.3, 0.3, [(0, 0.3), (0.3, 0.6), (0.6, 0.9)]),
        (12.0, 2.0, 5.0, [(0, 2), (5, 7), (10, 12)]),
        (9.0, 2.0, 5.0, [(0, 2), (5, 7)]),
        (4.0, 4.0, 4.0, [(None, None)]),
        (0.3, 4.0, 4.0, [(None, None)]),
    ],
)
def test_where_long_files_are_cut(length, seconds, step, expected):
    assert list(tree._pieces(length, seconds, step)) == expected


def test_long_files_become_clips_and_damaged_ones_are_listed(video, sound, tmp_path):
    media = plant(tmp_path / "media", {"a.mp4": video, "b.wav": sound, "bad.mp4": "no video"})
    assert run(tmp_path / "set", "--input", media, "--clip_seconds=0.8") == 3
    shard = cards.read(tmp_path / "set/card.yaml").shards("train")[0]
    clips = [records.decode(record) for record in records.read_shard(shard)]
    times = sorted((clip.source, round(clip.start, 2)) for clip in clips)
    assert times == [("a.mp4", 0.0), ("a.mp4", 0.8), ("b.wav", 0.0)]
    # 8000 samples per second: b.wav, of 1 s, is no clip and a rest.
    assert [len(clip.waveform) for clip in clips if clip.source == "b.wav"] == [8000]
    assert "not a media file" in failures(tmp_path / "set")["bad.mp4"]


def test_pictures(tmp_path):
    pixels = np.zeros((20, 30, 3), np.uint8)
    for number, name in enumerate(["train/cat/a.JPEG", "train/dog/b.png", "val/cat/c.jpg"]):
        path = tmp_path / "media" / name
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels + 60 * (1 + number)).save(path)
    assert sources.detect(tmp_path / "media", Options()) == "images"
    assert run(tmp_path / "set", "--input", tmp_path / "media") == 0
    clips = stored(tmp_path / "set")
    assert sorted(clips) == ["train/cat/a.JPEG", "train/dog/b.png"]
    clip = clips["train/dog/b.png"]
    assert (len(clip.frames), clip.waveform, clip.labels) == (1, None, ["dog"])
    assert abs(np.asarray(Image.open(io.BytesIO(clip.frames[0])), int).mean() - 120) < 2
    card = cards.read(tmp_path / "set" / "card.yaml")
    assert (card.labels, card.audio, card.records("val")) == (["cat", "dog"], None, 1)


# HowTo100M ---------------------------------------------------------------------------------------


def test_captions_of_videos_from_json_and_from_csv_files(video, tmp_path):
    media = plant(tmp_path / "media", {"a/b/-idA.mp4": video, "idB.mkv": b"broken", "idC.mp4": b""})
    told = {
        "-idA": {"start": [0.0, 1.2, 0.4], "end": [0.3, 9.0, 0.9], "text": ["one", " two ", "mid"]},
        "idB": {"start": [0], "end": [1], "text": ["x"]},
        "gone": {"start": [0], "end": [1], "text": ["x"]},
        "../../etc/passwd": {"start": [0], "end": [1], "text": ["x"]},
        "idC": {"start": [0, 1], "end": [1], "text": ["x"]},
    }
    (tmp_path / "caption.json").write_text(json.dumps(told, indent=1))
    options = ["--media_root", media, "--clip_seconds=1", "--caption_context=0"]
    assert run(tmp_path / "set", "--input", tmp_path / "caption.json", *options) == 3
    shard = cards.read(tmp_path / "set" / "card.yaml").shards("train")[0]
    clips = sorted(
        (records.decode(record) for record in records.read_shard(shard)), key=lambda c: c.start
    )
    assert [clip.source for clip in clips] == ["a/b/-idA.mp4"] * 2
    np.testing.assert_allclose(  # the second is cut where the file ends
        [(clip.start, clip.end) for clip in clips], [(0, 1), (1.2, 2.0)], atol=0.05
    )
    assert [text for *_, text in clips[0].captions] == ["one", "mid"]
    np.testing.assert_allclose(clips[1].captions[0][:2], (0, 7.8), atol=1e-5)
    reasons = failures(tmp_path / "set")
    assert set(reasons) == {"idB.mkv", "gone", "../../etc/passwd", "idC"}
    assert "no media file" in reasons["gone"]
    assert "2 start, 1 end, 1 text" in reasons["idC"]

    for name in ("-idA", "gone"):
        rows = zip(*(told[name][key] for key in ("start", "end", "text")), strict=True)
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["", "start", "end", "text"], *([0, *row] for row in rows)])
    (tmp_path / "csv").mkdir()
    for name in ("-idA", "gone"):
        (tmp_path / f"{name}.csv").rename(tmp_path / "csv" / f"{name}.csv")
    options = {"media_root": media, "clip_seconds": 1.0, "caption_context": 0.0}
    from_csv = listing(tmp_path / "csv", **options)
    from_json = listing(tmp_path / "caption.json", **options)
    assert from_csv.rows == [row for row in from_json.rows if row.path != "idB.mkv"]
    assert [f[0] for f in from_csv.failures["train"]] == ["gone"]
    kind = "media files without captions, left out"
    assert from_csv.notices == [[name, None, None, kind, ""] for name in ("idB", "idC")]


def test_times_that_no_recording_has_are_left_out(tmp_path):
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "a.mp4").write_bytes(b"")
    told = {"a": {"start": [0, 0, 5], "end": [1, 10**400, 1e300], "text": ["x", "y", "z"]}}
    (tmp_path / "caption.json").write_text(json.dumps(told))
    found = listing(tmp_path / "caption.json", media_root=tmp_path / "media")
    assert [row.timed_captions for row in found.rows] == [((0.0, 1.0, "x"),)]
    assert [notice[-1] for notice in found.notices] == ["2"]


def test_every_caption_lies_in_a_clip_unless_it_is_longer():
    rng = np.random.default_rng(3)
    for _ in range(50):
        starts = np.sort(rng.uniform(0, 100, 40))
        told = [
            (s, s + length, "x") for s, length in zip(starts, rng.uniform(0, 7, 40), strict=True)
        ]
        told.append((50.0, 90.0, "long"))
        told.sort()
        begins = list(howto100m._starts(told, 6.0))
        assert begins == sorted(set(begins))
        assert len(begins) <= len(told)
        for start, end, _ in told:
            inside = any(b <= start and end <= b + 6.0 for b in begins)
            assert inside or (end - start > 6.0 and start in begins)


def test_the_list_of_ids(tmp_path):
    plant(tmp_path / "media", dict.fromkeys(["a.mp4", "b.mp4"], b""))
    one = {"start": [0], "end": [1], "text": ["x"]}
    (tmp_path / "c.json").write_text(json.dumps({"a": one, "b": one}))
    (tmp_path / "ids.csv").write_text("video_id,rank\na,1\nz,2\n")
    options = {"media_root": tmp_path / "media"}
    taken = listing(tmp_path / "c.json", list=tmp_path / "ids.csv", **options)
    assert [row.path for row in taken.rows] == ["a.mp4"]
    assert [row[0] for row in taken.failures["train"]] == ["z"]
    (tmp_path / "ids.csv").write_text("\ufeff;rank;video_id\n0;1; a\n1;2;z\n2\n", encoding="utf-8")
    again = listing(tmp_path / "c.json", list=tmp_path / "ids.csv", **options)
    assert (again.rows, again.failures) == (taken.rows, taken.failures)
    (tmp_path / "ids.csv").write_text("videoid\na\n")
    with pytest.raises(DataError, match=r"no column 'video_id'.*Did you mean 'videoid'"):
        listing(tmp_path / "c.json", list=tmp_path / "ids.csv", **options)


@pytest.mark.parametrize("block", [3, 64, 1 << 20])
def test_json_is_read_in_blocks(tmp_path, monkeypatch, block):
    monkeypatch.setattr(howto100m, "_BLOCK", block)
    told = {f"id{k}": {"start": [k], "end": [k + 1.5], "text": [f'"ü" {{{k}}}']} for k in range(40)}
    for indent in (None, 2):
        (tmp_path / "c.json").write_text(json.dumps(told, indent=indent), encoding="utf-8")
        assert dict(howto100m._from_json(tmp_path / "c.json")) == told
    (tmp_path / "c.json").write_text(" {} ")
    assert list(howto100m._from_json(tmp_path / "c.json")) == []


@pytest.mark.parametrize("text", ["", "[1]", '{"a": {"start": [', '{"a": 1 "b": 2}', '{"a": 1'])
def test_json_of_another_form_is_refused(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(DataError, match="not a JSON object of the form"):
        listing(tmp_path / "c.json", media_root=tmp_path)


def test_captions_of_one_video_in_json(tmp_path):
    plant(tmp_path / "media", dict.fromkeys(("a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4"), b""))
    told = {"start": [0.5, 3], "end": [1.5, 4], "text": ["first, then", "so"]}
    lines = [dict(zip(told, one, strict=True)) for one in zip(*told.values(), strict=True)]
    texts = {
        "a.json": json.dumps({"id": "a", **told}),
        "deep/b.JSON": "\ufeff" + json.dumps({"b": told}),
        "c.jsonl": "\n".join(map(json.dumps, lines)),
        "d.jsonl": json.dumps(told),
        "e.tsv": "start\tend\ttext\n0.5\t1.5\tfirst, then\n3\t4\tso\n",
    }
    plant(tmp_path / "told", texts | {"a.info.json": "{}", "a.vtt": "", "._a.json": b"\0"})
    listed = listing(tmp_path / "told", media_root=tmp_path / "media")
    timed = ((0.5, 1.5, "first, then"), (3.0, 4.0, "so"))
    assert {row.path: row.timed_captions for row in listed.rows} == dict.fromkeys(
        ("a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4"), timed
    )
    assert {(path, kind) for path, _, _, kind, _ in listed.notices} == {
        ("a.info.json", "files ending in .info.json, left out"),
        ("a.vtt", "files ending in .vtt, left out"),
        ("._a.json", "hidden files, left out"),
    }
    one = listing(tmp_path / "told/a.json", media_root=tmp_path / "media")
    assert [(row.path, row.timed_captions) for row in one.rows] == [("a.mp4", timed)]
    (tmp_path / "json").mkdir()
    (tmp_path / "told/a.json").rename(tmp_path / "json/a.json")
    assert listing(tmp_path / "json", media_root=tmp_path / "media").rows == one.rows


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("a.json", '{"start": [1], "End": [2], "text": ["x"]}', ["'end' is missing", "'End'?"]),
        ("a.json", '{"start": [1], "end": 2, "text": ["x"]}', ["'end' is 2", "lists of start"]),
        ("a.json", '{"start": [1], "end": [], "text": ["x"]}', ["1 start, 0 end, 1 text"]),
        ("a.json", '{"start": [], "end": [], "text": []}', ["nothing is said"]),
        ("a.json", '{"a": {"start": [1]}}', ["a.json, entry 1: 'end' is missing"]),
        ("a.json", '{"a": [[0, 1, "x"]]}', ["caption 1 is [0, 1, 'x']"]),
        ("a.json", "[1]", ["a.json is not a JSON object of the form"]),
        ("a.jsonl", '{"start": 1, "end": 2}\n', ["'text' is missing in caption 1"]),
        ("a.jsonl", '{"start": 1, "end": 2, "text": "x"}\n{"start"', ["a.jsonl, line 2: not JSON"]),
        ("a.jsonl", b"\xff\xfe", ["a.jsonl: not lines of JSON in UTF-8"]),
        ("a.tsv", "start\tend\n", ["a.tsv: column 'text' is missing"]),
    ],
)
def test_captions_that_cannot_be_used_cost_their_video_and_say_why(tmp_path, name, text, parts):
    plant(tmp_path / "media", {"a.mp4": b"", "z.mp4": b""})
    plant(tmp_path / "told", {name: text, "z.json": '{"start": [0], "end": [1], "text": ["x"]}'})
    listed = listing(tmp_path / "told", media_root=tmp_path / "media")
    assert [row.path for row in listed.rows] == ["z.mp4"]
    ((path, *_, reason),) = listed.failures["train"]
    assert path == "a" and name in reason
    for part in parts:
        assert part in reason


def test_captions_of_one_video_in_two_places_are_told(tmp_path):
    plant(tmp_path / "media", {"a.mp4": b""})
    told = [{"start": [k], "end": [k + 1], "text": [f"said {k}"]} for k in range(2)]
    one, other = map(json.dumps, told)
    plant(tmp_path / "told", {"a.json": one, "old/a.json": other})
    plant(tmp_path, {"c.json": f'{{"a": {one}, "a": {other}}}'})
    for path, places in (
        (tmp_path / "told", "a.json, not old/a.json"),
        (tmp_path / "c.json", "c.json, entry 1, not c.json, entry 2"),
    ):
        listed = listing(path, media_root=tmp_path / "media")
        assert [row.timed_captions for row in listed.rows] == [((0.0, 1.0, "said 0"),)]
        kind = "videos whose captions stand in several places, one taken"
        assert listed.notices == [["a", None, None, kind, places]]


def test_captions_need_the_folder_of_the_videos(tmp_path):
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(UserError, match="--media_root"):
        listing(tmp_path / "c.json")


# AudioSet ----------------------------------------------------------------------------------------

CLASSES = 'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/t/dd05,"Male speech, man"\n2,/m/0,Zoo\n'
HEAD = "# Segments csv created\n# num_ytids=1\n# YTID, start_seconds, end_seconds, labels\n"


def test_segments_find_their_media_and_classes(sound, video, tmp_path):
    media = plant(
        tmp_path / "media",
        {
            "--PJHxphWEs.mp4": video,
            "deep/Yabcdefghijk_30.000_40.000.wav": sound,
            "A_30_4012345_70.wav": sound,
            "Yshort000000.wav": sound,
            "whole_video.mp4": video,
        },
    )
    rows = [
        '--PJHxphWEs, 0.500, 1.500, "/m/09x0r,/t/dd05"',
        'abcdefghijk, 30.000, 40.000, "/t/dd05"',
        'A_30_4012345, 70.000, 80.000, "/m/09x0r"',
        'short000000, 30.000, 40.000, "/m/09x0r"',
        'whole_video, 1.000, 1.900, "/m/09x0r"',
        '../x, 0.000, 1.000, "/m/09x0r"',
    ]
    plant(tmp_path, {"class_labels_indices.csv": CLASSES, "a.csv": HEAD + "\n".join(rows)})
    plant(tmp_path, {"b.csv": HEAD + rows[0]})
    both = [f"train={tmp_path / 'a.csv'}", f"test={tmp_path / 'b.csv'}"]
    assert run(tmp_path / "set", "--media_root", media, "--input", *both) == 3
    card = cards.read(tmp_path / "set" / "card.yaml")
    assert card.labels == ["Speech", "Male speech, man", "Zoo"]
    assert card.multi_label
    clips = stored(tmp_path / "set")
    times = {name: (round(clip.start, 2), round(clip.end, 2)) for name, clip in clips.items()}
    assert times == {
        "--PJHxphWEs.mp4": (0.5, 1.5),
        "deep/Yabcdefghijk_30.000_40.000.wav": (0, 1),
        "A_30_4012345_70.wav": (0, 1),
        "Yshort000000.wav": (0, 1),  # no longer than the segment: cut already
        "whole_video.mp4": (1.0, 1.9),
    }
    assert clips["--PJHxphWEs.mp4"].labels == ["Speech", "Male speech, man"]
    assert clips["deep/Yabcdefghijk_30.000_40.000.wav"].label_indices == [1]
    assert list(stored(tmp_path / "set", "test")) == ["--PJHxphWEs.mp4"]
    assert list(failures(tmp_path / "set")) == ["../x"]
    assert sum(row["failures"] for row in _splits(tmp_path / "set").values()) == 1


def _splits(output: Path) -> dict:
    return json.loads((output / "manifest.json").read_text())["splits"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('a, 0.0, 10.0, "/m/09x0r,/m/none"', "'/m/none' is not in the table of classes"),
        ("a, 0.0, 10.0, /m/09x0r, /m/0", "5 values, not YTID"),
        ('a, 10.0, 5.0, "/m/09x0r"', "'10.0' and '5.0' are not start and end"),
        ('a, nan, 5.0, "/m/09x0r"', "'nan' and '5.0' are not start and end"),
        ('a, 0.0, 1e300, "/m/09x0r"', "'0.0' and '1e300' are not start and end"),
        ('a, 0.0, 5.0, ""', "the id or the labels are empty"),
    ],
)
def test_bad_segments_are_counted_and_named(tmp_path, line, message):
    plant(tmp_path, {"class_labels_indices.csv": CLASSES, "a.csv": f"{HEAD}{line}\n"})
    with pytest.raises(DataError) as error:
        listing(tmp_path / "a.csv", form="audioset")
    assert "1 lines cannot be used" in str(error.value)
    assert f"line 4: {message}" in str(error.value)


def test_segments_are_told_from_a_manifest(tmp_path):
    plant(tmp_path, {"a.csv": HEAD, "b.csv": 'x, 0.0, 1.0, "/m/0"\n', "c.csv": "path,start\nx,0\n"})
    told = {name: audioset.looks_like(tmp_path / f"{name}.csv") for name in "abc"}
    assert told == {"a": True, "b": True, "c": False}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "there is no table of classes"),
        ("mid,name\n", "column 'index' is missing"),
        ("index,mid,display_name\n1,/m/0,x\n", "must count 0, 1, 2"),
        ("index,mid,display_name\n0,/m/0,x\n1,/m/1,x\n", "of its own"),
        ("index,mid,display_name\n0,/m/0,x, y\n", "line 2: 1 values more than there are columns"),
    ],
)
def test_tables_of_classes_that_cannot_be_used(tmp_path, table, message):
    plant(tmp_path, {"a.csv": HEAD} | ({"class_labels_indices.csv": table} if table else {}))
    with pytest.raises(DataError, match=message):
        listing(tmp_path / "a.csv")


def test_tables_of_classes_and_sounds_of_other_programs(tmp_path):
    table = "\ufeff;index;mid;display_name\r\n0;0;/m/0;a, b\r\n1;1;/m/1;c\r\n"
    plant(tmp_path, {"a.csv": HEAD, "labels.csv": table})
    assert audioset.read_classes(tmp_path / "labels.csv") == {"/m/0": "a, b", "/m/1": "c"}
    table = "filename\tfold\ttarget\tcategory\na,1.wav\t1\t0\tx\n"
    plant(tmp_path / "ESC", {"meta/esc50.csv": table})
    assert found(listing(tmp_path / "ESC")) == {("audio/a,1.wav", "test_1", ("x",))}


# ESC-50 ------------------------------------------------------------------------------------------


def test_folds_of_esc50(sound, tmp_path):
    table = "filename,fold,target,category,esc10,src_file,take\n"
    table += "1-a.wav,1,1,dog,True,1,A\n2-b.wav,2,0,zebra,False,2,B\n3-c.wav,3,1,dog,True,3,A\n"
    names = ("1-a.wav", "2-b.wav", "3-c.wav")
    root = plant(
        tmp_path / "ESC", {"meta/esc50.csv": table, **{f"audio/{name}": sound for name in names}}
    )
    assert run(tmp_path / "set", "--input", root) == 0
    card = cards.read(tmp_path / "set" / "card.yaml")
    assert card.labels == ["zebra", "dog"]  # in the order of the targets
    assert sorted(card.splits) == sorted(f"{s}_{k}" for s in ("train", "test") for k in (1, 2, 3))
    for fold, name in enumerate(names, start=1):
        test = set(stored(tmp_path / "set", f"test_{fold}"))
        train = set(stored(tmp_path / "set", f"train_{fold}"))
        assert test == {f"audio/{name}"}
        assert train == {f"audio/{other}" for other in names} - test
    with pytest.raises(UserError, match="--media_root has no meaning for --format esc50"):
        listing(root, media_root=tmp_path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("filename,fold,category\n", "column 'target' is missing"),
        ("filename,fold,target,category\na,one,0,x\n", "line 2: fold 'one'"),
        ("filename,fold,target,category\na,1,0,x\nb,1,0,y\n", "target 0 is 'x' and 'y'"),
        ("filename,fold,target,category\na,1,0,x\nb,1,1,x\n", "several targets"),
        ("filename,fold,target,category\n", "there is no clip in it"),
    ],
)
def test_tables_of_esc50_that_cannot_be_used(tmp_path, table, message):
    plant(tmp_path, {"meta/esc50.csv": table})
    with pytest.raises(DataError, match=message):
        listing(tmp_path)


# What all forms share ----------------------------------------------------------------------------

OUTSIDE = ("../x.mp4", "{out}/x.mp4", "link.mp4", "nul\0.mp4", "C:x.mp4", "http://127.0.0.1/x.mp4")


def _manifest(root: Path, name: str) -> list[str]:
    (root / "m.jsonl").write_text(json.dumps({"path": name}) + '\n{"path": "good.mp4"}')
    return ["--input", str(root / "m.jsonl")]


def _captions(root: Path, name: str) -> list[str]:
    """The path of the side file is what leads out."""
    (root / "m.jsonl").write_text(
        json.dumps({"path": "good.mp4", "start": 0.1, "captions": name.replace("mp4", "vtt")})
        + '\n{"path": "good.mp4"}'
    )
    return ["--input", str(root / "m.jsonl")]


def _howto100m(root: Path, name: str) -> list[str]:
    one = {"start": [0], "end": [1], "text": ["x"]}
    stem = name.removesuffix(".mp4")
    (root / "c.json").write_text(json.dumps({stem: one, "good": one}))
    return ["--input", str(root / "c.json"), "--media_root", str(root)]


def _audioset(root: Path, name: str) -> list[str]:
    lines = [f'{stem}, 0.0, 1.0, "/m/0"\n' for stem in (name.removesuffix(".mp4"), "good")]
    plant(root, {"class_labels_indices.csv": CLASSES, "a.csv": HEAD + "".join(lines)})
    return ["--input", str(root / "a.csv")]


def _esc50(root: Path, name: str) -> list[str]:
    plant(root / "audio", {"good.mp4": (root / "good.mp4").read_bytes()})
    if (root / "link.mp4").exists():
        (root / "link.mp4").rename(root / "audio" / "link.mp4")
    name = name.replace("../", "../../")
    table = f'filename,fold,target,category\n"{name}",1,0,x\ngood.mp4,1,0,x\n'
    plant(root, {"meta/esc50.csv": table})
    return ["--input", str(root)]


@pytest.mark.parametrize("outside", OUTSIDE, ids=["up", "absolute", "link", "nul", "drive", "url"])
@pytest.mark.parametrize("form", [_manifest, _captions, _howto100m, _audioset, _esc50])
def test_no_form_leads_out_of_the_root(video, tmp_path, form, outside):
    out = plant(tmp_path / "out", {"x.mp4": video, "x.vtt": "WEBVTT\n\n00:00 --> 00:01\nsecret\n"})
    root = plant(tmp_path / "out" / "root", {"good.mp4": video})
    (root / "link.mp4").symlink_to(out / "x.mp4")
    (root / "link.vtt").symlink_to(out / "x.vtt")
    options = form(root, outside.format(out=out))
    assert run(tmp_path / "set", *options) == 3
    (split,) = cards.read(tmp_path / "set" / "card.yaml").splits
    clips = stored(tmp_path / "set", split)
    assert [Path(name).name for name in clips] == ["good.mp4"]
    assert not any("secret" in text for clip in clips.values() for *_, text in clip.captions)
    assert len(failures(tmp_path / "set")) == 1


def test_links_out_of_a_folder_are_failures_and_linked_folders_are_left_out(video, tmp_path):
    out = plant(tmp_path / "out", {"x.mp4": video})
    root = plant(tmp_path / "root", {"good.mp4": video})
    (root / "link.mp4").symlink_to(out / "x.mp4")
    (root / "folder").symlink_to(out)
    assert run(tmp_path / "set", "--input", root) == 3
    assert list(stored(tmp_path / "set")) == ["good.mp4"]
    assert "leads out of" in failures(tmp_path / "set")["link.mp4"]
    assert "links to folders, left out: 1 (folder)" in (tmp_path / "set" / "ingest.log").read_text(
        encoding="utf-8"
    )


def test_what_leads_out_of_one_of_two_folders_does_not_become_valid_in_both(video, tmp_path):
    for name in ("one", "two"):
        plant(tmp_path / name, {"a.mp4": video, "m.csv": "path\na.mp4\n../one/a.mp4\n"})
    both = listing(f"train={tmp_path / 'one' / 'm.csv'}", f"test={tmp_path / 'two' / 'm.csv'}")
    assert [row.path for row in both.rows] == ["one/a.mp4", "one/../one/a.mp4", "two/a.mp4"]
    assert [row[0] for row in both.failures["test"]] == ["../one/a.mp4"]


def test_a_name_that_is_not_utf8_is_listed(video, tmp_path):
    root = plant(tmp_path / "root", {"good.mp4": video})
    try:
        Path(os.fsdecode(os.fsencode(root) + b"/b\xff.mp4")).write_bytes(video)
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    assert run(tmp_path / "set", "--input", root) == 3
    assert "not UTF-8" in failures(tmp_path / "set")["b\\udcff.mp4"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input", "{root}/absent"], "absent: there is no such file or folder"),
        (["--input", "{root}/clip.csv"], "Did you mean 'clips.csv'"),
        (["--input", "{root}", "--format", "foldr"], "Did you mean 'folder'"),
        (["--input", "{root}/clips.csv", "--test_share", "0.1"], "--test_share has no meaning"),
        (["--input", "{root}/clips.csv", "--list", "x"], "--list has no meaning"),
        (["--input", "{root}/sub", "--clip_step", "1"], "--clip_step needs --clip_seconds"),
        (["--input", "{root}/sub", "--media_root", "{root}/mixed"], "does not hold the input"),
        (["--input", "{root}/a.mp4"], "is a file of no known format"),
        (["--input", "{root}/mixed"], "1 videos or sounds and 1 pictures"),
        (["--input", "a={root}/clips.csv", "b={root}/sub"], "all must be of one format"),
        (["--input", "a={root}/clips.csv", "{root}/sub"], "need a split each"),
    ],
)
def test_messages_for_wrong_input(tmp_path, capsys, options, message):
    plant(
        tmp_path, {"clips.csv": "path\nx\n", "a.mp4": b"", "mixed/a.mp4": b"", "mixed/b.png": b""}
    )
    plant(tmp_path, {"sub/a.mp4": b""})
    assert run(tmp_path / "set", *(text.format(root=tmp_path) for text in options)) in (2, 3)
    assert message in capsys.readouterr().err


# Classes and splits of several runs --------------------------------------------------------------


def test_classes_keep_their_numbers_over_runs_into_one_folder(sound, tmp_path, capsys):
    media = dict.fromkeys(["one/train/dog/a.wav", "one/train/ant/b.wav", "two/dog/c.wav"], sound)
    plant(tmp_path, {**media, "three/emu/d.wav": sound})
    output = tmp_path / "set"
    assert run(output, "--input", tmp_path / "one") == 0
    train = (output / "train-00000-of-00001.tfrecord").stat()
    assert run(output, "--input", f"test={tmp_path / 'two'}") == 0
    card = cards.read(output / "card.yaml")
    assert (sorted(card.splits), card.labels) == (["test", "train"], ["ant", "dog"])
    assert stored(output, "test")["dog/c.wav"].label_indices == [1]  # alone it would be 0
    assert (output / "train-00000-of-00001.tfrecord").stat().st_mtime_ns == train.st_mtime_ns
    before = (output / "labels.txt").read_text()
    assert run(output, "--input", f"val={tmp_path / 'three'}") == 3
    error = capsys.readouterr().err
    assert "class 'emu' is not in" in error
    assert "--labels FILE" in error
    assert (output / "labels.txt").read_text() == before == "ant\ndog\n"
    assert sorted(cards.read(output / "card.yaml").splits) == ["test", "train"]


def test_labels_from_a_file(sound, tmp_path, capsys):
    plant(tmp_path, {"media/dog/a.wav": sound, "names.txt": "zebra\ndog\n", "few.txt": "zebra\n"})
    assert (
        run(tmp_path / "set", "--input", tmp_path / "media", "--labels", tmp_path / "few.txt") == 3
    )
    assert "class 'dog' is not in" in capsys.readouterr().err
    named = ["--labels", tmp_path / "names.txt"]
    assert run(tmp_path / "set", "--input", tmp_path / "media", *named) == 0
    assert cards.read(tmp_path / "set" / "card.yaml").labels == ["zebra", "dog"]
    assert stored(tmp_path / "set")["dog/a.wav"].label_indices == [1]
    assert run(tmp_path / "set", "--input", tmp_path / "media") == 0  # the folder knows them now
    assert stored(tmp_path / "set")["dog/a.wav"].label_indices == [1]
    assert (
        run(tmp_path / "set", "--input", tmp_path / "media", "--labels", tmp_path / "no.txt") == 3
    )
    assert "--labels" in capsys.readouterr().err


def test_splits_made_in_another_way_are_not_mixed(sound, tmp_path, capsys):
    plant(tmp_path, {"one/a.wav": sound, "two/b.wav": sound})
    output = tmp_path / "set"
    assert run(output, "--input", f"train={tmp_path / 'one'}") == 0
    assert run(output, "--input", f"test={tmp_path / 'two'}", "--sample_rate=4000") == 3
    assert "holds the split 'train', which was made with another" in capsys.readouterr().err
    (output / "train-00000-of-00001.tfrecord").unlink()
    assert run(output, "--input", f"test={tmp_path / 'two'}") == 3
    assert "has 0 of 1 shards" in capsys.readouterr().err


def test_what_was_missing_stays_listed_when_another_split_is_added(sound, tmp_path):
    plant(tmp_path, {"class_labels_indices.csv": CLASSES, "media/a.wav": sound})
    plant(tmp_path, {"a.csv": HEAD + 'a, 0, 1, "/m/0"\ngone, 0, 1, "/m/0"\n'})
    plant(tmp_path, {"b.csv": HEAD + 'a, 0, 1, "/m/0"\n'})
    output, root = tmp_path / "set", ["--media_root", tmp_path / "media"]
    assert run(output, "--input", f"train={tmp_path / 'a.csv'}", *root) == 3
    assert run(output, "--input", f"test={tmp_path / 'b.csv'}", *root) == 3
    assert list(failures(output)) == ["gone"]
    assert {split: row["failures"] for split, row in _splits(output).items()} == {
        "train": 1,
        "test": 0,
    }
    plant(tmp_path, {"media/gone.wav": sound})
    assert run(output, "--input", f"train={tmp_path / 'a.csv'}", *root) == 0
    assert failures(output) == {}
