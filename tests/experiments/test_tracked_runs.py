"""What a tracker is told of a whole run: training, evaluations, checkpoints, the end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vatt.experiments import executor
from vatt.training import trackers

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import test_pretrain
from test_pretrain import data_dir  # noqa: F401  the records of its module
from test_tracking import recorded  # noqa: F401


@pytest.mark.slow
def test_a_run_and_a_later_evaluation_are_one_tracked_run(data_dir, tmp_path, recorded):  # noqa: F811
    cfg = test_pretrain.config(data_dir, tmp_path / "run", mode="train_and_eval")
    assert executor.run(cfg, trackers=["recorded"]) == 0
    begin, first_file, *told = recorded.told
    assert begin[:2] == ("begin", "run") and begin[2]["train.save_checkpoint_freq"] == 3
    assert first_file == ("file", "config.yaml") and told[-1] == ("end", trackers.DONE)
    notes = [message[1:] for message in told if message[0] == "note"]
    assert [text for name, text in notes if name == "checkpoint"] == ["ckpt-3", "ckpt-6"]
    evaluated = [text for name, text in notes if name == "evaluated"]
    assert [text.split()[0] for text in evaluated] == ["ckpt-3", "ckpt-6"]
    assert told.count(("file", "report.html")) == 2
    by_step = [(step, set(values)) for kind, step, values in told_metrics(told) if kind]
    training = [step for step, tags in by_step if "loss/total_loss" in tags]
    measures = [step for step, tags in by_step if "retrieval/search/txt2vid/R10" in tags]
    assert training == measures == [3, 6]

    del recorded.told[:]
    other = test_pretrain.config(data_dir, tmp_path / "run", mode="eval")
    other.eval.input.num_windows_test = 1  # other figures: into a folder of their own
    assert executor.run(other, trackers=["recorded"]) == 0
    assert recorded.told[0][3] == "run-1" and recorded.told[-1] == ("end", trackers.DONE)
    tags = {tag for _, _, values in told_metrics(recorded.told) for tag in values}
    assert "search/retrieval/search/txt2vid/R10" in tags


def told_metrics(told):
    return [message for message in told if message[0] == "metrics"]
