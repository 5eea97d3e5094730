"""The report page: complete runs, runs with parts missing, hostile text, damaged files."""

from __future__ import annotations

import dataclasses
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
from vatt.evaluation.measures import KNN, LINEAR, RETRIEVAL, Measure
from vatt.reporting import pieces, report
from vatt.reporting.history import read


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, synthetic) -> Path:
    return synthetic.make_run(tmp_path_factory.mktemp("runs") / "demo")


def test_complete_run(run_folder):
    page = page_of(run_folder)
    for text in (
        "tx_fac_tiny on toy_howto, toy_audioset",
        "tx_fac_tiny on toy_howto, toy_audioset - vatt report</title>",
        "VATT, pretraining run",
        "4,000 of 4,000",
        "13 min 20 s",
        "48 clips",
        "Text → video",
        "Audio → video",
        "R@10",
        "its colour",
        "chance 20.8\xa0%",  # 10 of 48
        "true clip at rank",
        "Total loss",
        "Learning rate",
        "Gradient norm",
        "Update norm",
        "Model operations",
        "GFLOP/s",
        "<b>Losses</b>",
        "bridge_losses/asymmetric_nce; 0 throughout, not drawn: audtxt",
        "</i>vidtxt</span>",
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
    assert "No evaluation has been logged yet" in page
    assert "There is no config.yaml" in page and "There is no run.json" in page
    assert page.count("<circle") == 1  # one point is drawn as a dot
    assert page.count("Nothing logged yet.") == 7


def test_only_evaluation(synthetic, tmp_path):
    """Measures that no section knows stand in a table of their own, and none is left out."""
    measures = [
        Measure("hmdb51", LINEAR, "new_metric", 0.25, target="video"),
        Measure("kinetics<i>", "reconstruction", "psnr", 21.5, "test", target="video", samples=800),
        Measure("kinetics<i>", "reconstruction", "mAP", 0.5, "test", target="audio", chance=0.125),
        Measure("a_b", RETRIEVAL, "R10", 0.5, "test", query="text", target="video", variant="embd",
                chance=0.5, samples=20),
    ]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text(synthetic.eval_line(5, measures) + "\n")
    page = page_of(tmp_path)
    assert "No training step has been logged yet." in page
    assert "chance 50.0\xa0%" in page and "20 clips" in page
    other = page[page.index("<h2>Other measures</h2>") :].partition("</table>")[0]
    rows = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in other.split("<tr>")[1:]]
    assert rows == [
        ["set", "split", "task", "of", "measure", "step", "value", "chance", "clips"],
        ["hmdb51", "", "linear", "Video", "new_metric", "5", "0.25", "", ""],
        ["kinetics&lt;i&gt;", "test", "reconstruction", "Video", "psnr", "5", "21.5", "", "800"],
        [
            "kinetics&lt;i&gt;",
            "test",
            "reconstruction",
            "Audio",
            "mAP",
            "5",
            "50.0 %",
            "12.5 %",
            "",
        ],
    ]
    assert "Other metrics" not in page and "a_b: no examples were saved" in page


def test_sets_with_figures_are_told_from_those_without(synthetic, tmp_path):
    figures = [Measure(name, LINEAR, "mAP", 0.5, target="video") for name in ("ucf101", "older")]
    (tmp_path / "config.yaml").write_text("eval: {input: {name: [hmdb51, ucf101]}}")
    (tmp_path / "metrics.jsonl").write_text(synthetic.eval_line(5, figures) + "\n")
    assert "ucf101, older, hmdb51 (no figures yet)" in page_of(tmp_path)


def test_evaluations_of_earlier_versions_are_listed_by_name(synthetic, tmp_path):
    """They have names only, which nobody takes apart; a step evaluated again is not among them."""
    names = {"hmdb51_new_metric": 0.25, "a_b_txt2vid_embd_R10": 0.75, "top_1_accuracy": None}
    again = Measure("a_b", RETRIEVAL, "R10", 0.5, query="text", target="video", variant="embd")
    lines = [synthetic.line(4, "eval", names), synthetic.line(5, "eval", names)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    page = page_of(tmp_path)
    other = page[page.index("<h2>Other metrics</h2>") :].partition("</table>")[0]
    assert "2 evaluations of this run were written by an earlier version" in other
    assert [
        name for name in names if f'<th scope="row" class="name">{name}</th><td>5</td>' in other
    ] == [*names]
    assert "<td>0.75</td>" in other and "<td>not finite</td>" in other
    assert "Zero-shot retrieval" not in page and "No evaluation" not in page

    lines = [*lines, synthetic.eval_line(5, [again]), synthetic.eval_line(6, [again])]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    page = page_of(tmp_path)
    other = page[page.index("<h2>Other metrics</h2>") :].partition("</table>")[0]
    assert '<th scope="row" class="name">a_b_txt2vid_embd_R10</th><td>4</td>' in other
    assert "Zero-shot retrieval" in page and "50.0 %" in page


def test_empty_file(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    page = page_of(tmp_path)
    assert "No training step" in page and "No evaluation" in page


def test_cut_last_line_and_rubbish_are_counted(synthetic, tmp_path):
    good = [synthetic.line(step, "train", {"total_loss": 1.0}) for step in (1, 2)]
    bad = ["not json", '{"step": 3}', '{"step": 4, "split": "train", "metrics": {"a": "x"}}', "[1]"]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*good, *bad, good[0][:30]]))
    history = read(tmp_path / "metrics.jsonl")
    assert (history.lines, history.skipped) == (7, 5)
    assert "5 of 7 lines of metrics.jsonl could not be read and are" in page_of(tmp_path)


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        7,
        "text",
        {},
        {"set": "a", "task": "linear", "value": 0.5},
        {"set": "", "task": "linear", "name": "mAP", "value": 0.5},
        {"set": "a", "task": "linear", "name": "mAP", "value": "much"},
        {"set": "a", "task": "linear", "name": ["mAP"], "value": 0.5},
        {"set": "a", "task": "linear", "name": "mAP", "value": 0.5, "chance": "half"},
        {"set": "a", "task": "linear", "name": "mAP", "value": 0.5, "samples": [3]},
        {"set": "a", "task": "linear", "name": "mAP", "value": 0.5, "samples": 10**400},
    ],
)
def test_damaged_measures_are_counted(synthetic, tmp_path, damaged):
    """The others of the line are read; a figure whose measure is lost is listed by its name."""
    good = [Measure(name, KNN, "mAP", 0.25, target="audio") for name in ("first", "second")]
    entry = json.loads(synthetic.eval_line(3, good))
    entry["measures"][0] = damaged
    (tmp_path / "metrics.jsonl").write_text(json.dumps(entry))
    history = read(tmp_path / "metrics.jsonl")
    assert (history.lines, history.skipped, history.unread) == (1, 0, 1)
    assert history.measures.each("set") == ["second"] and [*history.unmeasured] == ["first_knn_mAP"]
    page = page_of(tmp_path)
    assert "1 measure in metrics.jsonl could not be read and is left out" in page
    assert ">second</th>" in page and "earlier version" not in page


def test_measures_that_are_no_list_make_a_line_unreadable(synthetic, tmp_path):
    entry = json.loads(synthetic.line(3, "eval", {"a": 1.0})) | {"measures": {"a": 1}}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(entry))
    history = read(tmp_path / "metrics.jsonl")
    assert history.skipped == 1 and not history.measures and not history.names("eval")


def test_measures_are_selected_by_their_fields(synthetic, tmp_path):
    """A figure measured twice at a step keeps the later value; NaN is told from never measured."""
    recall = Measure("b", RETRIEVAL, "R1", 0.5, query="text", target="video", variant="embd")
    rank = dataclasses.replace(recall, name="MeanRank", value=math.nan, samples=9)
    lines = [
        synthetic.eval_line(20, [recall, rank]),
        synthetic.eval_line(10, [dataclasses.replace(recall, value=0.25)]),
        synthetic.eval_line(20, [dataclasses.replace(recall, value=0.75)]),
        synthetic.eval_line(5, [dataclasses.replace(recall, set="a", query="audio")]),
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    measures = read(tmp_path / "metrics.jsonl").measures
    assert measures.each("set") == ["b", "a"] and measures.steps() == [5, 10, 20]
    assert measures.combinations("query", "target") == [("text", "video"), ("audio", "video")]
    steps, values = measures.select(set="b", name="R1").series()
    assert steps.tolist() == [10, 20] and values.tolist() == [0.25, 0.75]
    step, measure = measures.select(name=("MeanRank",)).latest()
    assert step == 20 and math.isnan(measure.value) and measure.samples == 9
    assert measures.select(set="b", name="MeanRank").at(10) is None
    assert measures.select(set="c").latest() is None and not measures.select(set="c")
    assert len(measures.at_step(20)) == 2 and len(measures.where(lambda m: m.samples)) == 1


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


def test_losses_of_any_method(synthetic, tmp_path):
    """Charts follow the names: one per group, no more curves than colours, copies not drawn."""
    losses = {f"pairs/{kind}_loss": 1.0 + n for n, kind in enumerate("abcdefgh")}
    losses |= {
        "pairs/silent_loss": 0.0,
        "model_loss": 0.5,
        "total_loss": 0.5,
        "other/one_loss": 2.0,
    }
    lines = [synthetic.line(s, "train", losses | {"step_lossy": 1.0}) for s in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    page = page_of(tmp_path)
    notes = re.findall(r'<b>(Total loss|Loss[^<]*)</b><span class="note">([^<]*)</span>', page)
    silent = "pairs; 0 throughout, not drawn: silent"
    assert notes == [
        ("Total loss", "the same, not drawn: model_loss"),
        ("Losses", silent),
        ("Losses", silent),
        ("Loss: one", "other"),
    ]
    labels = re.findall(r'<i class="(s\d)"></i>(\w)<', page)
    assert labels == [(f"s{n % 4}", kind) for n, kind in enumerate("abcdefgh")]


@pytest.mark.parametrize(
    ("files", "lead"),
    [
        ({}, "Training run"),
        ({"config.yaml": "task: Pretrain\nmodel_arch: x"}, "Pretraining run"),
        ({"ckpt-2.json": '{"kind": "finetune"}'}, "Fine-tuning run"),
        ({"ckpt-2.json": '{"method": "gdt", "kind": "pretrain"}'}, "GDT, pretraining run"),
        ({"ckpt-9.json": '{"method": "a_b"}', "ckpt-10.json": "{"}, "Training run"),
        (
            {
                "config.yaml": "task: Pretrain\nmethod: eao",
                "ckpt-2.json": '{"method": "gdt"}',
                "run.json": '{"launches": [{"method": "x"}, {"method": "av_mae"}]}',
            },
            "AV-MAE, pretraining run",
        ),
    ],
)
def test_the_page_names_the_method(synthetic, tmp_path, files, lead):
    (tmp_path / "metrics.jsonl").write_text(synthetic.line(1, "train", {"total_loss": 1.0}))
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert f'<p class="lead">{lead}</p>' in page_of(tmp_path)


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


def test_numbers_that_nothing_has_are_passed_over(synthetic, tmp_path):
    huge = 10**400
    lines = [json.loads(synthetic.line(step, "train", {"a": 1.0}, 0.0)) for step in (1, 2, 3)]
    lines[0]["time"] = huge
    lines[1]["step"] = huge
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    launch = {"started": "0001-01-01", "parameters": huge}
    (tmp_path / "run.json").write_text(json.dumps({"launches": [launch]}))
    history = read(tmp_path / "metrics.jsonl")
    assert (history.skipped, history.steps("train")) == (1, [1, 3])
    assert list(history.times["train"]) == [3]
    assert "0001-01-01" in page_of(tmp_path)


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
