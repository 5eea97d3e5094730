"""Published files of Flax: restored, converted with a certificate, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.flax_writer import nested, packed, write
from vatt import configs, methods
from vatt.errors import EXIT_CHECKPOINT, CheckpointError
from vatt.methods.av_mae import published
from vatt.modeling.layers.encoder import Encoder, EncoderOptions
from vatt.modeling.layers.tokens import PatchEmbedding
from vatt.tools import convert_checkpoint
from vatt.training import sources, transfer
from vatt.training.flax_checkpoints import FlaxCheckpoint

GOLDEN = "pretrain_tiny_mid__same_decoder_inpainting_shuffled.npz"
SIZES = {"d_kv": 8, "num_heads": 2, "d_ff": 24, "num_layers": 3, "d_model": 16}
DECODER = {"d_kv": 4, "num_heads": 3, "d_ff": 16, "num_layers": 2, "d_model": 12}
CLIPS = {"num_frames": 4, "frame_size": 8, "min_resize": 8, "mel_bins": 8, "audio_seconds": 0.12}
SETTINGS = {
    "model_config": {
        **SIZES,
        "fusion_layers": 1,
        "spatial_patch_size": 4,
        "audio_temporal_patch_size": 4,
        "audio_spectral_patch_size": 4,
        "video_mask": 0.75,
        "decoder_config": DECODER,
        "loss_config": {"standardise_per_patch": False},
    },
    "train": {"input": CLIPS},
    "eval": {"input": CLIPS},
}


@pytest.fixture(scope="module")
def weights(shared_dir):
    with np.load(shared_dir / "conformance_av_mae" / GOLDEN) as arrays:
        return {n.removeprefix("w/"): arrays[n] for n in arrays.files if n.startswith("w/")}


def file_of(path: Path, weights, step=7) -> Path:
    """Writes weights as the trainer of pretraining leaves them."""
    states = {name: {"grad_ema": value, "grad_sq_ema": value} for name, value in weights.items()}
    states = nested(
        {f"{n}/{k}": value for n, state in states.items() for k, value in state.items()}
    )
    optimizer = {"state": {"step": np.int32(step), "param_states": states}}
    content = {"optimizer": optimizer | {"target": nested(weights)}, "model_state": {}}
    beside = {"global_step": np.array(step), "rng": np.zeros(2, np.uint32)}
    return write(path, content | beside)


def built():
    cfg = configs.resolve(model_arch="av_mae_tiny", params_override=SETTINGS)
    shapes = {"video": (4, 8, 8, 3), "audio": (12, 8, 1)}
    return methods.of(cfg).model(cfg.model, shapes, "float32")


def assert_restored(model, weights):
    names = published.model_names(model)
    assert set(names.values()) == set(weights)
    for variable in model.variables:
        value = weights[names[variable.path]].reshape(variable.shape)
        np.testing.assert_array_equal(variable.numpy(), value, variable.path)


def test_a_converted_checkpoint_has_its_certificate(tmp_path, capsys, weights):
    source = file_of(tmp_path / "checkpoint_7", weights)
    override = [f"--params_override={json.dumps(SETTINGS)}", "--model_arch=av_mae_tiny"]
    # A folder stands for its newest file.
    file_of(tmp_path / "checkpoint_6", {n: v + 1 for n, v in weights.items()})
    code = convert_checkpoint.main([str(tmp_path), str(tmp_path / "ours"), *override])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert "weights only" in printed.out
    transfer.load(tmp_path / "ours" / "ckpt-7", model := built())
    assert_restored(model, weights)
    content = json.loads((tmp_path / "ours" / "ckpt-7.certificate.json").read_text())
    assert {row["source"] for row in content["variables"]} == set(weights)
    assert all(row["sha256"] == row["source_sha256"] for row in content["variables"])
    assert content["source"]["entry"] == "optimizer/target"
    unused = {row["key"]: row["reason"] for row in content["unused"]}
    assert set(unused) == {"optimizer/state", "model_state", "rng"}
    assert not any("not known here" in reason for reason in unused.values())
    transfer.load(source, direct := built())
    assert_restored(direct, weights)


class EncoderOfPatches(keras.layers.Layer):
    """A tower as a classifier has it: patches, and an encoder of all layers."""

    def __init__(self):
        super().__init__(name="backbone")
        self.patches = PatchEmbedding((4, 4), (4, 4), 16, name="patches")
        self.encoder = Encoder(EncoderOptions(**SIZES), name="encoder")

    def build(self, shape):
        self.patches.build(shape)
        self.encoder.build((None, None, 16))


def test_layers_of_both_modalities_follow_those_of_one(tmp_path, weights):
    layout = sources.open_source(file_of(tmp_path / "checkpoint_7", weights)).layout
    tower = EncoderOfPatches()
    tower.build((None, 12, 8, 1))
    published_keys = layout.backbone_keys(tower, "audio")
    assert set(published_keys) == {v.path for v in tower.variables}
    keys = {path.removeprefix("backbone/"): key for path, key in published_keys.items()}
    assert keys["patches/kernel"] == "embedding_spectrogram/kernel"
    query = "MultiHeadDotProductAttention_0/query/kernel"
    for ours, theirs in (
        ("layer_1/attention/q/kernel", f"Transformer_spectrogram/encoderblock_1/{query}"),
        ("layer_2/attention/q/kernel", f"Transformer_concat/encoderblock_0/{query}"),
        ("final_norm/gamma", "Transformer_concat/encoder_norm/scale"),
    ):
        assert keys[f"encoder/{ours}"] == theirs
    # Our own checkpoints say the same of the same model.
    model, names = built(), {}
    names = published.model_names(model)
    for path, key in layouts_own(model, tower, "audio").items():
        assert names[key.removeprefix("model/")] == published_keys[path]


def layouts_own(model, tower, modality):
    from vatt.training import layouts

    own = layouts.Own(layouts.metadata(model, layouts.PRETRAIN, "av_mae_tiny"), model.name)
    return own.backbone_keys(tower, modality)


def test_what_is_no_checkpoint_is_told(tmp_path, weights, capsys):
    damaged = tmp_path / "checkpoint_1"
    damaged.write_bytes(file_of(tmp_path / "checkpoint_7", weights).read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"checkpoint_1: no checkpoint of Flax.*cut off"):
        sources.open_source(damaged)
    other = write(tmp_path / "other.msgpack", {"params": {"a": {"b": np.zeros(2)}}})
    with pytest.raises(CheckpointError, match="not a checkpoint of a kind known here"):
        sources.open_source(other)
    (tmp_path / "empty.msgpack").write_bytes(packed({"step": 3}))
    with pytest.raises(CheckpointError, match=r"no weights in it.*it holds step"):
        FlaxCheckpoint(tmp_path / "empty.msgpack")
    with pytest.raises(CheckpointError, match="cannot be read"):
        FlaxCheckpoint(tmp_path / "nothing.msgpack")
    code = convert_checkpoint.main(
        [str(tmp_path / "checkpoint_7"), str(tmp_path / "ours"), "--model_arch=av_mae_tiny"]
    )
    error = capsys.readouterr().err
    assert code == EXIT_CHECKPOINT and "does not fit the model" in error, error
