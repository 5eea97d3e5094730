"""What holds for every method that is registered: replicas, sums, numbers that are not finite."""

from __future__ import annotations

import json

import every_method
import numpy as np
import pytest
import tensorflow as tf

from tests.traced import operations
from vatt import methods
from vatt.training import loop
from vatt.training.rundir import RunDir
from vatt.training.trainer import Trainer

# Norms of batches and a temperature enlarge rounding: test_sets_and_views.py compares their steps.
NORMALISED = ("gdt_tiny", "stica_tiny")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return every_method.write(tmp_path_factory.mktemp("records"))


def one_device():
    return tf.distribute.OneDeviceStrategy("CPU:0")


def test_every_registered_method_is_tried():
    tried = [methods.with_architecture(arch) for arch in every_method.CASES]
    assert {method.name for method in tried if method} == set(methods.MODULES)
    assert set(every_method.MODELS) <= set(every_method.CASES)


@pytest.mark.slow
@pytest.mark.parametrize("arch", [arch for arch in every_method.CASES if arch not in NORMALISED])
def test_two_replicas_equal_one(arch, data_dir, tmp_path, two_replicas):
    """Losses of each step and all weights; by momentum: Adam makes whole steps of rounding."""
    rate = {"type": "LearningRate", "learning_rate_base": 1e-4, "total_steps": 3}
    histories, ends = [], []
    for strategy in (one_device(), two_replicas):
        folder = tmp_path / str(strategy.num_replicas_in_sync)
        steps = {"iterations_per_loop": 1, "log_every_steps": 1, "save_checkpoint_freq": 3}
        optimizer = {"name": "Momentum", "learning_rate": rate}
        cfg = every_method.config(arch, data_dir, folder, steps=3, optimizer=optimizer, **steps)
        folder.mkdir()
        made = every_method.recipe(cfg, strategy)
        assert loop.train(made, cfg, strategy, RunDir(folder)) == 0
        lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        histories.append([line["metrics"]["total_loss"] for line in lines])
        ends.append(every_method.values(folder / "ckpt-3"))
    assert len(histories[0]) == 3 and len(set(histories[0])) == 3
    np.testing.assert_allclose(histories[1], histories[0], rtol=1e-5)
    for name, value in ends[0].items():
        np.testing.assert_allclose(ends[1][name], value, atol=1e-5, rtol=1e-5, err_msg=name)


@pytest.mark.slow
@every_method.each
def test_a_step_that_is_not_finite_changes_nothing(arch, data_dir, tmp_path):
    cfg = every_method.config(arch, data_dir, tmp_path / "run", steps=4)
    strategy = one_device()
    recipe = every_method.recipe(cfg, strategy)
    clean = recipe.batches

    def spoilt(start, worker):
        """The second batch is not finite."""

        def spoil(number, batch):
            bad = tf.equal(number, 1)
            return {
                key: tf.where(bad, np.nan, x) if x.dtype.is_floating else x
                for key, x in batch.items()
            }

        return clean(start, worker).enumerate().map(spoil)

    recipe.batches = spoilt
    trainer = Trainer(recipe, cfg.train, strategy, cfg.seed)
    trainer.start(0)
    first = {name: v.numpy() for name, v in trainer.variables().items()}
    assert trainer.run(1).bad_steps == 0
    before = {name: v.numpy() for name, v in trainer.variables().items()}
    assert any(not np.array_equal(value, first[name]) for name, value in before.items())
    result = trainer.run(1)
    assert result.bad_steps == 1 and result.stopped
    total = result.losses[0, trainer.loss_names.index("total_loss")]
    assert not np.isfinite(total)
    for name, variable in trainer.variables().items():
        np.testing.assert_array_equal(variable.numpy(), before[name], err_msg=name)


@pytest.mark.slow
@every_method.each
def test_no_sum_of_a_step_begins_with_what_is_done_first(arch, data_dir, tmp_path):
    """AddN of three terms or more does (`vatt.training.sums`), and Grappler would make more."""
    cfg = every_method.config(arch, data_dir, tmp_path / "run", steps=4)
    strategy = one_device()
    trainer = Trainer(every_method.recipe(cfg, strategy), cfg.train, strategy, cfg.seed)
    trainer.start(0)
    numbers = (tf.constant(0, tf.int64), tf.constant(1, tf.int64), tf.constant(0))
    steps = trainer._steps.get_concrete_function(trainer._iterator, *numbers)
    nodes = operations(steps.graph)
    assert any("AddV2" in node.op for node in nodes)
    several = [node.name for node in nodes if node.op == "AddN" and node.attr["N"].i > 2]
    assert several == []
    assert tf.config.optimizer.get_experimental_options()["arithmetic_optimization"] is False
