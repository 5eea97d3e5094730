"""The end of a training whose figure gets no better: when, told by what, on which split."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from vatt import configs
from vatt.errors import UserError
from vatt.evaluation.measures import Measure, published_names
from vatt.experiments import beforehand, executor, selection
from vatt.training import loop
from vatt.training.checkpoints import CheckpointStore
from vatt.training.rundir import RunDir

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import test_loop
import test_pretrain
from test_pretrain import data_dir  # noqa: F401  the records of its module

RECALL, RANK = "toy_txt2vid_embd_R10", "toy_txt2vid_embd_MedianRank"


def evaluated(folder, step, value, name="R10"):
    measure = Measure("toy", "retrieval", name, value, query="text", target="video", variant="embd")
    RunDir(folder).write_metrics("eval", step, published_names([measure]), [measure.as_dict()])


def experiment(**train):
    return test_loop.experiment(total_steps=60, save_every=5, **train)


@pytest.mark.parametrize(
    ("values", "after", "best"),
    [
        ((), 0, 0),
        ((0.1,), 0, 10),
        ((0.1, 0.3, 0.2, 0.3), 2, 20),  # an equal one is no better
        ((0.4, float("nan"), 0.2), 2, 10),
        ((float("nan"), float("nan")), 2, 0),
        ((0.1, 0.2, 0.3), 0, 30),
    ],
)
def test_evaluations_since_the_best(tmp_path, values, after, best):
    for place, value in enumerate(values, start=1):
        evaluated(tmp_path, 10 * place, value)
    assert selection.since_best(tmp_path, RECALL) == (after, best)


def test_low_ranks_are_good_ones(tmp_path):
    for step, rank in ((1, 9.0), (2, 4.0), (3, 5.0)):
        evaluated(tmp_path, step, rank, "MedianRank")
    assert selection.since_best(tmp_path, RANK) == (1, 2)


def test_a_training_ends_when_its_figure_gets_no_better_and_stays_ended(tmp_path, caplog):
    recalls = {5: 0.1, 10: 0.5, 15: 0.3, 20: 0.5, 25: 0.2}
    cfg = experiment(keep_best=RECALL, early_stop=3, max_checkpoints=1)
    steps = []

    def train(patience):
        cfg.train.early_stop = patience
        strategy = test_loop.one_device()
        recipe = test_loop.Regression(cfg, strategy)
        rundir = RunDir(tmp_path)
        return loop.train(
            recipe,
            cfg,
            strategy,
            rundir,
            lambda step: (steps.append(step), evaluated(tmp_path, step, recalls.get(step, 0.4))),
            best=functools.partial(selection.best, tmp_path, RECALL),
            enough=functools.partial(selection.enough, tmp_path, cfg.train),
        )

    with caplog.at_level("INFO", logger="absl"):
        assert train(3) == 0
    assert steps == [5, 10, 15, 20, 25]
    assert CheckpointStore(tmp_path).steps() == [10, 25]  # the best and the last
    assert "has not become better in 3 evaluations; the best is ckpt-10" in caplog.text
    assert train(3) == 0 and steps[-1] == 25  # the same command has nothing to do
    assert train(5) == 0 and steps[5:] == [30, 35]  # with more patience it goes on


def test_figures_of_a_test_split_end_no_training(tmp_path):
    cfg = configs.resolve(
        config_file="configs/pretrain/toy.yaml",
        model_dir=str(tmp_path),
        mode="train_and_eval",
        params_override=f"train.keep_best={RECALL},train.early_stop=3",
    )
    for split in ("test", "test_2", "evaluation"):
        cfg.eval.input.split = split
        with pytest.raises(UserError, match=f"eval.input.split is '{split}', a split to test on"):
            beforehand.check(cfg)
    for split, chosen in (("valid", False), ("val", False), ("dev_1", False), ("test", True)):
        cfg.eval.input.split = split
        assert beforehand.chooses_on_test(cfg) == chosen
    assert beforehand.chooses_on_test(configs.resolve(task="finetune", model_arch="vit_tiny"))


def test_early_stop_needs_a_figure():
    with pytest.raises(configs.ConfigError, match=r"train\.early_stop.*train\.keep_best"):
        configs.resolve(
            config_file="configs/pretrain/toy.yaml", params_override="train.early_stop=3"
        )


@pytest.mark.slow
def test_a_run_that_goes_on_from_a_checkpoint_with_frozen_statistics(data_dir, tmp_path, caplog):  # noqa: F811
    first = test_pretrain.config(data_dir, tmp_path / "first")
    assert executor.run(first) == 0
    tuned = test_pretrain.config(
        data_dir,
        tmp_path / "tuned",
        mode="train_and_eval",
        **{"train.freeze_batch_norm": True, "train.keep_best": "search_txt2vid_embd_R10"},
    )
    tuned.checkpoint_path = str(tmp_path / "first" / "ckpt-6")
    with caplog.at_level("WARNING", logger="absl"):
        assert executor.run(tuned) == 0
    assert "is measured on 'test', a split to test on" in caplog.text
    before, after = (test_pretrain.values(tmp_path / name, 6) for name in ("first", "tuned"))
    moving = [name for name in before if name.endswith("moving_variance")]
    changed = [name for name in before if np.any(before[name] != after[name])]
    assert moving and not set(moving).intersection(changed)
    assert any(name.endswith("gamma") for name in changed)
    metrics = json.loads((tmp_path / "tuned" / "metrics.json").read_text())
    assert metrics["step"] == 6
