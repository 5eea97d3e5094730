"""Families of configuration classes: whoever defines a member has registered it."""

from __future__ import annotations

import subprocess
import sys

from vatt.configs import base, experiment
from vatt.methods.vatt import config as vatt

# In a process of its own: a class, once defined, stays in its family.
PROGRAM = """
from vatt import configs
from vatt.configs import base, experiment


class LionOptimizer(experiment.AdamOptimizer):
    name: base.choice("Lion") = "Lion"
    momentum: base.Rate = 0.95


NAMES = ["Adam", "AdamW", "FlaxAdam", "Lion", "Momentum", "MomentumW", "Muon", "SGD", "TorchSGD"]
for member in (experiment.OptimizerConfig, experiment.SGDOptimizer, LionOptimizer):
    assert list(member.variants()) == NAMES
assert experiment.OptimizerConfig.variants()["Lion"] is LionOptimizer
config = configs.resolve(params_override="train.optimizer={name: lion, momentum: 0.5}")
assert type(config.train.optimizer) is LionOptimizer
assert (config.train.optimizer.name, config.train.optimizer.momentum) == ("Lion", 0.5)
try:
    configs.resolve(params_override="train.optimizer.name=none")
except configs.ConfigError as error:
    print(error)
"""


def test_a_family_finds_a_class_wherever_it_is_defined():
    class Family(base.Config):
        variant_key = "kind"
        kind: str = ""

    class First(Family):
        kind: base.choice("first") = "first"

    class Second(First):
        kind: base.choice("second") = "second"

    expected = {"first": First, "second": Second}
    assert Family.variants() == First.variants() == Second.variants() == expected


def test_a_new_member_of_a_family_can_be_configured():
    command = [sys.executable, "-c", PROGRAM]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert (
        "expected one of Adam, AdamW, FlaxAdam, Lion, Momentum, MomentumW, Muon, SGD, TorchSGD"
        in result.stdout
    )


def test_members_have_a_name_of_their_own():
    """Bases and classes that only change other fields are no members."""
    heads = {"mlp_fac": vatt.FACBridge, "mlp_joint": vatt.JointBridge}
    assert vatt.BaseHeadConfig.variants() == heads
    assert vatt.FACBridge.variants() == heads
    losses = {"asymmetric_nce": vatt.AsymmetricNCE, "symmetric_nce": vatt.SymmetricNCE}
    assert vatt.BaseLossConfig.variants() == losses
    assert list(experiment.LearningRate.variants()) == [
        "CosineDecayLearningRate",
        "LearningRate",
        "LinearWarmupLearningRate",
        "MultiStepLearningRate",
        "StepwiseCosineDecayLearningRate",
    ]
    assert experiment.TrainConfig.variants() == {}
