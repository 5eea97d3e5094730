"""Fold after fold by one command: which, where, and mean and spread of what they reach."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from vatt.errors import DataError, UserError
from vatt.evaluation.measures import Measure
from vatt.experiments import folds, selection
from vatt.reporting import history

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
import corpus
import test_finetune


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    splits = {}
    for fold in (1, 2):
        for part, numbers in (("train", range(8)), ("test", range(20, 24 + fold))):
            records = [corpus.example(i + fold) for i in numbers]
            rate = test_finetune.SAMPLE_RATE
            corpus.write_set(
                folder, "acts", records, split=f"{part}_{fold}", sample_rate=rate, text=False
            )
            splits |= yaml.safe_load((folder / "acts" / "card.yaml").read_text())["splits"]
    test_finetune.write_card(folder, "acts", splits=splits, tasks=["video_classification"])
    corpus.write_set(folder, "whole", records, split="train", sample_rate=rate, text=False)
    test_finetune.write_card(folder, "whole", tasks=["video_classification"])
    return folder


@pytest.mark.slow
def test_every_fold_is_a_run_and_the_folder_has_mean_and_spread(data_dir, tmp_path):
    run = tmp_path / "run"
    cfg = test_finetune.config(data_dir, run, mode="train_and_eval", steps=2)
    assert folds.run(cfg, "all", ["vatt"]) == 0
    names, accuracies, clips = {}, [], []
    for fold in ("1", "2"):
        own = run / f"fold_{fold}"
        names[fold] = yaml.safe_load((own / "config.yaml").read_text())
        assert names[fold]["train"]["input"]["split"] == f"train_{fold}"
        assert names[fold]["eval"]["input"]["split"] == f"test_{fold}"
        figures = json.loads((own / "metrics.json").read_text())
        accuracies.append(figures["top_1_accuracy"])
        clips.append(figures["num_clips"])
        (measure,) = {m.fold for _, m in history.read(own / "metrics.jsonl").measures if m.fold}
        assert measure == fold
    assert clips == [5, 6]
    figures = json.loads((run / "metrics.json").read_text())
    assert figures["step"] == 2 and figures["num_clips"] == 11
    assert figures["top_1_accuracy"] == pytest.approx(np.mean(accuracies))
    assert figures["top_1_accuracy_std"] == pytest.approx(np.std(accuracies, ddof=1))
    page = (run / "report.html").read_text()
    assert "fold_2/report.html" in page and "mean over folds" in page
    before = (run / "fold_1" / "metrics.jsonl").read_text()
    assert folds.run(cfg, "all", ["vatt"]) == 0  # nothing is left to do
    assert (run / "fold_1" / "metrics.jsonl").read_text() == before
    assert json.loads((run / "metrics.json").read_text()) == figures


def measures_of(values, name="top_1_accuracy"):
    """What a run has measured: a value at every second step, and a figure that falls."""
    found = history.Measures()
    for step, value in enumerate(values, 1):
        options = {"split": "test_1", "fold": "1", "target": "video", "samples": 4}
        found.add(2 * step, Measure("acts", "classification", name, value, **options))
        found.add(2 * step, Measure("acts", "classification", "entropy", -value, **options))
        found.add(2 * step, Measure("acts", "linear", name, 9.0))
    return found


def test_the_last_checkpoint_counts_unless_the_best_is_asked_for():
    def figures(values, last):
        chosen = selection.chosen(measures_of(values), last)
        return {(step, measure.name, measure.value) for step, measure in chosen}

    values = [0.9, 0.3, 0.7, 0.7, 0.5]
    assert figures(values, 1) == {(10, "top_1_accuracy", 0.5), (10, "entropy", -0.5)}
    assert figures(values, 4) == {(6, "top_1_accuracy", 0.7), (6, "entropy", -0.7)}
    assert figures(values, 9) == {(2, "top_1_accuracy", 0.9), (2, "entropy", -0.9)}
    assert figures([np.nan, 0.1], 2) == {(4, "top_1_accuracy", 0.1), (4, "entropy", -0.1)}
    assert len(selection.chosen(history.Measures(), 3)) == 0


@pytest.mark.slow
def test_folds_with_the_best_checkpoint_of_each(data_dir, tmp_path):
    """metrics.json of each fold, and the mean over them, have the figures of the best one."""
    run = tmp_path / "run"
    eval_config = {"best_on_test_of_last": 2, "report": False}
    cfg = test_finetune.config(data_dir, run, mode="train_and_eval", steps=4, eval=eval_config)
    assert folds.run(cfg, "all", ["vatt"]) == 0
    best = []
    for fold in ("1", "2"):
        own = run / f"fold_{fold}"
        steps, values = history.read(own / "metrics.jsonl").series("eval", "top_1_accuracy")
        assert list(steps) == [2, 4]
        figures = json.loads((own / "metrics.json").read_text())
        assert figures["top_1_accuracy"] == max(values)
        assert figures["step"] == steps[int(np.argmax(values))]
        best.append(max(values))
    mean = json.loads((run / "metrics.json").read_text())["top_1_accuracy"]
    assert mean == pytest.approx(np.mean(best))


def test_figures_of_some_folds_only_have_no_mean():
    def of(fold, name, value, chance=0.25):
        found = {"split": f"test_{fold}", "fold": fold, "target": "video"}
        return Measure("acts", "classification", name, value, chance=chance, samples=8, **found)

    found = [
        *(of(str(n), "top_1_accuracy", value) for n, value in enumerate((0.5, 0.75, 1.0), 1)),
        *(of(str(n), "top_5_accuracy", 1.0, None) for n in (1, 2, 3)),
        of("2", "clips_without_label", 3.0),
    ]
    first, second = folds.mean_measures(found)
    assert (first.name, first.value, first.spread) == ("top_1_accuracy", 0.75, 0.25)
    assert (first.split, first.fold, first.samples, first.chance) == ("", "", 24, 0.25)
    assert (second.name, second.value, second.spread, second.chance) == (
        "top_5_accuracy",
        1.0,
        0.0,
        None,
    )


@pytest.mark.parametrize(
    ("wanted", "changes", "says"),
    [
        ("3", {}, r"--folds=3: data set 'acts' has no fold '3'; accepted: all, or some of 1,2"),
        ("al", {}, r"Did you mean 'all'"),
        ("all", {"name": "whole"}, r"'whole' has no folds \(splits train_1 and test_1"),
        ("all", {"train": {"input": {"split": "train_1"}}}, r"train\.input\.split: 'train_1'"),
        ("all", {"eval": {"input": {"name": "whole"}}}, r"eval\.input\.name: 'whole'"),
        ("all", {"mode": "eval", "checkpoint_path": "x"}, "leave out --override_checkpoint"),
    ],
)
def test_what_has_no_folds_is_refused_before_anything_is_written(
    data_dir, tmp_path, wanted, changes, says
):
    changes = {"mode": "train_and_eval"} | changes
    cfg = test_finetune.config(data_dir, tmp_path / "run", **changes)
    with pytest.raises((UserError, DataError), match=says):
        folds.run(cfg, wanted)
    assert not (tmp_path / "run").exists()
