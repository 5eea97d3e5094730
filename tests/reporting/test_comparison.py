"""Several runs on one page: what is marked and subtracted, what is told, what is refused."""

from __future__ import annotations

import dataclasses
import html
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from pages import Checker, between

from vatt.errors import UserError
from vatt.evaluation.measures import LINEAR, RETRIEVAL, Measure
from vatt.reporting import comparison, pieces, report, sides

RECALL = Measure("a_set", RETRIEVAL, "R10", 0.5, "test", query="text", target="video",
                 variant="embd", chance=0.25, samples=40, gallery=40)  # fmt: skip
RANK = dataclasses.replace(RECALL, name="MedianRank", value=4.0, chance=20.5)
PROBE = Measure("other", LINEAR, "top_1_accuracy", 0.75, target="video", chance=0.125, samples=480)
CONFIG = {
    "task": "Pretrain",
    "model_arch": "tx_fac_tiny",
    "data_dir": "records",
    "train": {"input": {"name": "some", "batch_size": 32}},
    "eval": {"input": {"name": ["a_set"], "split": "test", "num_windows_test": 4}},
}


@pytest.fixture
def make(synthetic, tmp_path):
    """Makes the folder of a run with these measures, settings of its own and last step."""

    def made(name, *measures, step=20, config=CONFIG, **settings):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        lines = [synthetic.line(s, "train", {"total_loss": s / 10}) for s in (10, step)]
        lines += [synthetic.eval_line(step, measures)] if measures else []
        (folder / "metrics.jsonl").write_text("\n".join(lines))
        (folder / "config.yaml").write_text(yaml.safe_dump(config | settings))
        return folder

    return made


def page_of(*folders) -> str:
    path = comparison.write(*folders, output=folders[0].parent / "page.html")
    page = path.read_text(encoding="utf-8")
    assert "script" not in Checker(page).tags and "http://" not in page
    return page


def rows(page: str, start: str = "<h2>Measures</h2>") -> dict[str, list[str]]:
    """Cells of the first table after `start` as text, by the heading of their row."""
    found = re.findall(r"<tr>(.*?)</tr>", between(page, start, "</table>"), re.DOTALL)
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in found]
    texts = [[_text(cell) for cell in row] for row in cells]
    return {row[0]: row[1:] for row in texts if row}


def _text(cell: str) -> str:
    """A cell without tags and with plain signs."""
    text = html.unescape(re.sub(r"<[^>]*>", " ", cell))
    return " ".join(text.replace("\N{MINUS SIGN}", "-").replace(pieces.NONE, "-").split())


def told(page: str) -> list[str]:
    return [html.unescape(t) for t in re.findall(r'<p class="warning">(.*?)</p>', page)]


def test_the_best_is_marked_and_differences_are_from_the_first_that_has_the_figure(make):
    first = make("first", RECALL, RANK)
    better = make("better", *(dataclasses.replace(m, value=m.value / 2) for m in (RECALL, RANK)))
    third = make("third", dataclasses.replace(RECALL, value=0.625), PROBE)
    page = page_of(first, better, third)
    found = rows(page)
    assert found["Text → video: R@10"] == ["25.0 %", "50.0 %", "25.0 % -25.0", "62.5 % +12.5"]
    assert found["Text → video: Median rank"] == ["20.5", "4", "2 -2", "-"]
    assert found["Video: Top-1 accuracy"] == ["12.5 %", "-", "-", "75.0 %"]
    assert found["step"] == ["", "20", "20", "20"]
    table = between(page, "<h2>Measures</h2>", "</table>")
    assert re.findall(r"<b>(.*?)</b>", table) == ["62.5 %", "2"]  # one value alone is no best
    assert told(page) == []


def test_figures_of_other_clips_are_neither_marked_nor_subtracted(make):
    larger = dataclasses.replace(RECALL, value=0.9, samples=400, gallery=400, chance=0.025)
    page = page_of(make("small", RECALL), make("large", larger))
    assert rows(page)["Text → video: R@10"] == ["-", "50.0 % 40 clips", "90.0 % 400 clips"]
    assert "<b>9" not in between(page, "<h2>Measures</h2>", "</table>")
    assert told(page) == [
        "a_set: not the same clips in all runs (40 clips, 400 clips), its figures do not compare."
    ]


def test_figures_whose_chance_alone_differs_do_not_compare(make):
    """As many clips of other classes; a run of an earlier version that does not say compares."""
    other = dataclasses.replace(PROBE, value=0.5, chance=0.25)
    page = page_of(make("a", PROBE), make("b", other))
    assert "guessing reaches other figures" in told(page)[0] and "25.0</span>" not in page
    unsaid = dataclasses.replace(other, chance=None, samples=None)
    assert rows(page_of(make("c", PROBE), make("d", unsaid)))["Video: Top-1 accuracy"] == [
        "12.5 %", "75.0 %", "50.0 % -25.0",
    ]  # fmt: skip


def test_sets_without_a_figure_in_common_are_told(make):
    folds = [dataclasses.replace(PROBE, fold=fold, split=f"test_{fold}") for fold in ("1", "2")]
    (line,) = told(page_of(make("a", folds[0]), make("b", folds[1])))
    assert line.startswith("other, Linear probe: no figure was measured in two runs (")
    assert line.endswith("(fold 1 (test_1), fold 2 (test_2)).")


def test_another_protocol_is_told_where_a_set_is_shared(make):
    ways = {"input": CONFIG["eval"]["input"] | {"num_windows_test": 1}}
    page = page_of(make("a", RECALL), make("b", RECALL, eval=ways, data_dir="others"))
    assert told(page) == [
        "evaluated in different ways, eval.input.num_windows_test: 4 in a, 1 in b.",
        "sets of the same name come from different folders, equal or not: records, others.",
    ]
    assert told(page_of(make("c", RECALL), make("d", PROBE, eval=ways, data_dir="others"))) == []


def test_unfinished_runs_and_those_without_figures_are_told(make):
    optimizer = {"learning_rate": {"total_steps": 80}}
    train = {"input": {"batch_size": 32}, "optimizer": optimizer}
    page = page_of(make("a", RECALL, step=40), make("b", train=train), make("c", RECALL))
    assert told(page) == [
        "b is not finished: step 20 of 80.",
        "b has no figures yet.",
        "the newest figures are of different steps: step 40 of a; step 20 of c.",
    ]
    assert rows(page)["step"] == ["", "40", "-", "20"]
    assert rows(page, "<h2>Runs</h2>")["Steps"] == ["40", "20 of 80", "20"]


def test_only_differences_of_the_configuration_stand_open(make):
    train = {"input": {"name": "some", "batch_size": 64, "fps": None}}
    page = page_of(make("a", RECALL), make("b", RECALL, train=train, seed=3, model_dir="runs/<b>"))
    start = "<h2>Differences of configuration</h2>"
    assert rows(page, start) == {"": ["a", "b"], "train.input.batch_size": ["32", "64"]}
    assert rows(page, "2 settings that not all runs have") == {
        "": ["a", "b"], "train.input.fps": ["-", "null"], "seed": ["-", "3"],
    }  # fmt: skip
    same = rows(page, "7 settings the same")
    assert same["eval.input.name"] == ['["a_set"]'] and same["task"] == ["Pretrain"]
    assert "batches of different sizes" in page and "runs/&lt;b" not in page


def test_curves_of_all_runs_share_a_chart(synthetic, tmp_path):
    """Each run has the colour of its own everywhere; losses that one alone has are left out."""
    folders = [synthetic.make_run(tmp_path / name, every=400, clips=12) for name in "ab"]
    other = (folders[1] / "metrics.jsonl").read_text().replace("vidtxt_loss", "another_loss")
    (folders[1] / "metrics.jsonl").write_text(other)
    page = page_of(*folders)
    chart = between(page, "<b>Total loss</b>", "</figure>")
    assert re.findall(r'<i class="(s\d)"></i>(\w)<', chart) == [("s0", "a"), ("s1", "b")]
    assert "<b>bridge_losses/asymmetric_nce/vidaud_loss</b>" in page
    assert "vidtxt_loss" not in page and "another_loss" not in page
    recall = between(page, "<b>Text → video: R@10</b>", "</figure>")
    assert recall.count('<g class="s0">') == recall.count('<g class="s1">') == 1
    assert "toy_retrieval, zero-shot retrieval" in recall


def test_losses_of_different_methods_are_not_to_be_compared(make):
    arch = CONFIG | {"method": "gdt"}
    page = page_of(make("a", RECALL), make("b", RECALL, config=arch))
    assert "of different methods: heights do not compare" in page
    assert rows(page, "<h2>Runs</h2>")["Run"] == ["Pretraining run", "GDT, pretraining run"]


def test_runs_of_one_name_are_told_apart_and_reports_linked(make, tmp_path):
    folders = [make(f"{where}/toy", RECALL) for where in ("old one", "new")]
    report.write(folders[0])
    page = comparison.write(*folders, output=tmp_path / "page.html").read_text()
    assert "<h1>old one/toy, new/toy</h1>" in page
    assert re.findall(r'href="([^"]*)"', page)[0] == "old%20one/toy/report.html"
    assert "new/toy/report.html" not in page


def test_what_is_no_run_or_given_twice_is_refused(make, tmp_path, monkeypatch, capsys):
    run = make("run", RECALL)
    (tmp_path / "same").symlink_to(run)
    shutil.copytree(run, tmp_path / "many" / "seed0")
    monkeypatch.chdir(tmp_path)
    for arguments, text in (
        (["run", "rum"], "model_dir rum is not a folder. Did you mean 'run'?"),
        (
            ["run", "many"],
            "many is not the folder of a run (no metrics.jsonl); there is many/seed0",
        ),
        (["run", "./run"], "run is given twice: a run is not compared with itself"),
        (["run", "same"], "same is given twice, which is also run"),
        (["run", "many/seed0", "--output=page.txt"], "--output page.txt: the name of a page"),
        (["run", "many/seed0", "--output=run"], "--output run: the name of a page"),
    ):
        assert report.main(arguments) == 2
        assert text in capsys.readouterr().err
    with pytest.raises(UserError, match="13 runs: at most 12"):
        sides.read_all([shutil.copytree(run, tmp_path / f"copy{n}") for n in range(13)])
    assert not list(tmp_path.glob("*.html"))


def test_the_command_writes_where_it_is_told(make, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runs = [str(make(name, RECALL).relative_to(tmp_path)) for name in "ab"]
    assert report.main(runs) == 0 and report.main([*runs, "--output=new/page.html"]) == 0
    assert report.main([runs[0], "--output=alone.html"]) == 0
    assert capsys.readouterr().out.split() == ["comparison.html", "new/page.html", "alone.html"]
    assert "2 runs side by side" in Path("comparison.html").read_text()
    assert "Zero-shot retrieval" in Path("alone.html").read_text()
    assert not Path("a/report.html").exists()


def test_twelve_runs_have_twelve_different_lines(make):
    page = page_of(*(make(f"run{n}", RECALL) for n in range(sides.MOST)))
    lines = re.findall(r'<i class="([^"]*)"></i>run\d', between(page, "<b>Total", "</figure>"))
    assert len(set(lines)) == 12 and sum("dots" in line for line in lines) == 6


def test_values_that_are_not_finite_are_no_best(make):
    values = (np.nan, 0.25, 0.5)
    runs = [make(f"r{n}", dataclasses.replace(RECALL, value=v)) for n, v in enumerate(values)]
    page = page_of(*runs)
    expected = ["25.0 %", "not finite", "25.0 %", "50.0 %"]
    assert rows(page)["Text → video: R@10"] == expected
    assert re.findall(r"<b>(.*?)</b>", between(page, "<h2>Measures", "</table>")) == ["50.0 %"]
