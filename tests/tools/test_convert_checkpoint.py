"""Published checkpoints become ours: every value proven equal, anything that does not fit refused.

Small ones are written in the published layout; the golden ones are converted too.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import published_files
import pytest
import tensorflow as tf
import yaml

from vatt import configs
from vatt.errors import EXIT_CHECKPOINT, EXIT_USAGE
from vatt.methods.vatt import model as multimodal
from vatt.methods.vatt import published
from vatt.modeling import factory
from vatt.tools import checkpoint_conversion, convert_checkpoint
from vatt.training import checkpoints, optimizers, transfer

ADAM = {"beta_1": 0.9, "beta_2": 0.999, "decay": 0.0}
LAYOUTS = {
    "pretrain": published_files.pretrain,
    "unified": published_files.unified,
    "video": lambda: published_files.finetune("video"),
    "audio": lambda: published_files.finetune("audio"),
}
OPTIMIZERS = {"pretrain": (("m", "v"), ADAM), "unified": (("m", "v"), ADAM)}
OPTIMIZERS |= dict.fromkeys(("video", "audio"), (("momentum",), {"momentum": 0.9, "decay": 0.0}))


def write(folder, kind, step=7, tensors=None, **changes):
    slots, scalars = OPTIMIZERS[kind]
    tensors = tensors or published_files.values(LAYOUTS[kind]())
    arguments = {"slots": slots, "scalars": scalars, **changes}
    return published_files.write(folder / f"ckpt-{step}", tensors, step, **arguments)


def experiment(kind, **train):
    """Returns the configuration of a training of this model, as a mapping."""
    train = {"input": published_files.INPUT, **train}
    values = {"model_arch": published_files.ARCHITECTURES[kind], "train": train}
    values |= {"model_config": published_files.MODELS[kind]}
    values |= {"eval": {"input": published_files.INPUT}}
    return values | {"task": "finetune" if kind in ("video", "audio") else "pretrain"}


def config_file(folder, values):
    file = folder / "experiment.yaml"
    file.write_text(yaml.safe_dump(json.loads(json.dumps(values))))
    return f"--config_file={file}"


def convert(tmp_path, source, values, *flags):
    destination = tmp_path / "run"
    flags = [str(source), str(destination), config_file(tmp_path, values), *flags]
    return convert_checkpoint.main(flags), destination


def refusal(tmp_path, capsys, source, values, *flags):
    code, destination = convert(tmp_path, source, values, *flags)
    assert code == EXIT_CHECKPOINT
    assert not list(destination.glob("ckpt-*")), "something was left behind"
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ")
    return captured.err


def certificate(destination, step=7):
    return json.loads((destination / f"ckpt-{step}.certificate.json").read_text())


def training(kind, values):
    """Returns model and optimizer as a training with this configuration makes them."""
    cfg = configs.resolve(params_override=values)
    model = published_files.model(kind)
    optimizer = optimizers.build(cfg.train.optimizer, name="optimizer")
    optimizer.build(model.trainable_variables)
    return model, optimizer


# What is written ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    ["pretrain", "video", *(pytest.param(k, marks=pytest.mark.slow) for k in ("unified", "audio"))],
)
def test_a_training_goes_on_from_the_converted_checkpoint(tmp_path, capsys, kind):
    tensors = published_files.values(LAYOUTS[kind]())
    source = write(tmp_path, kind, tensors=tensors)
    code, destination = convert(tmp_path, source, experiment(kind))
    assert code == 0, capsys.readouterr().err
    store = checkpoints.CheckpointStore(destination)
    assert store.steps() == [7] and store.verify(7) is None
    model, optimizer = training(kind, experiment(kind))
    assert store.restore_newest(checkpoints.variable_map(model, optimizer)) == 7
    keys = published.model_keys(model)
    for variable in model.variables:
        np.testing.assert_array_equal(variable.numpy(), tensors[keys[variable.path]])
    names = OPTIMIZERS[kind][0]
    slots = published_files.slots_of(tensors, names)
    assert int(optimizer.iterations) == 7 and tuple(optimizer.slot_variables()) == names
    for name, variables in optimizer.slot_variables().items():
        assert list(variables) == [v.path for v in model.trainable_variables]
        for path, slot in variables.items():
            expected = slots[f"{keys[path]}/.OPTIMIZER_SLOT/optimizer/{name}"]
            np.testing.assert_array_equal(slot.numpy(), expected)
    loaded = transfer.load(destination, model).source
    assert loaded.step == 7
    facts = checkpoints.manifest_metadata(loaded.prefix)
    task = "pretrain" if kind in ("pretrain", "unified") else "finetune"
    expected = {"kind": task, "architecture": published_files.ARCHITECTURES[kind]}
    assert facts.items() >= expected.items() and facts["converted_from"] == str(source)
    assert facts["towers"] == model.tower_paths()
    assert facts.get("method") == ("vatt" if task == "pretrain" else None)
    assert loaded.layout.kind == task and not loaded.layout.published


def test_the_next_update_uses_the_published_moments_and_count(tmp_path):
    """Against Adam's formulas in float64 from the source's own numbers."""
    tensors = published_files.values(published_files.pretrain())
    values = experiment("pretrain", optimizer={"learning_rate": {"type": "LearningRate"}})
    _, destination = convert(tmp_path, write(tmp_path, "pretrain", 3, tensors), values)
    model, optimizer = training("pretrain", values)
    optimizer_variables = checkpoints.variable_map(model, optimizer)
    checkpoints.CheckpointStore(destination).restore_newest(optimizer_variables)
    random = np.random.default_rng(1)
    gradients = [random.normal(size=v.shape).astype("f4") for v in model.trainable_variables]
    optimizer.apply([tf.constant(g) for g in gradients], model.trainable_variables)
    rate = 1e-4 * np.sqrt(1 - 0.999**4) / (1 - 0.9**4)
    slots = published_files.slots_of(tensors, ("m", "v"))
    keys = published.model_keys(model)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        key, gradient = keys[variable.path], gradient.astype("f8")
        m, v = (slots[f"{key}/.OPTIMIZER_SLOT/optimizer/{n}"].astype("f8") for n in "mv")
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        expected = tensors[key] - rate * m / (np.sqrt(v) + 1e-7)
        np.testing.assert_allclose(variable.numpy(), expected, rtol=2e-6, atol=2e-6)
    assert int(optimizer.iterations) == 4


def test_the_certificate_is_complete_and_true(tmp_path, capsys):
    source = write(tmp_path, "pretrain")
    code, destination = convert(tmp_path, source, experiment("pretrain"))
    assert code == 0
    content = certificate(destination)
    theirs = tf.train.load_checkpoint(str(source))
    ours = tf.train.load_checkpoint(str(destination / "ckpt-7"))
    rows = [*content["variables"], *content["optimizer"], content["step"]]
    assert sorted(row["name"] for row in rows) == sorted(ours.get_variable_to_shape_map())
    ending = content["source"]["key_ending"]
    for row in rows:
        value = np.asarray(ours.get_tensor(row["name"]))
        origin = np.asarray(theirs.get_tensor(row["source"] + ending))
        assert (row["shape"], row["dtype"]) == (list(value.shape), str(value.dtype))
        assert row["sha256"] == hashlib.sha256(value.tobytes()).hexdigest()
        assert row["source_sha256"] == hashlib.sha256(origin.tobytes()).hexdigest()
        assert row["sha256"] == row["source_sha256"]
    used = [row["source"] for row in rows if row["name"] != "step"]
    assert len(set(used)) == len(used)
    unused = {row["key"] for row in content["unused"]}
    everything = {key.removesuffix(ending) for key in theirs.get_variable_to_shape_map()}
    assert set(used) | unused == everything and not set(used) & unused
    hyper = {f"optimizer/{name}" for name in ADAM}
    assert unused == {"_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter", *hyper}
    assert all(row["reason"] for row in content["unused"])
    assert [row["equal"] for row in content["hyperparameters"]] == [True] * 3
    assert content["step"]["value"] == 7 and content["notes"] == []
    for name, digest in content["source"]["files"].items():
        assert digest == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    summary = capsys.readouterr().out
    assert "124 variables and 235 of the optimizer" in summary and "save_counter" in summary
    assert len(summary.splitlines()) == 4


def test_the_task_and_the_classes_come_from_the_source(tmp_path, capsys):
    source = write(tmp_path, "video")
    overrides = experiment("video")
    flags = [f"--model_arch={overrides.pop('model_arch')}", "--params_override"]
    overrides.pop("task")
    flags.append(json.dumps(overrides))
    code = convert_checkpoint.main([str(tmp_path), str(tmp_path / "run"), *flags])
    assert code == 0, capsys.readouterr().err
    assert certificate(tmp_path / "run")["task"] == "Finetune"
    assert certificate(tmp_path / "run")["source"]["prefix"] == str(source)


def test_without_a_step_the_slots_are_zero(tmp_path, capsys):
    source = write(tmp_path, "unified", step=0, slots=(), scalars={})
    code, destination = convert(tmp_path, source, experiment("unified"))
    assert code == 0
    model, optimizer = training("unified", experiment("unified"))
    checkpoints.restore(destination / "ckpt-0", checkpoints.variable_map(model, optimizer))
    assert not any(
        np.any(s) for group in optimizer.slot_variables().values() for s in group.values()
    )
    rows = certificate(destination, 0)["optimizer"]
    assert {row["source"] for row in rows} == {None, "optimizer/iter"}


def test_a_trained_source_without_slots_gives_weights_only(tmp_path, capsys):
    source = write(tmp_path, "pretrain", slots=())
    code, destination = convert(tmp_path, source, experiment("pretrain"))
    assert code == 0
    assert "weights only" in capsys.readouterr().out
    assert certificate(destination)["optimizer"] == []
    model = published_files.model("pretrain")
    assert transfer.load(destination / "ckpt-7", model).source.step == 7
    stored = tf.train.load_checkpoint(str(destination / "ckpt-7")).get_variable_to_shape_map()
    assert set(stored) == {*checkpoints.variable_map(model), "step"}


def test_other_hyper_parameters_are_reported(tmp_path, capsys):
    scalars = {"beta_1": 0.95, "decay": 0.0, "weight_decay": 0.03}
    source = write(tmp_path, "pretrain", scalars=scalars, more_of_it=np.zeros(2, "f4"))
    code, destination = convert(tmp_path, source, experiment("pretrain"))
    assert code == 0
    assert certificate(destination)["notes"] == [
        "more_of_it: neither model nor optimizer; not known here",
        "optimizer beta_1: 0.95 in the source, 0.9 in the configuration",
        "optimizer beta_2: nothing in the source, 0.999 in the configuration",
        "optimizer weight_decay: 0.03 in the source, nothing in the configuration",
    ]
    assert "0.95 in the source" in capsys.readouterr().out


# What is refused ---------------------------------------------------------------------------------


def test_a_renamed_key_is_refused(tmp_path, capsys):
    tensors = published_files.values(published_files.pretrain())
    root = published_files.ROOT
    tensors[f"{root}/_base_layer/other"] = tensors.pop(
        f"{root}/_base_layer/txt_backbone/pre_proj/kernel"
    )
    source = write(tmp_path, "pretrain", tensors=tensors)
    message = refusal(tmp_path, capsys, source, experiment("pretrain"))
    assert "2 variables differ" in message
    assert "tx_mlp_fac/text/pre_projection/kernel (5, 8): not in the checkpoint" in message
    assert f"{root}/_base_layer/other (5, 8): in the checkpoint only" in message


def test_a_renamed_slot_is_refused(tmp_path, capsys):
    tensors = published_files.values(published_files.finetune("video"))
    slots = published_files.slots_of(tensors, ("momentum",))
    key = f"{published_files.ROOT}/_ops/cls/bias/.OPTIMIZER_SLOT/optimizer/momentum"
    slots[key.replace("bias", "offset")] = slots.pop(key)
    source = write(tmp_path, "video", tensors=tensors, **slots, slots=())
    message = refusal(tmp_path, capsys, source, experiment("video"))
    assert f"{key}: not in the checkpoint" in message and "cls/offset" in message


@pytest.mark.parametrize("part", ["model", "slot"])
def test_a_corrupted_tensor_is_refused(tmp_path, capsys, part):
    """One bit of one value; the tensor's own checksum finds it."""
    source = write(tmp_path, "video")
    key = f"{published_files.ROOT}/_base/tx/layers/1/mha/k/kernel"
    key += "/.OPTIMIZER_SLOT/optimizer/momentum" if part == "slot" else ""
    value = tf.train.load_checkpoint(str(source)).get_tensor(key + published_files.SUFFIX)
    data = published_files.data_file(source)
    content = bytearray(data.read_bytes())
    content[content.index(value.tobytes()) + 13] ^= 2
    data.write_bytes(content)
    message = refusal(tmp_path, capsys, source, experiment("video"))
    assert f"{data}: damaged, cannot read {key}" in message


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("video", experiment("pretrain"), "--task=finetune"),
        ("pretrain", experiment("video"), "such as tx_fac"),
        ("unified", experiment("pretrain"), "such as ut_fac"),
        ("audio", experiment("video"), "voxel|patches/kernel .*: not in the checkpoint"),
        (
            "pretrain",
            experiment("pretrain", optimizer={"name": "Momentum"}),
            "slots m, v, but .* momentum: set train.optimizer.name: Adam, or .*weights alone",
        ),
        ("video", experiment("video", optimizer={"name": "AdamW"}), "train.optimizer.name: Mom"),
        ("video", experiment("video", optimizer={"name": "SGD"}), "optimizer are none: set train"),
    ],
)
def test_another_configuration_is_refused_with_the_fix(tmp_path, capsys, kind, values, message):
    assert re.search(message, refusal(tmp_path, capsys, write(tmp_path, kind), values))


def test_variables_trained_in_the_source_but_not_here(tmp_path, capsys):
    values = experiment("video")
    values["model_config"] = {**values["model_config"], "freeze_backbone": True}
    message = refusal(tmp_path, capsys, write(tmp_path, "video"), values)
    assert "42 differ" in message and "freeze_backbone" in message


def test_our_own_checkpoint_is_not_converted_again(tmp_path, capsys):
    source = write(tmp_path, "video")
    _, first = convert(tmp_path, source, experiment("video"))
    capsys.readouterr()
    flags = [str(first), str(tmp_path / "again"), config_file(tmp_path, experiment("video"))]
    assert convert_checkpoint.main(flags) == EXIT_CHECKPOINT
    assert "vatt fine-tuned checkpoint, nothing to convert" in capsys.readouterr().err


def test_nothing_is_overwritten(tmp_path, capsys):
    source = write(tmp_path, "video")
    before = {file.name: file.read_bytes() for file in tmp_path.glob("ckpt-*")}
    flags = [str(source), str(tmp_path), config_file(tmp_path, experiment("video"))]
    assert convert_checkpoint.main(flags) == EXIT_CHECKPOINT
    assert "nothing is overwritten" in capsys.readouterr().err
    assert before == {file.name: file.read_bytes() for file in tmp_path.glob("ckpt-*")}
    flags[1] = str(tmp_path / "experiment.yaml")
    assert convert_checkpoint.main(flags) == EXIT_CHECKPOINT
    assert "experiment.yaml: a file" in capsys.readouterr().err


def test_an_output_that_differs_is_removed(tmp_path, capsys, monkeypatch):
    """As if the disk returned other bytes: the tool reads its own output again."""
    real = checkpoint_conversion.checkpoints.variable_map

    def altered(model, optimizer):
        variables = real(model, optimizer)
        name = "model/classifier/classification/bias"
        return variables | {name: tf.constant(variables[name].numpy() + np.float32(1e-6))}

    monkeypatch.setattr(checkpoint_conversion.checkpoints, "variable_map", altered)
    message = refusal(tmp_path, capsys, write(tmp_path, "video"), experiment("video"))
    assert "model/classifier/classification/bias" in message and "_ops/cls/bias" in message


def test_errors_of_flags_and_configuration(tmp_path, capsys):
    source = write(tmp_path, "video")
    code, _ = convert(tmp_path, source, experiment("video"), "--model_arch=vit_bas")
    assert code == EXIT_USAGE and "Did you mean" in capsys.readouterr().err
    missing = str(tmp_path / "ckpt-8")
    assert convert_checkpoint.main([missing, str(tmp_path / "run")]) == EXIT_CHECKPOINT
    assert "no checkpoint there" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        convert_checkpoint.main([str(source)])


# Golden ------------------------------------------------------------------------------------------


def golden(shared_dir, name):
    folder = shared_dir / "conformance" / "checkpoints"
    with np.load(folder / f"{name}.npz") as archive:
        return folder / name, {key: archive[key] for key in archive.files}


def golden_experiment(arrays, **data):
    config = json.loads(str(arrays["config"]))
    data = {**published_files.INPUT, "num_frames": 8, "frame_size": 32, "min_resize": 32, **data}
    train = {"input": data}
    values = {"model_arch": config["case"]["arch"], "model_config": config["model"]}
    values |= {"task": "finetune" if "num_classes" in config["case"] else "pretrain"}
    return values | {"train": train, "eval": {"input": data}}


def golden_outputs(values, arrays, destination):
    """Returns the outputs of a fresh model with the converted checkpoint, by golden name."""
    cfg = configs.resolve(params_override=values)
    inputs = {
        name: arrays[f"in:{name}"].astype("i4" if name == "text" else "f4")
        for name in ("video", "audio", "text", "images")
        if f"in:{name}" in arrays
    }
    if cfg.task == "Finetune":
        model = factory.build_classifier(cfg.model)
        model.build((None, *inputs["images"].shape[1:]))
        transfer.load(destination, model)
        return model(inputs["images"])
    model = multimodal.build(cfg.model)
    model.build_from({name: (None, *value.shape[1:]) for name, value in inputs.items()})
    transfer.load(destination, model)
    outputs = model(inputs)
    flat = {
        f"head_stack/bridge/{modality}/{space}": value
        for modality, spaces in outputs.pop("head").items()
        for space, value in spaces.items()
    }
    flat |= {
        f"{m}/{name}": value for m, values in outputs.items() for name, value in values.items()
    }
    return flat


def compared(outputs, arrays, prefix, tolerance):
    names = [name for name in arrays if name.startswith(prefix)]
    assert names
    for name in names:
        value = np.asarray(outputs[name.removeprefix(prefix)])
        np.testing.assert_allclose(value, arrays[name], rtol=0, atol=tolerance(arrays[name]))


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("tx_fac", (124, 235)),
        ("ft_vit", (44, 45)),
        pytest.param("ut_fac", (84, 155), marks=pytest.mark.slow),
    ],
)
def test_golden_checkpoints(shared_dir, tmp_path, capsys, name, counts):
    folder, arrays = golden(shared_dir, name)
    values = golden_experiment(arrays, sample_rate=1280)
    code, destination = convert(tmp_path, folder / "ckpt-1", values)
    assert code == 0, capsys.readouterr().err
    content = certificate(destination, 1)
    stored = json.loads((folder.parent / f"{name}_all_keys.json").read_text())
    rows = [*content["variables"], *content["optimizer"]]
    named = [row["source"] for row in rows] + [row["key"] for row in content["unused"]]
    assert sorted(named) == sorted(key.removesuffix(published_files.SUFFIX) for key in stored)
    assert content["notes"] == [] and all(row["equal"] for row in content["hyperparameters"])
    outputs = golden_outputs(values, arrays, destination / "ckpt-1")
    compared(outputs, arrays, "ckpt1/out:", lambda _: 2e-5)
    assert (len(content["variables"]), len(content["optimizer"])) == counts


def convolved(value):
    return 5e-5 * np.abs(value).max()


@pytest.mark.slow
def test_golden_convolutional_checkpoint(shared_dir, tmp_path, capsys):
    folder, arrays = golden(shared_dir, "mmv_fac")
    with tarfile.open(next(folder.glob("*.tar.xz"))) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    source = next(Path(tmp_path / "source").rglob("*.index")).with_suffix("")
    values = golden_experiment(arrays, raw_audio=False)
    values["train"]["optimizer"] = {"name": "SGD"}  # no slots, which would be a gigabyte of zeros
    code, destination = convert(tmp_path, source, values)
    assert code == 0, capsys.readouterr().err
    outputs = golden_outputs(values, arrays, destination / "ckpt-0")
    compared(outputs, arrays, "ckpt0/out:", convolved)
    # The audio tower alone, from either checkpoint.
    config = configs.resolve(params_override=values).model.backbone_config.resolve("audio")
    tuned = factory.build_classifier(config, num_classes=3)
    tuned.build((None, *arrays["in:audio"].shape[1:]))
    for prefix in (source, destination / "ckpt-0"):
        for variable in tuned.variables:
            variable.assign(variable + 1.0)
        transfer.transfer(prefix, tuned)
        features = tuned(arrays["in:audio"].astype("f4"))["features_pooled"]
        expected = arrays["ckpt0/out:audio/features_pooled"]
        np.testing.assert_allclose(features, expected, rtol=0, atol=convolved(expected))
