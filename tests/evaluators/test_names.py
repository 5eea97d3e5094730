"""Evaluators by name: which there are, which are run, what is refused."""

from __future__ import annotations

import pytest

from vatt import configs, evaluators, methods
from vatt.configs import evaluators as registered
from vatt.errors import UserError
from vatt.evaluation.measures import Measure

TINY = {"task": "pretrain", "model_arch": "tx_fac_tiny"}
DEFAULTS = ("retrieval", "linear", "knn", "zero_shot")


def chosen(defaults=DEFAULTS, **changes):
    cfg = configs.resolve(**TINY, params_override={"eval": changes})
    return evaluators.chosen(cfg.eval, defaults)


def refused(task="pretrain", model_arch="tx_fac_tiny", **changes):
    with pytest.raises(configs.ConfigError) as caught:
        configs.resolve(task=task, model_arch=model_arch, params_override={"eval": changes})
    return {problem.path: str(problem) for problem in caught.value.problems}


@pytest.mark.parametrize("name", list(registered.EVALUATORS))
def test_every_name_is_a_function(name):
    assert callable(evaluators.named(name))


@pytest.mark.parametrize("method", list(methods.known()), ids=lambda method: method.name)
def test_every_method_names_evaluators_of_its_task(method):
    assert set(method.evaluators) <= set(registered.of_task("Pretrain"))


def test_by_default_those_of_the_method_run_with_the_probes_of_the_configuration():
    assert chosen() == ("retrieval", "linear", "knn", "zero_shot", "projections")
    assert chosen(probes=["published_probe"], zero_shot=False) == (
        "retrieval",
        "published_probe",
        "projections",
    )
    assert chosen(probes=[], report=False) == ("retrieval", "zero_shot")
    assert chosen(defaults=("linear", "reconstruction"), probes=["knn"]) == (
        "knn",
        "reconstruction",
        "projections",
    )
    assert chosen(defaults=("reconstruction",)) == ("reconstruction",)


def test_names_in_the_configuration_say_all_that_is_run():
    assert chosen(evaluators=["knn", "retrieval", "knn"]) == ("knn", "retrieval")
    assert chosen(evaluators="projections") == ("projections",)


def test_unknown_names_are_refused_with_the_nearest():
    message = refused(evaluators=["retrieval", "linaer"])["eval.evaluators"]
    assert "'linaer'" in message and "Did you mean 'linear'?" in message
    assert "published_probe" in message  # what there is
    with pytest.raises(UserError, match=r"'retreival'.*zero_shot.*Did you mean 'retrieval'\?"):
        evaluators.named("retreival")


def test_what_would_have_no_effect_is_refused():
    assert "classification" in refused(evaluators=["classification"])["eval.evaluators"]
    assert "eval.probes" in refused(evaluators=["knn"], probes=["knn"])
    assert "eval.zero_shot" in refused(evaluators=["knn"], zero_shot=False)
    found = refused("finetune", "vit_base", evaluators=["classification"])
    assert "no effect" in found["eval.evaluators"]
    assert "eval.evaluators" in refused(evaluators=[])


def reconstruction(subject):
    """An evaluator that a method from elsewhere brings."""
    yield Measure("set", "reconstruction", "error", float(subject))


def test_one_of_ones_own(monkeypatch):
    monkeypatch.setattr(registered, "EVALUATORS", dict(registered.EVALUATORS))
    evaluators.register("reconstruction", f"{__name__}:reconstruction")
    evaluators.register("reconstruction", f"{__name__}:reconstruction")  # imported once more
    assert chosen(evaluators=["reconstruction"]) == ("reconstruction",)
    assert [m.value for m in evaluators.named("reconstruction")(2)] == [2.0]
    with pytest.raises(ValueError, match=r"'knn' of other:function.*taken by vatt\.evaluators"):
        evaluators.register("knn", "other:function")
