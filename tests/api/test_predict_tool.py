"""vatt predict: tables of classes, windows, what cannot be used, going on."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

from vatt.api import index, predicted
from vatt.api.inputs import Clip
from vatt.api.results import Classification
from vatt.errors import DataError
from vatt.tools import predict

LABELS = ["cat", "dog|wolf", "owl"]


def recipe(multi_label):
    return {"checkpoint": "1", "labels": LABELS, "multi_label": multi_label}


def classes(clip, logits, gaps=()):
    logits = np.array(logits, np.float32)
    starts = np.arange(len(logits)) * 1.6 + (clip.start or 0.0)
    shares = np.zeros(3, np.float32)
    times = (starts, starts + 1.6)
    return Classification(clip.path, LABELS, shares, logits, *times, False, "1", (), gaps)


@pytest.fixture
def kept(tmp_path):
    """Makes an index of a file, a piece of it, and one that cannot be used."""
    (tmp_path / "a.mp4").touch()
    a, b = (Clip(str(tmp_path / name)) for name in ("a.mp4", "b.mp4"))
    piece = a._replace(start=10.0, end=11.6)

    def make(multi_label):
        with index.Writer(tmp_path / "p.npz", recipe(multi_label)) as writer:
            writer.add(piece, {"classes": classes(piece, [[0, 1, -1]])})
            writer.add(b, DataError("no file"))
            found = classes(a, [[2, 0, 0], [0, 1, 0]], ("from 3.2 s to the end: damaged",))
            writer.add(a, {"classes": found})
        return writer.path, [a, b, piece]

    return make


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_for_each_file_in_the_order_asked_for(tmp_path, kept):
    path, asked = kept(False)
    assert predicted.write(tmp_path / "p.csv", path, asked, top=2) == 3
    rows = read(tmp_path / "p.csv")
    assert list(rows[0]) == [
        *("path", "start", "end", "prediction", "probability"),
        *("class_1", "probability_1", "class_2", "probability_2", "problem"),
    ]
    assert [row["path"] for row in rows] == [clip.path for clip in asked]
    assert [(row["start"], row["end"]) for row in rows] == [
        ("0.0", "3.2"), ("", ""), ("10.0", "11.6")
    ]  # fmt: skip
    assert [row["prediction"] for row in rows] == ["cat", "", "dog|wolf"]
    shares = np.exp([1, 0.5, 0]) / np.exp([1, 0.5, 0]).sum()  # of the mean of the logits
    assert float(rows[0]["probability_2"]) == pytest.approx(shares[1], rel=1e-5)
    assert [row["problem"] for row in rows] == ["from 3.2 s to the end: damaged", "no file", ""]


def test_a_row_for_each_window(tmp_path, kept):
    path, asked = kept(False)
    assert predicted.write(tmp_path / "p.csv", path, asked, by_window=True) == 5
    rows = [(r["start"], r["end"], r["prediction"], r["problem"]) for r in read(tmp_path / "p.csv")]
    assert rows == [
        ("0.0", "1.6", "cat", ""),
        ("1.6", "3.2", "dog|wolf", ""),
        ("", "", "", "from 3.2 s to the end: damaged"),
        ("", "", "", "no file"),
        ("10.0", "11.6", "dog|wolf", ""),
    ]


def test_any_number_of_classes_by_sigmoid_and_lines_of_json(tmp_path, kept):
    path, asked = kept(True)
    assert predicted.write(tmp_path / "p.jsonl", path, asked, top=1) == 3
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [row["prediction"] for row in rows] == [LABELS, [], ["cat", "dog|wolf"]]
    assert rows[0]["classes"] == [
        {"class": "cat", "probability": pytest.approx(1 / (1 + np.exp(-1)), rel=1e-5)}
    ]
    assert rows[1] == {
        "path": asked[1].path, "start": None, "end": None, "prediction": [], "classes": [],
        "problem": "no file",
    }  # fmt: skip


def test_what_cannot_be_done_is_told_before_tensorflow_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vatt.quiet.import_tensorflow_quietly", lambda: pytest.fail("started"))
    (tmp_path / "mine.csv").write_text("path\n")
    model = "--model=tx_fac_tiny"
    assert predict.main(["x.mp4", model, "--output=mine.csv"]) == 2
    assert "mine.csv is there, and was not made by vatt predict" in capsys.readouterr().err
    assert predict.main(["x.mp4", model, "--output=p.csv"]) == 2
    assert "tx_fac_tiny is pretrained and knows no classes: fine-tune" in capsys.readouterr().err
    assert predict.main(["x.mp4", "--model=nowhere", "--output=p.csv"]) == 5
    with pytest.raises(SystemExit):
        predict.main(["x.mp4", model, "--output=p.txt"])
    assert "p.txt must end with .csv or .jsonl" in capsys.readouterr().err


@pytest.mark.slow
def test_files_and_pieces_of_them_are_classified_and_the_command_goes_on(
    place, classifier, tmp_path, monkeypatch, capsys
):
    model = classifier
    some = tmp_path / "some"
    some.mkdir()
    for number in range(3):
        shutil.copy(place / "media" / f"clip{number}.mkv", some)
    (some / "broken.mp4").write_bytes(b"nothing")
    (some / "list.csv").write_text("path,start,end\nclip1.mkv,0.3,1.1\n")
    run, output = place / "runs" / "acts", tmp_path / "p.csv"
    given = [str(some), str(some / "list.csv"), f"--model={run}", f"--output={output}"]
    classify, asked = type(model).classify_files, []

    def stopping(self, clips, **more):
        asked.append(len(clips))
        for number, found in enumerate(classify(self, clips, **more)):
            if len(asked) == 1 and number == 2:
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(type(model), "classify_files", stopping)
    assert predict.main(given) == 130 and not output.exists()
    assert predict.main(given) == 3 and asked == [5, 4]  # what failed is tried again
    assert "broken.mp4: not a media file" in capsys.readouterr().err
    rows = read(output)
    whole = model.classify([some / f"clip{number}.mkv" for number in range(3)])
    part = model.classify(some / "clip1.mkv", start=0.3, end=1.1)
    assert rows[0]["problem"].startswith("not a media file")
    for row, one in zip(rows[1:], [*whole, part], strict=True):
        (best, share), _ = one.top(2)
        assert (row["path"], row["class_1"]) == (str(one.source), best)
        assert float(row["probability_1"]) == pytest.approx(share, rel=1e-4)
        assert float(row["start"]) == pytest.approx(one.starts[0], abs=1e-3)
    assert float(rows[4]["start"]) == 0.3 and float(rows[4]["end"]) == 1.1
    assert predict.main([*given, "--windows"]) == 3 and asked[2] == 1
    times = [{*zip(one.starts, one.ends, strict=True)} for one in (*whole, part)]
    assert len(part) == 2 and len(times[3]) == 1  # the same window twice
    assert len(read(output)) == 1 + sum(map(len, times))
