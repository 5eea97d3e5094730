"""The report page: complete runs, runs with parts missing, hostile text, damaged files."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pages import Checker, page_of

from vatt.errors import UserError
from vatt.reporting import pieces, report
from vatt.reporting.history import read


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, synthetic) -> Path:
    return synthetic.make_run(tmp_path_factory.mktemp("runs") / "demo")


def test_complete_run(run_folder):
    page = page_of(run_folder)
    for text in (
        "tx_fac_tiny on toy_howto, toy_audioset",
        "4,000 of 4,000",
        "13 min 20 s",
        "48 clips",
        "Text → video",
        "Audio → video",
        "R@10",
        "its colour",
        "chance 20.8&nbsp;%",  # 10 of 48
        "true clip at rank",
        "Total loss",
        "Learning rate",
        "Gradient norm",
        "Update norm",
        "Model operations",
        "GFLOP/s",
        "weight 0, not drawn: audio-text",
        "versions.tensorflow",
        "Resolved configuration",
    ):
        assert text in page, text
    assert 'class="missing"' not in page


def test_page_is_self_contained_and_text_is_escaped(run_folder):
    page = page_of(run_folder)
    checker = Checker(page)
    assert checker.links and all(
        link.startswith("data:image/jpeg;base64,") for link in checker.links
    )
    assert "script" not in checker.tags
    assert "&lt;script&gt;alert(" in page
    assert not re.search(r"https?://", page)
    assert "url(" not in page and "@import" not in page
    assert "default-src 'none'" in page


def test_only_training_so_far(synthetic, tmp_path):
    (tmp_path / "metrics.jsonl").write_text(synthetic.line(10, "train", {"total_loss": 3.5}) + "\n")
    page = page_of(tmp_path)
    assert "No retrieval evaluation has been logged yet" in page
    assert "There is no config.yaml" in page and "There is no run.json" in page
    assert page.count("<circle") == 1  # one point is drawn as a dot
    assert page.count("Nothing logged yet.") == 8


def test_only_evaluation(synthetic, tmp_path):
    values = {"hmdb51_new_metric": 0.25, "a_b_txt2vid_embd_R10": 0.5, "a_b_num_clips": 20.0}
    (tmp_path / "metrics.jsonl").write_text(synthetic.line(5, "eval", values) + "\n")
    page = page_of(tmp_path)
    assert "No training step has been logged yet." in page
    assert "chance 50.0&nbsp;%" in page  # from the number of clips
    assert "Other metrics" in page and "hmdb51_new_metric" in page
    assert "a_b: no examples were saved" in page


def test_empty_file(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    page = page_of(tmp_path)
    assert "No training step" in page and "No retrieval evaluation" in page


def test_cut_last_line_and_rubbish_are_counted(synthetic, tmp_path):
    good = [synthetic.line(step, "train", {"total_loss": 1.0}) for step in (1, 2)]
    bad = ["not json", '{"step": 3}', '{"step": 4, "split": "train", "metrics": {"a": "x"}}', "[1]"]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*good, *bad, good[0][:30]]))
    history = read(tmp_path / "metrics.jsonl")
    assert (history.lines, history.skipped) == (7, 5)
    assert "5 of 7 lines of metrics.jsonl could not be read and are" in page_of(tmp_path)


def test_repeated_steps_keep_the_last_value_and_merge_data_sets(synthetic, tmp_path):
    lines = [
        synthetic.line(20, "train", {"a": 1.0, "b": 5.0}),
        synthetic.line(10, "train", {"a": 2.0}),
        synthetic.line(20, "train", {"a": 3.0}),
        synthetic.line(20, "eval", {"c": 4.0}),
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    history = read(tmp_path / "metrics.jsonl")
    steps, values = history.series("train", "a")
    assert steps.tolist() == [10, 20] and values.tolist() == [2.0, 3.0]
    assert history.latest("train", "b") == (20, 5.0)
    assert history.steps("eval") == [20] and history.latest("eval", "a") is None


def test_values_that_are_not_finite_are_gaps(synthetic, tmp_path):
    values = [1.0, 2.0, math.nan, 3.0, math.inf, 4.0, 5.0]
    lines = [
        synthetic.line(i, "train", {"total_loss": v, "learning_rate": math.nan})
        for i, v in enumerate(values)
    ]
    lines.append(json.dumps({"step": 7, "split": "train", "metrics": {"total_loss": None}}))
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    page = page_of(tmp_path)
    assert "3 values not finite, shown as gaps" in page
    assert "No finite value was logged." in page
    curve = re.search(r'<g class="s0"><path d="([^"]*)"', page)[1]
    assert curve.count("M") == 3
    for path in re.findall(r' d="([^"]*)"', page):
        assert "nan" not in path and "inf" not in path


@pytest.mark.parametrize("steps", [1, 2, 239, 241, 5000])
def test_any_number_of_points(synthetic, tmp_path, steps):
    rng = np.random.default_rng(steps)
    lines = [synthetic.line(i, "train", {"total_loss": float(rng.normal())}) for i in range(steps)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert len(page_of(tmp_path)) < 120_000


def test_damaged_neighbours_are_named(synthetic, tmp_path):
    synthetic.make_run(tmp_path, every=400, steps=400, clips=12)
    (tmp_path / "config.yaml").write_text("a: [1\nb: <i>&")
    (tmp_path / "run.json").write_text('{"a": ')
    for path in (tmp_path / "eval").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    page = page_of(tmp_path)
    assert "config.yaml is not valid YAML" in page and "&lt;i&gt;&amp;" in page
    assert "run.json is not valid JSON" in page
    assert "No retrieval examples from toy_retrieval-400.npz" in page


def test_duration_leaves_out_the_pauses_between_launches(synthetic, tmp_path):
    """Steps take 0.2 s; the run is killed after step 50 and starts again 1000 s later."""
    begin = 1_700_000_000.0
    lines = [synthetic.line(s, "train", {"a": 1.0}, begin) for s in (25, 50)]
    lines += [synthetic.line(s, "train", {"a": 1.0}, begin + 1000) for s in (75, 100)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    launches = [{"started": "2023-11-14T22:13:20+0000"}, {"started": "2023-11-14T22:30:10+0000"}]
    (tmp_path / "run.json").write_text(json.dumps({"launches": launches}))
    page = page_of(tmp_path)  # 10 s, then 1010 to 1020
    assert "0 min 20 s in 2 launches" in page
    assert "1 earlier launch of this run" in page
    (tmp_path / "run.json").write_text('{"launches": []}')
    assert "run.json lists no launch." in page_of(tmp_path)


def test_newest_artefact_by_number_not_by_name(tmp_path):
    for name in ("a-b-900.npz", "a-b-1000.npz", "c-5.npz", "notes.npz"):
        (tmp_path / name).write_bytes(b"")
    newest = {name: path.name for name, path in pieces.newest(tmp_path).items()}
    assert newest == {"a-b": "a-b-1000.npz", "c": "c-5.npz"}
    assert pieces.newest(tmp_path / "absent") == {}


def test_missing_folder_and_missing_metrics_are_user_errors(tmp_path, capsys):
    (tmp_path / "toy_run").mkdir()
    with pytest.raises(UserError, match="Did you mean"):
        report.write(tmp_path / "toy_rum")
    with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be read"):
        report.write(tmp_path / "toy_run")
    assert report.main([str(tmp_path / "toy_run")]) == 2
    assert "metrics.jsonl" in capsys.readouterr().err


def test_command_line_needs_no_heavy_import(run_folder):
    code = (
        "import sys\nfrom vatt.reporting import report\n"
        f"assert report.main([{str(run_folder)!r}]) == 0\n"
        "assert not {'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(run_folder / "report.html")
