"""Which checkpoints an evaluation takes: each once, in order, whatever happens to the others."""

from __future__ import annotations

import dataclasses
import json
import threading
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from vatt import configs
from vatt.errors import CheckpointError
from vatt.evaluation.measures import Measure
from vatt.experiments import evaluator
from vatt.training.checkpoints import CheckpointStore, fingerprint, variable_map
from vatt.training.rundir import RunDir


class Model(keras.Model):
    def __init__(self, units=2):
        super().__init__(name="model")
        self.dense = keras.layers.Dense(units, name="dense")
        self.dense.build((None, 3))
        self.built = True


class Evaluator(evaluator.Evaluator):
    """Measures the first weight; `during(step)` happens while a checkpoint is evaluated."""

    def __init__(self, folder, during=lambda step: None):
        cfg = configs.resolve(task="pretrain", mode="eval", model_arch="tx_fac_tiny")
        cfg.train.optimizer.learning_rate.total_steps = 3
        cfg.eval.report, cfg.eval.poll_interval_s, cfg.eval.timeout_s = False, 10, 100
        super().__init__(cfg, Model(), tf.distribute.get_strategy(), RunDir(folder))
        self.seen, self.during = [], during

    def measure(self, step, checkpoint):
        self.during(step)
        value = float(self._model.dense.kernel.numpy()[0, 0])
        self.seen.append((step, value, checkpoint))
        return [Measure("set", "classification", "value", value)]


def write(folder, *steps, units=2):
    store, model = CheckpointStore(folder), Model(units)
    for step in steps:
        model.dense.kernel.assign(keras.ops.full((3, units), step / 4))
        store.save(step, variable_map(model))


def remove(folder, step):
    for path in folder.glob(f"ckpt-{step}.*"):
        path.unlink()


@pytest.fixture
def log(monkeypatch):
    lines = []
    fake = types.SimpleNamespace(
        **{
            level: lambda text, *values: lines.append(text % values if values else text)
            for level in ("info", "warning")
        }
    )
    monkeypatch.setattr(evaluator, "logging", fake)
    return lines


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only in sleep; what `events` holds for a time happens then."""
    now, events = [0.0], {}

    def sleep(seconds):
        now[0] += seconds
        for when in sorted(time for time in events if time <= now[0]):
            events.pop(when)()

    fake = types.SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    monkeypatch.setattr(evaluator, "time", fake)
    return events


def test_every_checkpoint_once_in_order_and_none_again_after_a_restart(tmp_path, clock):
    write(tmp_path, 1, 2, 3)
    first = Evaluator(tmp_path)
    assert first.run() == 0
    prints = [fingerprint(tmp_path / f"ckpt-{step}") for step in (1, 2, 3)]
    assert first.seen == [(1, 0.25, prints[0]), (2, 0.5, prints[1]), (3, 0.75, prints[2])]
    second = Evaluator(tmp_path)
    assert second.run() == 0 and second.seen == []
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"value": 0.75, "step": 3}


def test_what_is_measured_stands_in_the_log_beside_its_names(tmp_path, clock):
    write(tmp_path, 3)
    job = Evaluator(tmp_path)
    found = [
        Measure("acts", "linear", "top_1_accuracy", 0.5, "test", "1", target="video", chance=0.125),
        Measure("acts", "linear", "top_1_accuracy", np.float64("nan"), target="video", samples=9),
    ]
    job.measure = lambda step, checkpoint: found
    assert job.run() == 0
    (row,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert (row["step"], row["split"]) == (3, "eval")
    assert row["metrics"] == {
        "acts_1_test_top_1_accuracy": 0.5,
        "acts_chance_top_1_accuracy": 0.125,
        "acts_top_1_accuracy": None,
    }
    checkpoint = {"checkpoint": fingerprint(tmp_path / "ckpt-3")}
    assert row["measures"] == [measure.as_dict() | checkpoint for measure in found]
    assert Measure.from_dict(row["measures"][0]) == dataclasses.replace(found[0], **checkpoint)
    assert json.loads((tmp_path / "metrics.json").read_text()) == row["metrics"] | {"step": 3}


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_any_number_of_rows_goes_through_a_model_a_batch_at_a_time(tmp_path, rows):
    job = Evaluator(tmp_path)
    job._cfg.eval.input.batch_size, shapes = 3, []

    def double(inputs):
        shapes.append(inputs["x"].shape)
        return {"y": 2 * inputs["x"]}

    values = np.arange(2.0 * rows).reshape(rows, 2)
    np.testing.assert_array_equal(job.on_replicas(double, {"x": values})["y"], 2 * values)
    assert shapes == [(3, 2)] * -(-rows // 3)


def test_checkpoints_that_training_removes_meanwhile(tmp_path, clock, log):
    write(tmp_path, 1, 2, 3)

    def prune(step):  # the one that is being evaluated, and the one after it
        remove(tmp_path, step)
        if step == 1:
            remove(tmp_path, 2)

    job = Evaluator(tmp_path, prune)
    assert job.run() == 0
    assert [(step, value) for step, value, _ in job.seen] == [(1, 0.25), (3, 0.75)]
    (told,) = [line for line in log if "ckpt-2 is not evaluated" in line]
    assert told == "ckpt-2 is not evaluated: removed, as old checkpoints are"


def test_a_checkpoint_that_vanishes_between_two_looks(tmp_path, clock, log, monkeypatch):
    write(tmp_path, 1, 3)
    real = evaluator.restore

    def restore(prefix, variables):
        if prefix.name == "ckpt-1":
            remove(tmp_path, 1)
        return real(prefix, variables)

    monkeypatch.setattr(evaluator, "restore", restore)
    job = Evaluator(tmp_path)
    assert job.run() == 0
    assert [step for step, *_ in job.seen] == [3]
    assert any("ckpt-1 is not evaluated" in line for line in log)


def test_a_half_written_checkpoint_is_told_once_and_tried_again(tmp_path, clock, log):
    write(tmp_path, 1, 2)
    data = tmp_path / "ckpt-1.data-00000-of-00001"
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    clock[35] = lambda: data.write_bytes(whole)
    clock[65] = lambda: write(tmp_path, 3)
    job = Evaluator(tmp_path)
    assert job.run() == 0
    assert [(step, value) for step, value, _ in job.seen] == [(2, 0.5), (1, 0.25), (3, 0.75)]
    assert len([line for line in log if "ckpt-1 is not evaluated" in line]) == 1
    assert json.loads((tmp_path / "evaluated.json").read_text()) == [1, 2, 3]


@pytest.mark.parametrize("text", ["", "[" * 100_000, "{}", '["1", null]', "9" * 5000], ids=range(5))
def test_a_damaged_list_of_what_is_evaluated_begins_again(tmp_path, clock, text):
    write(tmp_path, 1)
    (tmp_path / "evaluated.json").write_text(text)
    job = Evaluator(tmp_path)
    assert job.catch_up() == 1 and job.catch_up() == 0


def test_an_evaluation_that_was_interrupted_is_done_again(tmp_path, clock):
    write(tmp_path, 1, 3)

    def interrupt(step):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Evaluator(tmp_path, interrupt).run()
    job = Evaluator(tmp_path)
    assert job.run() == 0
    assert [step for step, *_ in job.seen] == [3]


def test_polling_looks_once_per_interval_and_ends(tmp_path, clock, log, monkeypatch):
    looks = []
    real = CheckpointStore.steps
    monkeypatch.setattr(CheckpointStore, "steps", lambda self: looks.append(1) or real(self))
    job = Evaluator(tmp_path)
    assert job.run() == 0 and job.seen == []
    assert len(looks) == 100 / 10 + 2  # at the start, then after each wait until it has been longer
    assert any("no new checkpoint" in line and "100 s" in line for line in log)


def test_a_checkpoint_of_another_model_is_an_error(tmp_path, clock):
    write(tmp_path, 3, units=5)
    with pytest.raises(CheckpointError, match="another model"):
        Evaluator(tmp_path).run()


# Several evaluations of one run ------------------------------------------------------------------


def evaluated_rows(folder):
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [row["step"] for row in rows if row["split"] == "eval"]


def test_two_evaluations_at_once_evaluate_each_checkpoint_once(tmp_path, clock):
    write(tmp_path, 1, 2, 3)
    second = Evaluator(tmp_path)
    thread = threading.Thread(target=second.run)

    def start(step):
        if not thread.ident:
            thread.start()

    first = Evaluator(tmp_path, start)
    assert first.run() == 0
    thread.join()
    seen = [step for step, *_ in first.seen + second.seen]
    assert sorted(seen) == [1, 2, 3] == sorted(evaluated_rows(tmp_path))
    assert json.loads((tmp_path / "metrics.json").read_text())["step"] == 3
    assert not list(tmp_path.glob(".*lock"))


def test_training_does_not_wait_for_another_evaluation(tmp_path, log):
    write(tmp_path, 1, 2)
    training = Evaluator(tmp_path)
    other = Evaluator(tmp_path, lambda step: training.on_saved(2))
    other.on_saved(1)
    assert [step for step, *_ in other.seen] == [1] and training.seen == []
    assert any("another evaluation is at work" in line and "ckpt-2" in line for line in log)
    training.on_saved(2)
    training.on_saved(2)
    assert evaluated_rows(tmp_path) == [1, 2]
