"""Which checkpoints stay: the last ones, every n-th, the best, and all that is not ours."""

from __future__ import annotations

import functools

import pytest
import test_checkpoints
import test_loop

from vatt.errors import UserError
from vatt.evaluation.measures import Measure, published_names
from vatt.experiments import selection
from vatt.training import loop
from vatt.training.checkpoint_files import Retention
from vatt.training.checkpoints import CheckpointStore
from vatt.training.rundir import RunDir

FOREIGN = ("ckpt-10.mine", "ckpt-1.index", "ckpt-10.data-00000-of-00001.bak", "notes.json", "ckpt")
RECALL, RANK = "toy_txt2vid_embd_R10", "toy_txt2vid_embd_MedianRank"


def found(name, value):
    return Measure("toy", "retrieval", name, value, query="text", target="video", variant="embd")


def evaluated(folder, step, recall, rank=1.0):
    own = [found("R10", recall), found("MedianRank", rank), found("spread", recall)]
    rows = [measure.as_dict() for measure in own]
    RunDir(folder).write_metrics("eval", step, published_names(own), rows)


def test_a_training_keeps_the_last_every_nth_and_the_best(tmp_path):
    """60 steps saved every 5; the best is evaluated at 25, long before the end."""
    recalls = {5: 0.1, 10: 0.5, 15: 0.3, 25: 0.9, 30: float("nan"), 45: 0.9}
    cfg = test_loop.experiment(
        total_steps=60, save_every=5, max_checkpoints=2, keep_every_steps=20, keep_best=RECALL
    )
    kept = []

    def evaluate(step):
        for name in FOREIGN if step == 5 else ():
            (tmp_path / name).write_text("of somebody else")
        evaluated(tmp_path, step, recalls.get(step, 0.2))
        kept.append(CheckpointStore(tmp_path).steps())

    strategy = test_loop.one_device()
    recipe = test_loop.Regression(cfg, strategy)
    best = functools.partial(selection.best, tmp_path, cfg.train.keep_best)
    assert loop.train(recipe, cfg, strategy, RunDir(tmp_path), evaluate, best=best) == 0
    assert kept[:6] == [[5], [5, 10], [10, 15], [10, 15, 20], [10, 20, 25], [20, 25, 30]]
    assert kept[-1] == [20, 25, 40, 55, 60]
    store = CheckpointStore(tmp_path)
    assert [store.verify(step) for step in store.steps()] == [None] * 5
    bundles = {path.stem for path in tmp_path.glob("ckpt-*.index")} - {"ckpt-1"}
    assert bundles == {f"ckpt-{step}" for step in store.steps()}
    for name in FOREIGN:
        assert (tmp_path / name).read_text() == "of somebody else"


def test_the_best_is_the_highest_recall_and_the_lowest_rank(tmp_path):
    assert selection.best(tmp_path, RECALL, [1, 2]) is None
    for step, recall, rank in ((1, 0.2, 9.0), (2, 0.7, 3.0), (3, 0.7, 2.0), (4, 0.9, 8.0)):
        evaluated(tmp_path, step, recall, rank)
    assert selection.best(tmp_path, RECALL, [1, 2, 3, 4]) == 4
    assert selection.best(tmp_path, RECALL, [1, 2, 3]) == 2  # the other is gone
    assert selection.best(tmp_path, RANK, [1, 2, 3, 4]) == 3
    assert selection.best(tmp_path, RECALL, [5]) is None


def test_a_figure_that_cannot_choose_is_told(tmp_path):
    evaluated(tmp_path, 1, 0.5)
    with pytest.raises(UserError, match=r"no figure is called 'toy_txt2vid_embd_R11'\. Did you me"):
        selection.best(tmp_path, "toy_txt2vid_embd_R11", [1])
    with pytest.raises(UserError, match="whether high or low values are good"):
        selection.best(tmp_path, "toy_txt2vid_embd_spread", [1])


def test_without_a_number_to_keep_nothing_is_removed(tmp_path):
    store = CheckpointStore(tmp_path, Retention(0, 2, lambda steps: pytest.fail("asked")))
    for step in range(1, 6):
        store.save(step, test_checkpoints.variables(step))
    assert store.steps() == [1, 2, 3, 4, 5]
