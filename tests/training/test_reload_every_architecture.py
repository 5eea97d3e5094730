"""What a checkpoint holds comes back in another process, whatever the architecture.

One process writes a checkpoint per model, in which every variable has numbers of its own. A second
one, started once, builds the same models, reads the checkpoints in every way there is, and counts
the variables that differ.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import architectures
import numpy as np
import pytest

from vatt import configs, methods
from vatt.methods.vatt import model as multimodal

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "methods"))
import every_method

STEP = 7
REPOSITORY = Path(__file__).resolve().parents[2]

# Pre-training models of VATT with every backbone, and of every other method that is registered;
# fine-tuning models of the backbones that are fine-tuned.
CASES = [("pretrain", n) for n in architectures.EVERY if architectures.KINDS[n] != "fused"]
OTHERS = [name for name in every_method.CASES if name not in architectures.KINDS]
CASES += [("pretrain", name) for name in OTHERS]
CASES += [("finetune", name) for name in architectures.FINE_TUNED]
FAST = (("pretrain", "ut_fac"), ("pretrain", "t5_base"), ("finetune", "vit_large"))


def build(task: str, name: str) -> tuple[Any, Any, Any]:
    """Returns model, optimizer with its slots, and inputs."""
    from vatt.training import optimizers

    if task == "finetune":
        model, inputs = architectures.classifier(name), architectures.inputs(name)
    else:
        model, inputs = _pretraining(name)
    optimizer = optimizers.build(configs.registry.experiment_config(task).train.optimizer)
    optimizer.build(model.trainable_variables)
    return model, optimizer, inputs


def _pretraining(name: str) -> tuple[Any, Any]:
    """Returns the model called `name`, or a small one with the backbone called `name` in it."""
    if name in OTHERS:
        return _of_method(name)
    kind = architectures.KINDS[name]
    whole = {"model": name, "unified": "ut_fac"}.get(kind, "tx_fac_tiny")
    config, inputs = architectures.config(whole), architectures.inputs(whole)
    if kind != "model":
        setattr(config.backbone_config, f"{kind}_backbone", name)
        setattr(config.backbone_config, f"{kind}_model_kwargs", architectures.sizes(name))
    if kind in inputs:
        inputs[kind] = architectures.inputs(name)
    model = multimodal.build(config)
    return model.build_from({m: (None, *x.shape[1:]) for m, x in inputs.items()}), inputs


def _of_method(name: str) -> tuple[Any, Any]:
    """Returns the model of a preset, and clips for it."""
    from vatt.data import pipeline

    with tempfile.TemporaryDirectory() as folder:
        cfg = every_method.config(name, every_method.write(Path(folder)), Path(), steps=2)
        method, random = methods.of(cfg), np.random.default_rng(0)
        shapes = method.examples(cfg).shapes
    model = method.model(cfg.model, shapes, "float32")
    if name not in every_method.TOKENS:
        shapes = pipeline.clip_shapes(cfg.eval.input)
    clips = {m: random.normal(size=(3, *shapes[m])).astype("float32") for m in model.modalities}
    return model, clips


def outputs_of(name: str, model: Any, inputs: Any) -> dict[str, np.ndarray]:
    """Returns what a model gives."""
    if name not in OTHERS:
        return architectures.flat(model(inputs))
    towers = model.towers(inputs)
    return architectures.flat({"towers": towers, "embedded": model.embed(towers)})


def write(folder: Path, task: str, name: str) -> None:
    """Writes a checkpoint and, beside it, what the model gives."""
    from vatt.training import layouts
    from vatt.training.checkpoints import CheckpointStore, variable_map

    model, optimizer, inputs = build(task, name)
    variables = variable_map(model, optimizer)
    architectures.fill(variables.values())
    facts = layouts.metadata(model, task, name)
    CheckpointStore(folder).save(STEP, variables, **facts)
    np.savez(folder / "outputs.npz", **outputs_of(name, model, inputs))


def read(folder: Path, task: str, name: str) -> dict[str, Any]:
    """Returns what each way to read a checkpoint left different."""
    from vatt.training import transfer
    from vatt.training.checkpoints import CheckpointStore, restore, variable_map

    store = CheckpointStore(folder)
    model, optimizer, inputs = build(task, name)
    weights, everything = variable_map(model), variable_map(model, optimizer)
    written = {key: architectures.values(variable) for key, variable in everything.items()}

    def differing(variables: dict[str, Any]) -> list[str]:
        return [k for k, v in variables.items() if not np.array_equal(v.numpy(), written[k])]

    def spoil() -> None:
        for key, variable in everything.items():
            variable.assign(written[key] + 1)

    spoil()
    assert len(differing(everything)) == len(everything)
    found: dict[str, Any] = {"step": store.restore_newest(everything)}
    found["training"] = differing(everything)
    spoil()
    restore(store.path(STEP), weights)
    found["evaluation"] = differing(weights)
    spoil()
    report = transfer.load(store.path(STEP), model)
    found["load"] = differing(weights)
    found["load, not restored"] = [row.variable for row in report.rows if row.action != "restored"]
    with np.load(folder / "outputs.npz") as expected:
        # A name may be right and stand for another layer. Threads may round differently.
        outputs = outputs_of(name, model, inputs)
        close = {key: np.allclose(outputs[key], expected[key], 1e-4, 1e-5) for key in expected}
        found["outputs"] = [key for key in close if not close[key]]
    return found


@pytest.fixture(scope="module")
def reloaded(request):
    """Returns what `read` found, by case, for the cases that were asked for."""
    items = [i for i in request.session.items if "reloaded" in getattr(i, "fixturenames", ())]
    cases = [(i.callspec.params["task"], i.callspec.params["name"]) for i in items]
    with tempfile.TemporaryDirectory() as folder:
        for task, name in cases:
            write(Path(folder, task, name), task, name)
        script = [sys.executable, __file__, folder, *("/".join(case) for case in cases)]
        path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
        result = subprocess.run(
            script, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        yield json.loads(Path(folder, "found.json").read_text())


@pytest.mark.parametrize(
    ("task", "name"),
    [pytest.param(*case, marks=[] if case in FAST else [pytest.mark.slow]) for case in CASES],
)
def test_no_variable_differs_in_another_process(reloaded, task, name):
    ways = ("training", "evaluation", "load", "load, not restored", "outputs")
    assert reloaded[f"{task}/{name}"] == {"step": STEP, **{way: [] for way in ways}}


def main() -> None:
    folder, cases = sys.argv[1], sys.argv[2:]
    found = {case: read(Path(folder, case), *case.split("/")) for case in cases}
    Path(folder, "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
