"""Optimizers of a configuration, and learning rates of the layers of a transformer.

What each of them does stands in `vatt.training.updates`.
"""

from __future__ import annotations

import functools

import keras
import tensorflow as tf

from vatt.configs import experiment
from vatt.errors import UserError
from vatt.training import schedules
from vatt.training.updates import SGD, Adam, FlaxAdam, FusedOptimizer, Muon, TorchSGD


def layer_scales(backbone: keras.layers.Layer, decay: float) -> dict[str, float]:
    """Returns {variable path: factor of the learning rate} of a transformer, for layer-wise decay.

    Seen from a classifier with factor 1, every layer below has `decay` times the factor of the one
    above it: the last of L layers `decay`, the first `decay ** L`, and what stands before (patches,
    positions, tokens) `decay ** (L + 1)`.

    Args:
      backbone: built; its method `layers_above` says how many layers lie above a variable.
      decay: share in (0, 1].
    """
    local = {v.path: v.path.removeprefix(f"{backbone.path}/") for v in backbone.variables}
    return {path: decay ** backbone.layers_above(name) for path, name in local.items()}


def of_run(config: experiment.OptimizerConfig, strategy: tf.distribute.Strategy) -> FusedOptimizer:
    """Returns the optimizer of a run, its schedule that of the replicas of `strategy`.

    Raises:
      UserError: nothing builds an optimizer from the class of the configuration.
    """
    rate = config.learning_rate.for_replicas(strategy.num_replicas_in_sync)
    with strategy.scope():
        return build(config.model_copy(update={"learning_rate": rate}), name="optimizer")


@functools.singledispatch
def build(config: experiment.OptimizerConfig, name: str = "optimizer") -> FusedOptimizer:
    """Returns the optimizer of a configuration, by its class, with its schedule.

    Args:
      config: of an optimizer.
      name: prefix of the slot variables' paths.

    Raises:
      UserError: nothing builds an optimizer from that class.
    """
    raise UserError(
        f"optimizer.name: {config.name!r} is not one of "
        f"{', '.join(experiment.OptimizerConfig.variants())}."
    )


@build.register
def _(config: experiment.AdamOptimizer, name: str = "optimizer") -> Adam:
    return _adam(config, name)


@build.register
def _(config: experiment.AdamWOptimizer, name: str = "optimizer") -> Adam:
    return _adam(config, name, config.weight_decay)


@build.register
def _(config: experiment.FlaxAdamOptimizer, name: str = "optimizer") -> FlaxAdam:
    rate, decay = schedules.build(config.learning_rate), config.weight_decay
    return FlaxAdam(rate, config.beta_1, config.beta_2, config.epsilon, decay, name=name)


@build.register
def _(config: experiment.MuonOptimizer, name: str = "optimizer") -> Muon:
    rate = schedules.build(config.learning_rate)
    own = config.model_dump(exclude={"name", "learning_rate"})
    return Muon(rate, **own, name=name)


@build.register
def _(config: experiment.MomentumOptimizer, name: str = "optimizer") -> SGD:
    return _momentum(config, name)


@build.register
def _(config: experiment.MomentumWOptimizer, name: str = "optimizer") -> SGD:
    return _momentum(config, name, config.weight_decay)


@build.register
def _(config: experiment.TorchSGDOptimizer, name: str = "optimizer") -> TorchSGD:
    rate = schedules.build(config.learning_rate)
    return TorchSGD(rate, config.momentum, config.weight_decay, name=name)


@build.register
def _(config: experiment.SGDOptimizer, name: str = "optimizer") -> SGD:
    return SGD(schedules.build(config.learning_rate), name=name)


def _adam(
    config: experiment.AdamOptimizer | experiment.AdamWOptimizer, name: str, decay: float = 0.0
) -> Adam:
    rate = schedules.build(config.learning_rate)
    return Adam(rate, config.beta_1, config.beta_2, config.epsilon, decay=decay, name=name)


def _momentum(
    config: experiment.MomentumOptimizer | experiment.MomentumWOptimizer,
    name: str,
    decay: float = 0.0,
) -> SGD:
    rate = schedules.build(config.learning_rate)
    return SGD(rate, config.momentum, config.nesterov, decay=decay, name=name)
