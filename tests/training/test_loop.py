"""The loop on a small regression: exact resume, guarded steps, replica invariance."""

import json
import os
import signal
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from vatt import configs
from vatt.errors import EXIT_PREEMPTED, DivergedError
from vatt.training import loop, optimizers, signals
from vatt.training.checkpoints import CheckpointStore, manifest_metadata, variable_map
from vatt.training.rundir import RunDir
from vatt.training.trainer import Trainer

BATCH, FEATURES = 8, 5


def experiment(total_steps=20, save_every=10, **train):
    cfg = configs.experiment.Pretrain()
    cfg.train.optimizer = configs.experiment.AdamOptimizer(
        learning_rate=configs.experiment.LearningRate(
            learning_rate_base=0.01, total_steps=total_steps
        )
    )
    cfg.train.save_checkpoint_freq = save_every
    cfg.train.iterations_per_loop = 4
    cfg.train.input.batch_size = BATCH
    for name, value in train.items():
        setattr(cfg.train, name, value)
    return cfg


class Regression:
    """Dense -> batch norm -> dense with noise from the step's seed; data a function of the step."""

    loss_names = ("fit_loss", "total_loss")
    flops_per_step = 1e3
    checkpoint_metadata = types.MappingProxyType({"kind": "regression", "architecture": "dense"})

    def __init__(self, cfg, strategy, bad_steps=(), on_batch=lambda step: None):
        keras.utils.set_random_seed(3)
        with strategy.scope():
            self.model = keras.Sequential(
                [
                    keras.layers.Input((FEATURES,)),
                    keras.layers.Dense(7, use_bias=False, name="hidden"),
                    keras.layers.BatchNormalization(name="norm", synchronized=True),
                    keras.layers.Dense(1, name="out"),
                ],
                name="regression",
            )
            self.optimizer = optimizers.build(cfg.train.optimizer, name="optimizer")
        self.bad_steps, self.on_batch = bad_steps, on_batch
        self.clip_norm = cfg.train.gradient_clip_norm

    def check_input(self):
        pass

    def parameter_groups(self):
        return [loop.ParameterGroup("model", self.model.trainable_variables, self.clip_norm)]

    def batches(self, start_step, worker):
        assert worker == (0, 1)

        def generate():
            step = start_step
            while True:
                self.on_batch(step)
                rng = np.random.default_rng(step)
                x = rng.normal(size=(BATCH, FEATURES)).astype(np.float32)
                if step in self.bad_steps:
                    x[0, 0] = np.inf
                yield {"x": x, "y": x.sum(axis=1, keepdims=True)}
                step += 1

        spec = {"x": (BATCH, FEATURES), "y": (BATCH, 1)}
        return tf.data.Dataset.from_generator(
            generate, output_signature={k: tf.TensorSpec(s, tf.float32) for k, s in spec.items()}
        )

    def losses(self, batch, seed):
        noise = tf.random.stateless_uniform([], seed, 0.9, 1.1, alg="philox")
        loss = tf.reduce_mean((self.model(batch["x"], training=True) * noise - batch["y"]) ** 2)
        return {"fit_loss": loss, "total_loss": loss}


def one_device():
    return tf.distribute.OneDeviceStrategy("CPU:0")


def values(trainer_or_recipe):
    variables = variable_map(trainer_or_recipe.model, trainer_or_recipe.optimizer)
    return {name: np.array(v.numpy()) for name, v in variables.items()}


def rows(folder, split="train"):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


def train(folder, cfg, strategy=None, on_checkpoint=lambda step: None, **kwargs):
    strategy = strategy or one_device()
    recipe = Regression(cfg, strategy, **kwargs)
    folder.mkdir(exist_ok=True)
    code = loop.train(recipe, cfg, strategy, RunDir(folder), on_checkpoint)
    return recipe, code


def test_loss_falls_and_checkpoints_are_counted(tmp_path):
    cfg = experiment(total_steps=60, save_every=15)
    _, code = train(tmp_path, cfg)
    assert code == 0
    assert CheckpointStore(tmp_path).steps() == [15, 30, 45, 60]
    for step in (15, 60):
        facts = manifest_metadata(tmp_path / f"ckpt-{step}")
        assert (facts["step"], facts["kind"], facts["architecture"]) == (
            step,
            "regression",
            "dense",
        )
    logged = rows(tmp_path)
    assert [row["step"] for row in logged] == sorted({*range(4, 61, 4), 15, 30, 45, 60})
    assert logged[-1]["metrics"]["total_loss"] < logged[0]["metrics"]["total_loss"]
    for name in ("gradient_norm", "parameter_norm", "update_norm", "clips_per_second"):
        assert logged[-1]["metrics"][name] > 0
    assert 0 <= logged[-1]["metrics"]["data_wait_share"] <= 1
    assert 0 < logged[-1]["metrics"]["model_flops_utilization"] < 1


def test_a_step_begins_when_its_data_has_arrived():
    """What waited for data is read off before a step: a lone thread would do so at its end."""
    cfg = experiment()
    strategy = one_device()
    trainer = Trainer(Regression(cfg, strategy), cfg.train, strategy, seed=0)
    trainer.start(0)
    counts = (tf.constant(0, tf.int64), tf.constant(2, tf.int64), tf.constant(0))
    graph = Trainer._steps.get_concrete_function(trainer, trainer._iterator, *counts).graph
    (loop_op,) = [op for op in graph.get_operations() if op.type in ("While", "StatelessWhile")]
    body = graph._get_function(loop_op.get_attr("body").name).graph
    clocks = [op for op in body.get_operations() if op.type == "Timestamp"]
    assert len(clocks) == 2
    products = [op for op in body.get_operations() if op.type == "MatMul"]
    assert products
    for op in products:
        assert _comes_after(op, clocks[1])


def _comes_after(op, earlier):
    seen, left = set(), [op]
    while left:
        op = left.pop()
        if op is earlier:
            return True
        if op not in seen:
            seen.add(op)
            left += [*op.control_inputs, *(x.op for x in op.inputs)]
    return False


def test_resume_is_bit_identical(tmp_path):
    whole, _ = train(tmp_path / "whole", experiment(total_steps=20))
    parts = tmp_path / "parts"
    train(parts, experiment(total_steps=10))
    resumed, _ = train(parts, experiment(total_steps=20))
    for name, value in values(whole).items():
        np.testing.assert_array_equal(value, values(resumed)[name], err_msg=name)


@pytest.mark.slow
def test_rows_of_steps_that_were_not_saved_are_written_once(tmp_path):
    cfg = experiment(total_steps=20)
    train(tmp_path, cfg)
    for file in tmp_path.glob("ckpt-20*"):
        file.unlink()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 22, "spl')  # killed while writing
    train(tmp_path, cfg)
    steps = [row["step"] for row in rows(tmp_path)]
    assert steps == sorted(set(steps))


# 7: the last step before a row, 6 not
@pytest.mark.parametrize("bad_step", [0, 7, pytest.param(6, marks=pytest.mark.slow)])
def test_a_step_that_is_not_finite_changes_nothing_and_stops(tmp_path, bad_step):
    clean = Regression(experiment(), one_device())
    if bad_step:
        clean, _ = train(tmp_path / "clean", experiment(total_steps=bad_step))
    strategy, cfg = one_device(), experiment()
    recipe = Regression(cfg, strategy, bad_steps=(bad_step,))
    (tmp_path / "run").mkdir()
    with pytest.raises(DivergedError, match=f"step {bad_step + 1}: not finite: fit_loss"):
        loop.train(recipe, cfg, strategy, RunDir(tmp_path / "run"))
    assert rows(tmp_path / "run")[-1]["metrics"]["total_loss"] is None  # NaN, never 0
    expected = values(clean)
    for name, value in values(recipe).items():
        if name in expected:
            np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_allowed_bad_steps_are_skipped_and_counted(tmp_path):
    cfg = experiment(max_bad_steps=2)
    recipe, code = train(tmp_path / "a", cfg, bad_steps=(3, 4, 11))
    assert code == 0
    assert sum(row["metrics"]["bad_steps"] for row in rows(tmp_path / "a")) == 3
    assert int(recipe.optimizer.iterations.numpy()) == 17
    with pytest.raises(DivergedError):
        train(tmp_path / "b", cfg, bad_steps=(3, 4, 5))


OTHERS = (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What the variables are after a training that nobody asks to stop."""
    recipe, _ = train(tmp_path_factory.mktemp("whole"), experiment(save_every=1000))
    return values(recipe)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.slow) for n in OTHERS)]
)
def test_asked_to_stop_saves_and_continues_exactly(tmp_path, undisturbed, number):
    def stop_once(step, fired=[]):  # noqa: B006
        if step == 9 and not fired:
            fired.append(step)
            os.kill(os.getpid(), number)

    _, code = train(tmp_path / "run", experiment(save_every=1000), on_batch=stop_once)
    assert code == EXIT_PREEMPTED
    (stopped_at,) = CheckpointStore(tmp_path / "run").steps()
    assert stopped_at < 20
    resumed, code = train(tmp_path / "run", experiment(save_every=1000))
    assert code == 0
    for name, value in undisturbed.items():
        np.testing.assert_array_equal(value, values(resumed)[name], err_msg=name)


def test_asked_to_stop_where_a_step_takes_long_does_not_wait_for_the_whole_call(
    tmp_path, undisturbed, monkeypatch
):
    """R9: of steps of 4 s, two fit into what a call may take; the weights are the same."""
    seconds, calls, real = [0.0], [], Trainer.run

    def slow(trainer, steps):
        calls.append(steps)
        seconds[0] += 4.0 * steps
        return real(trainer, steps)

    def stop_once(step, fired=[]):  # noqa: B006
        if step == 9 and not fired:
            fired.append(step)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop, "time", types.SimpleNamespace(monotonic=lambda: seconds[0]))
    monkeypatch.setattr(Trainer, "run", slow)
    cfg = experiment(save_every=1000, iterations_per_loop=20)
    _, code = train(tmp_path, cfg, on_batch=stop_once)
    assert code == EXIT_PREEMPTED
    (stopped_at,) = CheckpointStore(tmp_path).steps()
    assert 0 < stopped_at <= 12  # batches are read ahead, how many is a matter of time
    resumed, code = train(tmp_path, cfg, on_batch=stop_once)
    assert code == 0 and [row["step"] for row in rows(tmp_path)] == [stopped_at, 20]
    assert max(calls) == 2 and sum(calls) == 20
    for name, value in undisturbed.items():
        np.testing.assert_array_equal(value, values(resumed)[name], err_msg=name)


@pytest.mark.parametrize("during", [10, 20])
def test_asked_to_stop_breaks_off_an_evaluation(tmp_path, during):
    """What is saved is kept; the same command has something left to do, also at the last step."""

    def evaluate(step):
        with signals.stop_requests(at_once=True):
            if step == during:
                os.kill(os.getpid(), signal.SIGTERM)
                pytest.fail("went on")

    strategy = one_device()
    recipe = Regression(experiment(), strategy)
    code = loop.train(recipe, experiment(), strategy, RunDir(tmp_path), on_checkpoint=evaluate)
    assert code == EXIT_PREEMPTED
    assert CheckpointStore(tmp_path).steps() == list(range(10, during + 1, 10))


def test_two_replicas_equal_one(tmp_path, two_replicas):
    cfg = experiment(total_steps=12, gradient_clip_norm=0.5)
    one, _ = train(tmp_path / "one", cfg)
    two, _ = train(tmp_path / "two", cfg, strategy=two_replicas)
    losses = [[r["metrics"]["total_loss"] for r in rows(tmp_path / n)] for n in ("one", "two")]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    for name, value in values(one).items():
        np.testing.assert_allclose(value, values(two)[name], rtol=2e-4, atol=1e-5, err_msg=name)
    for variable in two.model.trainable_variables:
        first, second = two_replicas.experimental_local_results(variable.value)
        np.testing.assert_array_equal(first, second)


def test_the_watchdog_rests_while_a_checkpoint_is_evaluated(tmp_path, monkeypatch):
    set_for, during, steps = [None], [], []
    fake = types.SimpleNamespace(
        dump_traceback_later=lambda seconds, exit: set_for.append(seconds),
        cancel_dump_traceback_later=lambda: set_for.append(None),
    )
    monkeypatch.setattr(signals, "faulthandler", fake)
    train(
        tmp_path,
        experiment(watchdog_s=75.0),
        on_checkpoint=lambda step: during.append((step, set_for[-1])),
        on_batch=lambda step: steps.append(set_for[-1]),
    )
    assert during == [(10, None), (20, None)]
    assert 75.0 in set_for and set_for[-1] is None
    assert set_for.count(75.0) > 6  # at the start, after each call, each save and each evaluation


# Calls of several steps, and norms ---------------------------------------------------------------


def snapshots(cfg, steps, **kwargs):
    """Trainable variables in float64 before the first step and after each, one vector each."""
    strategy = one_device()
    recipe = Regression(cfg, strategy, **kwargs)
    trainer = Trainer(recipe, cfg.train, strategy, cfg.seed)
    trainer.start(0)

    def weights():
        parts = [v.numpy().ravel() for v in recipe.model.trainable_variables]
        return np.concatenate(parts).astype(np.float64)

    found = [weights()]
    for _ in range(steps):
        trainer.run(1)
        found.append(weights())
    return found


@pytest.mark.parametrize("log_every", [None, 8])
def test_logged_norms_are_those_of_the_last_step(tmp_path, log_every):
    """Also where that one was skipped, the one before it, or the last but one."""
    cfg = experiment(total_steps=24, max_bad_steps=2, log_every_steps=log_every)
    bad = (3, 7, 14, 22)  # counted from 0: the last of two calls, the last but one of two others
    train(tmp_path, cfg, bad_steps=bad)
    weights = snapshots(cfg, 24, bad_steps=bad)
    logged = rows(tmp_path)
    expected_steps = (8, 10, 16, 20, 24) if log_every else (4, 8, 10, 12, 16, 20, 24)
    assert [row["step"] for row in logged] == list(expected_steps)
    for row in logged:
        step, metrics = row["step"], row["metrics"]
        size = np.linalg.norm(weights[step])
        change = np.linalg.norm(weights[step] - weights[step - 1])
        assert (change == 0) == (step - 1 in bad)
        assert metrics["parameter_norm"] == pytest.approx(size, rel=1e-5)
        assert metrics["update_norm"] == pytest.approx(change, rel=1e-5)


def test_norms_of_a_run_that_is_stopped(tmp_path):
    """In the middle of a call: nothing of the last step was applied."""
    cfg = experiment(max_bad_steps=1)
    with pytest.raises(DivergedError, match="step 7:"):
        train(tmp_path, cfg, bad_steps=(5, 6))
    metrics = rows(tmp_path)[-1]["metrics"]
    size = np.linalg.norm(snapshots(cfg, 7, bad_steps=(5, 6))[-1])
    assert metrics["parameter_norm"] == pytest.approx(size, rel=1e-5)
    assert metrics["update_norm"] == 0


@pytest.mark.parametrize(
    ("log_every", "save_every", "total", "calls"),
    [
        # Rows further apart than calls: no call of a step for them. The first two are short: what
        # a step takes is not known yet.
        (8, 16, 32, [1, 1, 4, 2, *[4] * 6]),
        (None, 16, 32, [1, 1, 2, *[4] * 7]),
        (2, 8, 8, [1, 1, 2, 2, 2]),
        (8, 16, 18, [1, 1, 4, 2, 4, 4, 2]),
        (1, 4, 4, [1] * 4),  # asked for
    ],
)
def test_steps_are_run_in_calls_of_several(
    tmp_path, monkeypatch, log_every, save_every, total, calls
):
    seen, real = [], Trainer.run
    monkeypatch.setattr(Trainer, "run", lambda self, n: seen.append(n) or real(self, n))
    cfg = experiment(total, save_every, log_every_steps=log_every)
    train(tmp_path, cfg)
    assert seen == calls
    every = log_every or 4
    assert [row["step"] for row in rows(tmp_path)] == [*range(every, total, every), total]


def test_rows_of_several_calls_are_means_over_all_steps(tmp_path):
    train(tmp_path / "each", experiment(total_steps=16, save_every=8, log_every_steps=1))
    train(tmp_path / "eight", experiment(total_steps=16, save_every=8, log_every_steps=8))
    each = [row["metrics"]["total_loss"] for row in rows(tmp_path / "each")]
    eight = [row["metrics"]["total_loss"] for row in rows(tmp_path / "eight")]
    assert eight == pytest.approx([np.mean(each[:8]), np.mean(each[8:])], rel=1e-6)
