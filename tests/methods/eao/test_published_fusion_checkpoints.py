"""Published files: restored, converted with a certificate and back, bit for bit, or refused."""

from __future__ import annotations

import json
import re

import fusion_models as small
import numpy as np
import pytest
import yaml

from tests.torch_writer import write_zip
from vatt import methods
from vatt.errors import CheckpointError
from vatt.methods.eao import config as eao
from vatt.methods.eao import published
from vatt.tools import convert_checkpoint
from vatt.training import sources, transfer

CHANGES = {
    "fusion": {},
    "one projection": {"individual_projections": False},
    "class token": {"individual_projections": False, "fusion": {"use_cls_token": True}},
    "positions": {"use_positional_emb": True, "video_max_tokens": 3, "text_max_tokens": 4}
    | {"audio_max_num_stft_frames": 32},
    "minimal": {"token_projection": "minimal", "projection": "minimal"},
    "apart": {"type": eao.PER_MODALITY},
    "text and video": {"type": eao.TV_ONLY},
    "baseline": {"type": eao.BASELINE},
}


def filled(cfg):
    """Returns a model with other numbers in every variable."""
    model = methods.named("eao").model(cfg, {}, "float32")
    random = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(random.uniform(0.5, 1.5, size=variable.shape))
    return model


def file_of(path, tensors, **changes):
    """Writes weights as the published trainer leaves them."""
    parallel = {f"module.{name}": value for name, value in tensors.items()}
    for name in [n for n in tensors if n.endswith("running_var")]:
        counted = name.replace("running_var", "num_batches_tracked")
        parallel[f"module.{counted}"] = np.array(7)
    beside = {"arch": "DataParallel", "epoch": 3, "step": 4, "monitor_best": 0.5}
    beside |= {"optimizer": {"state": {}}, "config": {"n_gpu": 4, "trainer": {"epochs": 15}}}
    return write_zip(path, {**beside, "state_dict": parallel, **changes})


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_written_is_read_and_written_again(tmp_path, name):
    cfg = small.config(**CHANGES[name])
    model = filled(cfg)
    tensors = published.state_dict(model)
    path = file_of(tmp_path / "latest_model.pth", tensors)
    other = small.built(cfg)
    report = transfer.load(path, other)
    assert len(report.rows) == len(other.variables) and not report.unused
    for one, two in zip(model.variables, other.variables, strict=True):
        np.testing.assert_array_equal(one, two, err_msg=one.path)
    again = published.state_dict(other)
    assert again.keys() == tensors.keys()
    for key, value in tensors.items():
        np.testing.assert_array_equal(again[key], value, err_msg=key)
    unused = {"DAVEnet.batchnorm1.weight"} if name == "baseline" else {"fusion.norm.weight"}
    assert unused <= again.keys()


def test_layouts_of_tensors():
    model = filled(small.config())
    tensors, names = published.state_dict(model), published.model_names(model)
    assert len(names) == len(model.variables)
    by_path = {v.path.partition("/")[2]: v.numpy() for v in model.variables}
    block = "fusion/encoder/layer_0"
    joined = tensors["fusion.blocks.0.attn.qkv.weight"]
    assert joined.shape == (36, 12)
    for place, part in enumerate("qkv"):
        rows = joined[place * 12 : (place + 1) * 12]
        np.testing.assert_array_equal(rows.T, by_path[f"{block}/attention/{part}/kernel"])
    stem = tensors["davenet.conv1.weight"]
    assert stem.shape == (4, 1, 40, 1)
    np.testing.assert_array_equal(stem[:, 0, :, 0].T, by_path["audio/davenet/stem/conv/kernel"][0])
    kernel = tensors["davenet.layer4.0.conv1.weight"]
    assert kernel.shape == (8, 6, 1, 9)
    ours = by_path["audio/davenet/layer4_0/conv1/conv/kernel"]
    np.testing.assert_array_equal(np.einsum("oiht->htio", kernel)[0], ours)


def test_transformers_apart_stand_in_a_file_twice():
    tensors = published.state_dict(filled(small.config(type=eao.PER_MODALITY)))
    text = {n for n in tensors if n.startswith("fusion_text.")}
    assert len(text) == 15 and {n.replace("_text", "") for n in text} <= tensors.keys()
    for name in text:
        np.testing.assert_array_equal(tensors[name], tensors[name.replace("_text", "")])


def test_files_of_other_models_are_told(tmp_path):
    path = file_of(tmp_path / "model_best.pth", published.state_dict(filled(small.config())))
    source = sources.open_source(path)
    assert source.layout.kind == "pretrain" and source.layout.published
    deeper = small.built(small.config(fusion={"depth": 2}))
    with pytest.raises(CheckpointError, match=r"layer_1/attention.*not in the checkpoint"):
        transfer.load(path, deeper)
    narrow = small.built(small.config(video_embed_dim=6))
    with pytest.raises(CheckpointError, match=r"\(7, 12\) there, \(6, 12\) here"):
        transfer.load(path, narrow)
    shared = small.built(small.config(individual_projections=False))
    with pytest.raises(CheckpointError, match=r"text_proj\..*in the checkpoint only"):
        transfer.load(path, shared)
    gdt = methods.named("gdt")
    layout = next(filter(None, (r(source.shapes, "torch") for r in gdt.layouts())), None)
    assert layout is None


def test_a_published_file_is_converted_with_a_certificate(tmp_path, capsys):
    cfg = small.config()
    path = file_of(tmp_path / "latest_model.pth", published.state_dict(filled(cfg)))
    config_file = tmp_path / "small.yaml"
    changes = {k: v for k, v in cfg.as_dict().items() if v != eao.ModelConfig().as_dict()[k]}
    tokens = {"video_embed_dim": 7, "text_embed_dim": 5, "num_audio_stft_frames": 32}
    run = {
        "model_arch": "eao",
        "model_config": changes,
        "train": {"input": {"tokens": tokens}},
        "eval": {"input": {"tokens": tokens}},
    }
    config_file.write_text(yaml.safe_dump(run))
    arguments = [str(path), str(tmp_path / "ours"), f"--config_file={config_file}"]
    assert convert_checkpoint.main(arguments) == 0, capsys.readouterr().err
    certificate = json.loads((tmp_path / "ours/ckpt-0.certificate.json").read_text())
    reasons = {row["key"]: row["reason"] for row in certificate["unused"]}
    for key in ("arch", "step", "monitor_best", "config", "optimizer", "epoch"):
        assert not re.search("not known here", reasons[key]), key
    assert any(key.endswith("num_batches_tracked") for key in reasons)
    assert len(certificate["variables"]) == len(small.built(cfg).variables)
    model = small.built(cfg)
    transfer.load(tmp_path / "ours/ckpt-0", model)
    for key, value in published.state_dict(filled(cfg)).items():
        np.testing.assert_array_equal(published.state_dict(model)[key], value, err_msg=key)
