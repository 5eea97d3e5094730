"""SavedModels of AV-MAE and its classifiers, called as the published ones, by TensorFlow alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vatt import configs
from vatt.api import naming
from vatt.data import pipeline
from vatt.errors import DataError
from vatt.experiments import labelled
from vatt.export import card, exporting, formats
from vatt.modeling import factory
from vatt.training import checkpoints, layouts

pytestmark = pytest.mark.slow

CLASSES = 5
RGB, SOUND = (8, 48, 48, 3), (25600, 1)
TOKENS = {"rgb": (144, 96), "spectrogram": (80, 96)}
USED = {"video": "rgb", "audio": "waveform"}
# What a user does: by tensors and by arrays, batches of several sizes; what is refused is printed.
SCRIPT = """
import json, sys
sys.modules["vatt"] = None
import numpy as np, tensorflow as tf
folder, asked = sys.argv[1], json.loads(sys.argv[2])
model, told = tf.saved_model.load(folder), []
for shapes in asked:
    given = {name: np.full(shape, 0.1, np.float32) for name, shape in shapes.items()}
    try:
        found = model(given)
    except Exception as error:
        told.append([type(error).__name__, str(error)])
        continue
    again = model({name: tf.constant(values) for name, values in given.items()})
    found = found if isinstance(found, dict) else {"": found}
    again = again if isinstance(again, dict) else {"": again}
    assert all(np.array_equal(found[name], again[name]) for name in found)
    told.append({name: values.shape.as_list() for name, values in found.items()})
print(json.dumps(told))
"""


def called(folder: Path, *asked: dict) -> list:
    command = [sys.executable, "-I", "-c", SCRIPT, folder, json.dumps(asked)]
    made = subprocess.run(list(map(str, command)), cwd="/", capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return json.loads(made.stdout)


def batch(rows: int, *names: str, **others) -> dict:
    known = {"rgb": RGB, "waveform": SOUND}
    return {name: (rows, *known[name]) for name in names} | others


def functions(errors) -> set[str]:
    return {key.partition("/")[0] for key in errors}


@pytest.mark.parametrize(
    ("modalities", "changes"),
    [
        (["video", "audio"], "eval.input.zero_centering_image=false"),
        (["video"], "model_config.masking_strategy=tube"),
        (["audio"], "train.input.audio_std=3.0,eval.input.audio_std=3.0"),
    ],
)
def test_a_pretrained_model_gives_its_tokens(tmp_path, modalities, changes):
    overrides = [formats.PRECISION, {"model_config": {"modalities": modalities}}, changes]
    named = naming.find("av_mae_tiny", params_override=overrides)
    made = exporting.export(named, tmp_path / "out", "saved_model")
    names = {"video": "rgb", "audio": "spectrogram"}
    calls = {f"{f}/{names[m]}" for f in ("__call__", "serving_default") for m in modalities}
    assert calls <= set(made.errors)
    assert functions(made.errors) == {*modalities, "__call__", "serving_default"}
    both, own = ("rgb", "waveform"), tuple(USED[m] for m in modalities)
    one, three, fewer, lacking = called(
        tmp_path / "out",
        batch(1, *both),
        batch(3, *both),
        batch(2, *own),
        batch(2, *(name for name in both if name != own[0])),
    )
    expected = {names[m]: TOKENS[names[m]] for m in modalities}
    for rows, found in ((1, one), (3, three), (2, fewer)):
        assert found == {name: [rows, *shape] for name, shape in expected.items()}
    assert lacking[0] == "ValueError" and "Could not find matching concrete function" in lacking[1]
    told = (tmp_path / "out" / card.FILE).read_text()
    assert "`model({...})`, as published" in told
    unused = [line for line in told.splitlines() if "not used: may be left out" in line]
    assert len(unused) == 2 - len(modalities)


@pytest.fixture(scope="module", params=[["video", "audio"], ["audio"]], ids="-".join)
def run(request, tmp_path_factory):
    """A classifier that was saved; its weights are as they begin, but for the last layer."""
    folder = tmp_path_factory.mktemp("run")
    changes = {"model_config": {"modality_fusion": request.param}}
    cfg = configs.resolve(
        task="finetune", model_arch="mbt_tiny", model_dir=str(folder), params_override=changes
    )
    model = factory.build_classifier(cfg.model, num_classes=CLASSES, multi_label=False)
    shapes = pipeline.clip_shapes(cfg.eval.input)
    model.build(labelled.as_inputs({m: (None, *shapes[m]) for m in cfg.model.modalities}))
    kernel = model.classification.kernel
    kernel.assign(np.random.default_rng(0).normal(size=kernel.shape))
    facts = layouts.metadata(model, layouts.FINETUNE, "mbt_tiny")
    checkpoints.CheckpointStore(folder).save(1, checkpoints.variable_map(model), **facts)
    (folder / "config.yaml").write_text(configs.to_yaml(cfg))
    return folder, cfg.model.modalities


def test_a_classifier_gives_a_tensor_of_logits_and_refuses_other_shapes(run, tmp_path):
    folder, modalities = run
    named = naming.find(folder, params_override=[formats.PRECISION])
    made = exporting.export(named, tmp_path / "out", "saved_model")
    assert functions(made.errors) == {"classify", "__call__", "serving_default"}
    both = ("rgb", "waveform")
    wrong = {"waveform": (2, 25600)}, {"waveform": (2, 16000, 1)}, {"rgb": (2, 8, 32, 32, 3)}
    one, three, own, *refused = called(
        tmp_path / "out",
        batch(1, *both),
        batch(3, *both),
        batch(2, *(USED[m] for m in modalities)),
        *(batch(2, *both, **shape) for shape in wrong),
    )
    assert [one, three, own] == [{"": [rows, CLASSES]} for rows in (1, 3, 2)]
    for given, (kind, message) in zip(wrong, refused, strict=True):
        assert kind == "ValueError" and "Could not find matching concrete function" in message
        assert "(None, 25600, 1)" in message and "(None, 8, 48, 48, 3)" in message
        assert all(name in message and str(shape) in message for name, shape in given.items())


def test_of_stored_spectrograms_the_way_from_a_waveform_has_to_be_said(tmp_path):
    stored = "eval.input.audio_features=stored,train.input.audio_features=stored"
    named = naming.find("av_mae_tiny", params_override=[formats.PRECISION, stored])
    with pytest.raises(DataError, match="set it to unscaled_log_mel"):
        exporting.export(named, tmp_path / "out", "saved_model")
    assert not (tmp_path / "out").exists()
