"""Published files of GDT and STiCA: restored, converted and back, bit for bit, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import published_files
import pytest
import yaml

from tests import gdt_names
from tests.torch_writer import WRITERS, write_stream, write_zip
from vatt import configs, methods
from vatt.errors import EXIT_CHECKPOINT, CheckpointError
from vatt.methods.gdt import published
from vatt.modeling import factory
from vatt.tools import convert_checkpoint
from vatt.training import sources, transfer

SHAPES = {"video": (None, 4, 32, 32, 3), "audio": (None, 20, 16, 1)}
writers = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


def file_of(path: Path, tensors, write=write_stream, **beside) -> Path:
    """Writes the weights as GDT leaves them, or as STiCA does if the name says so."""
    if path.name.endswith(".pth.tar"):
        parallel = {f"module.{name}": value for name, value in tensors.items()}
        return write(path, {"epoch": 102, "state_dict": parallel, "optimizer": {"state": {}}})
    return write(path, {"model": tensors, "optimizer": {"state": {}}, "epoch": 102, **beside})


def classifier(modality="video", arch=None, **changes):
    """Returns a narrow fine-tuning model."""
    narrow = gdt_names.VIDEO if modality == "video" else gdt_names.BACKBONE
    arch = arch or {"video": "r2plus1d_18", "audio": "resnet18"}[modality]
    values = {"num_classes": gdt_names.CLASSES, **narrow, **changes}
    model = factory.build_classifier(configs.registry.backbone(arch, **values))
    model.build(SHAPES[modality])
    return model


def turned(value, leaf):
    """Returns a published tensor as ours, by the specification of the axes."""
    orders = {5: "oithw->thwio", 4: "oift->tfio", 2: "oi->io"}
    return np.einsum(orders[value.ndim], value) if leaf == "kernel" else value


def assert_equal(variable, value):
    ours = variable.numpy()
    assert (ours.dtype, ours.shape, ours.tobytes()) == (
        np.float32,
        value.shape,
        np.ascontiguousarray(value).tobytes(),
    ), variable.path


# A few variables of each kind, so that the order of the tensors counts too.
VIDEO = {
    "stem/spatial/conv/kernel": "stem.0.weight",
    "stem/temporal/bn/gamma": "stem.4.weight",
    "layer1_1/conv1/spatial/conv/kernel": "layer1.1.conv1.0.0.weight",
    "layer2_0/conv2/spatial/bn/moving_variance": "layer2.0.conv2.0.1.running_var",
    "layer3_0/conv2/temporal/conv/kernel": "layer3.0.conv2.0.3.weight",
    "layer4_0/conv1/temporal/bn/beta": "layer4.0.conv1.1.bias",
    "layer4_0/shortcut/conv/kernel": "layer4.0.downsample.0.weight",
    "layer4_0/shortcut/bn/moving_mean": "layer4.0.downsample.1.running_mean",
}
AUDIO = {
    "stem/conv/kernel": "conv1.weight",
    "layer1_1/conv2/bn/gamma": "layer1.1.bn2.weight",
    "layer2_0/shortcut/conv/kernel": "layer2.0.downsample.0.weight",
}


# Backbones ---------------------------------------------------------------------------------------


@writers
@pytest.mark.parametrize("name", ["gdt_K400.pth", "checkpoint.pth.tar"])
@pytest.mark.parametrize(("modality", "pairs"), [("video", VIDEO), ("audio", AUDIO)])
def test_fine_tuning_begins_with_a_published_backbone(tmp_path, write, name, modality, pairs):
    tensors = gdt_names.values(gdt_names.sound())
    path = file_of(tmp_path / name, tensors, write)
    model = classifier(modality)
    before = [v.numpy() for v in model.classification.variables]
    report = transfer.transfer(path, model)
    root = f"{modality}_network.base"
    own = {key for key in gdt_names.weights(tensors) if key.startswith(f"{root}.")}
    assert {row.key for row in report.of("restored")} == own and not report.left
    assert [row.variable.partition("/")[2] for row in report.of("new")] == [
        "classification/kernel",
        "classification/bias",
    ]
    by_path = {v.path.partition("/")[2]: v for v in model.variables}
    for ours, theirs in pairs.items():
        value = turned(tensors[f"{root}.{theirs}"], ours.rpartition("/")[2])
        assert_equal(by_path[f"{modality}/{ours}"], value)
    for variable, value in zip(model.classification.variables, before, strict=True):
        assert_equal(variable, value)
    other = {"video": "audio_network", "audio": "video_network"}[modality]
    table = report.table()
    assert "not used  7 of mlp_v" in table and "not used  7 of mlp_a" in table
    assert f" of {other}" in table and f" of {modality}_network" not in table


def test_another_depth_names_what_differs(tmp_path):
    path = file_of(tmp_path / "gdt.pth", gdt_names.values(gdt_names.sound()))
    deeper, shallower = (classifier(blocks=(2, 2, 1, 1)), classifier(blocks=(1, 1, 1, 1)))
    before = [v.numpy() for v in deeper.variables]
    with pytest.raises(CheckpointError, match=r"(?s)layer2_1/conv1.*not in the checkpoint"):
        transfer.transfer(path, deeper)
    for variable, value in zip(deeper.variables, before, strict=True):
        assert_equal(variable, value)
    with pytest.raises(CheckpointError, match=r"layer1\.1\.conv1.*in the checkpoint only"):
        transfer.transfer(path, shallower)
    wider = classifier(widths=(4, 6, 8, 12))
    with pytest.raises(CheckpointError, match=r"\(1, 3, 3, 8, 21\) there, \(1, 3, 3, 8, 24\)"):
        transfer.transfer(path, wider)
    report = transfer.transfer(path, deeper, partial=True)
    assert all("/layer2_1/" in row.variable for row in report.of("new")[:-2])


def test_tensors_of_another_number_of_axes_are_told(tmp_path):
    tensors = gdt_names.values(gdt_names.sound())
    tensors["video_network.base.stem.0.weight"] = np.zeros((5, 3, 7), np.float32)
    path = file_of(tmp_path / "gdt.pth", tensors)
    with pytest.raises(CheckpointError, match=r"stem/spatial/conv/kernel: \(5, 3, 7\) there"):
        transfer.transfer(path, classifier())


def test_pooling_over_time_belongs_to_the_video_backbone(tmp_path):
    tensors = gdt_names.values(gdt_names.stica())
    path = file_of(tmp_path / "stica.pth.tar", tensors)
    with pytest.raises(CheckpointError, match=r"video_pooling\.2\..*: in the checkpoint only"):
        transfer.transfer(path, classifier())
    assert not transfer.transfer(path, classifier("audio")).left
    options = {"pooling_layers": 2, "pooling_heads": 2, "pooling_steps": 2}
    model = classifier(**options, pooling_positions=True, pooling_values=True)
    report = transfer.transfer(path, model)
    assert len(report.of("new")) == 2  # the classifier
    by_path = {v.path.partition("/")[2]: v for v in model.variables}
    value = tensors["video_pooling.2.transformer.1.mha.k_lin.weight"].T
    assert_equal(by_path["video/pooling/encoder/layer_1/attention/k/kernel"], value)


def test_other_backbones_and_checkpoints_have_nothing_in_common(tmp_path):
    path = file_of(tmp_path / "gdt.pth", gdt_names.values(gdt_names.sound()))
    with pytest.raises(CheckpointError, match="with nothing that fits the video backbone"):
        transfer.transfer(path, published_files.model("video"))
    with pytest.raises(CheckpointError, match=r"GDT or STiCA pre-training .* does not fit"):
        transfer.load(path, published_files.model("pretrain"))
    with pytest.raises(CheckpointError, match=r"does not fit .*--model_arch"):
        transfer.load(path, classifier())
    for kind in ("pretrain", "unified", "finetune"):
        shapes = (
            published_files.finetune("video")
            if kind == "finetune"
            else getattr(published_files, kind)()
        )
        prefix = published_files.write(tmp_path / kind, published_files.values(shapes))
        with pytest.raises(CheckpointError, match="with nothing that fits the video backbone"):
            transfer.transfer(prefix, classifier())
        with pytest.raises(CheckpointError, match="does not fit the model"):
            transfer.load(prefix, classifier())


def test_other_weights_are_no_checkpoint_of_ours(tmp_path):
    path = write_stream(tmp_path / "resnet50.pth", {"conv1.weight": np.zeros((2, 3), np.float32)})
    with pytest.raises(CheckpointError, match=r"not a checkpoint of a kind known .*conv1\.weight"):
        sources.open_source(path)


# Fine-tuned models -------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [False, True])
def test_a_fine_tuned_model_comes_whole(tmp_path, norm):
    tensors = gdt_names.values(gdt_names.finetuned(norm))
    path = file_of(tmp_path / "ucf101.pth", tensors)
    model = classifier(cls_batch_norm=norm)
    report = transfer.load(path, model)
    assert {row.key for row in report.rows} == set(gdt_names.weights(tensors))
    last = "classifier.1" if norm else "classifier"
    assert_equal(model.classification.kernel, tensors[f"{last}.weight"].T)
    assert_equal(model.classification.bias, tensors[f"{last}.bias"])
    if norm:
        layer = model.classification_norm
        assert_equal(layer.gamma, tensors["classifier.0.weight"])
        assert_equal(layer.moving_variance, tensors["classifier.0.running_var"])
    assert all(row.action == "restored" for row in transfer.transfer(path, model).rows)
    for other in (
        classifier(num_classes=7, cls_batch_norm=norm),
        classifier(cls_batch_norm=not norm),
    ):
        report = transfer.transfer(path, other)  # another classifier: the backbone alone
        head = [row for row in report.rows if "/classification" in row.variable]
        assert head and all(row.action in ("skipped", "new") for row in head)
        assert_equal(other.backbone.variables[0], model.backbone.variables[0].numpy())


# Whole models ------------------------------------------------------------------------------------

HEAD = {"d_model": gdt_names.EMBEDDING, "d_hidden": gdt_names.HIDDEN}
TOWERS = {"video_model_kwargs": gdt_names.VIDEO, "head_config": HEAD}
SOUND = {**TOWERS, "audio_model_kwargs": gdt_names.BACKBONE}
WORDS = dict(zip(("vocab_size", "d_embedding"), gdt_names.WORDS, strict=True))
POOLING = {"num_layer": 2, "num_head": 2, "positional_emb": True, "qkv_mha": True}
MODELS = {
    "gdt_av": (gdt_names.sound, SOUND),
    "gdt_text": (
        gdt_names.captions,
        {**TOWERS, "text_model_kwargs": {**WORDS, "d_model": gdt_names.LINEAR}},
    ),
    "stica": (gdt_names.stica, {**SOUND, **POOLING}),
}
CLIPS = {"num_frames": 16, "frame_size": 32, "min_resize": 32}
# Of each kind what backbones do not have, with the published name.
PARTS = {
    "gdt_av": {
        "video_head/hidden/kernel": "mlp_v.block_forward.2.weight",
        "audio_head/norm/moving_variance": "mlp_a.block_forward.4.running_var",
        "audio_head/output/bias": "mlp_a.block_forward.8.bias",
    },
    "gdt_text": {
        "text/embedding/embeddings": "text_network.word_embd.weight",
        "text/base/conv1d/bias": "text_network.fc1.bias",
        "text_head/output/kernel": "mlp_t.block_forward.8.weight",
    },
    "stica": {
        "pooling/positions/embeddings": "video_pooling.2.pos_embs.0.weight",
        "pooling/encoder/layer_1/attention/k/kernel": "video_pooling.2.transformer.1.mha.k_lin"
        ".weight",
        "pooling/encoder/layer_0/feed_forward/wo/bias": "video_pooling.2.transformer.0.ffn.lin2"
        ".bias",
        "pooling/encoder/layer_1/feed_forward_norm/gamma": "video_pooling.2.transformer.1.norm2"
        ".weight",
    },
}


def settings(arch):
    """Returns the configuration of a training of a narrow model, as a mapping."""
    values = {"task": "pretrain", "model_arch": arch, "model_config": MODELS[arch][1]}
    return values | {side: {"input": CLIPS} for side in ("train", "eval")}


def convert(tmp_path, source, values):
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump(json.loads(json.dumps(values))))
    destination = tmp_path / "converted"
    code = convert_checkpoint.main([str(source), str(destination), f"--config_file={file}"])
    return code, destination / "ckpt-0"


def built(arch):
    cfg = configs.resolve(params_override=settings(arch))
    method = methods.of(cfg)
    shapes = {"video": (16, 32, 32, 3), "audio": (20, 16, 1), "text": (4,)}
    return method.model(cfg.model, shapes, "float32")


@pytest.mark.parametrize("arch", MODELS)
@pytest.mark.parametrize("name", ["gdt_K400.pth", "ckp-20.pth.tar"])
def test_a_converted_checkpoint_goes_back_bit_for_bit(tmp_path, capsys, arch, name):
    tensors = gdt_names.values(MODELS[arch][0]())
    source = file_of(tmp_path / name, tensors, write_zip)
    code, prefix = convert(tmp_path, source, settings(arch))
    printed = capsys.readouterr()
    assert code == 0, printed.err
    wanted = gdt_names.weights(tensors)
    report = transfer.load(prefix, model := built(arch))
    assert report.source.layout.kind == "pretrain" and not report.source.layout.published
    names = published.model_names(model)
    back = {names[v.path]: published.to_published(v.path, v.numpy()) for v in model.variables}
    assert set(back) == set(wanted)
    for key, value in wanted.items():
        assert (back[key].shape, back[key].tobytes()) == (value.shape, value.tobytes()), key
    by_path = {v.path.partition("/")[2]: v for v in model.variables}
    for ours, theirs in PARTS[arch].items():
        value = turned(tensors[theirs], ours.rpartition("/")[2])
        assert_equal(by_path[ours], value.reshape(by_path[ours].shape))
    content = json.loads(prefix.with_name("ckpt-0.certificate.json").read_text())
    assert {row["source"] for row in content["variables"]} == set(wanted)
    assert all(row["sha256"] == row["source_sha256"] for row in content["variables"])
    turned_rows = [row for row in content["variables"] if "source_shape" in row]
    assert all(row["name"].endswith("/kernel") for row in turned_rows) and turned_rows
    unused = {row["key"]: row["reason"] for row in content["unused"]}
    assert set(unused) >= (set(tensors) - set(wanted)) | {"optimizer", "epoch"}
    assert not any("not known here" in reason for reason in unused.values())
    assert content["source"]["epoch"] == 102 and content["optimizer"] == []
    assert content["source"]["entry"] == ("model" if name.endswith(".pth") else "state_dict")
    assert "weights only" in printed.out and "step 0 was taken" in printed.out
    direct = transfer.load(source, built(arch))
    assert {row.key for row in direct.of("restored")} == set(wanted)


def test_nothing_is_converted_that_does_not_fit(tmp_path, capsys):
    source = file_of(tmp_path / "gdt.pth", gdt_names.values(gdt_names.sound()))
    for arch, message in (("stica", "pooling"), ("gdt_text", "text")):
        code, prefix = convert(tmp_path, source, settings(arch))
        error = capsys.readouterr().err
        assert code == EXIT_CHECKPOINT and message in error, error
        assert not list(prefix.parent.glob("ckpt-*"))
    values = {"task": "pretrain", "model_arch": "tx_fac_tiny"}
    code, _ = convert(tmp_path, source, values)
    error = capsys.readouterr().err
    assert code == EXIT_CHECKPOINT and "model_arch tx_fac_tiny" in error and "gdt_av" in error
    code, _ = convert(tmp_path, source, {"task": "finetune", "model_arch": "r2plus1d_18"})
    assert code == EXIT_CHECKPOINT and "that of task finetune" in capsys.readouterr().err


def test_numbers_that_are_not_float32_are_not_converted(tmp_path, capsys):
    tensors = gdt_names.values(gdt_names.sound())
    tensors["mlp_v.block_forward.8.bias"] = np.zeros(gdt_names.EMBEDDING, np.float64)
    source = file_of(tmp_path / "gdt.pth", tensors)
    code, prefix = convert(tmp_path, source, settings("gdt_av"))
    assert code == EXIT_CHECKPOINT and "float64" in capsys.readouterr().err
    assert not list(prefix.parent.glob("ckpt-*"))
