"""Small runs of every method that is registered, and of a classifier of video and sound.

A method is covered by being registered: its first preset called `..._tiny` is trained on clips with
pictures, sound and captions. What is made smaller in its model stands in `MODELS`, which also says
which of several presets is taken.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import yaml

from vatt import configs, methods
from vatt.experiments import finetune, pretrain
from vatt.training.checkpoints import open_checkpoint

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
import corpus
import token_sets

SAMPLE_RATE = 16_000
CAPTIONS = ["a red circle moves left", "a circle", "zero one red"]
CLIP = {"name": "clips", "num_frames": 4, "frame_size": 16, "min_resize": 16, "batch_size": 4}
HEARD = {"sample_rate": SAMPLE_RATE, "audio_seconds": 0.4}

_TOWER = {"d_model": 16, "d_ff": 32, "num_heads": 2, "d_kv": 8, "num_layers": 1}
_TOWER |= {"dropout_rate": 0.1}
_NARROW = {"widths": [4, 4, 4, 8]}
_CONVOLVED = {"video_model_kwargs": _NARROW, "audio_backbone": "resnet_tiny"}
_CONVOLVED |= {"audio_model_kwargs": _NARROW}
MODELS: dict[str, dict[str, Any]] = {
    "tx_fac_tiny": {
        "backbone_config": {
            "video_model_kwargs": {
                **_TOWER,
                "temporal_patch_size": 2,
                "spatial_patch_size": 8,
                "max_temporal_buckets": 2,
                "max_vertical_buckets": 2,
                "max_horizontal_buckets": 2,
            },
            "audio_model_kwargs": _TOWER,
            "text_model_kwargs": {**_TOWER, "vocab_size": 16, "d_embedding": 8, "d_pre_proj": 16},
        }
    },
    "gdt_tiny": _CONVOLVED,
    "stica_tiny": _CONVOLVED,
    "av_mae_tiny": {"dropout_rate": 0.1, "decoder_config": {"dropout_rate": 0.1}},
    "eao_tiny": {
        "video_embed_dim": token_sets.WIDTH,
        "davenet_widths": [4, 4, 4, 8],
        "davenet_blocks": [1, 1, 1],
        "fusion_params": {"embed_dim": 8, "drop_rate": 0.1, "attn_drop_rate": 0.1},
        "use_xreplica_bn": True,  # as published each replica has statistics of its own
    },
    "mbt_tiny": {"num_layers": 2, "fusion_layer": 1, "stochastic_depth": 0.5, "dropout_rate": 0.1},
}
# What else a preset needs of clips.
CLIPS: dict[str, dict[str, Any]] = {
    "tx_fac_tiny": {"max_num_words": 6, "vocabulary": "", "audio_seconds": None},
    "mbt_tiny": {
        "min_resize": 18,
        "mel_bins": 16,
        "mixup": True,
        "mixup_style": "batch",
        "mixup_apart": True,
        "band_masks": 1,
        "band_mask_width": 3,
    },
}
FINE_TUNED = ("mbt_tiny",)
# What presets read that take tokens in place of clips.
TOKENS: dict[str, dict[str, Any]] = {
    "eao_tiny": {"video_embed_dim": token_sets.WIDTH, "num_audio_stft_frames": 96},
}


def _preset(method: methods.Method) -> str:
    tiny = [name for name in method.presets if name.endswith("_tiny")]
    return next((name for name in tiny if name in MODELS), tiny[0])


CASES = tuple(_preset(method) for method in methods.known()) + FINE_TUNED
each = pytest.mark.parametrize("arch", CASES)


def write(folder: Path) -> Path:
    """Writes the records of all runs; returns the folder of data sets."""
    clips = [corpus.example(number, captions=CAPTIONS) for number in range(8)]
    corpus.write_set(folder, "clips", clips, sample_rate=SAMPLE_RATE)
    corpus.write_vocabulary(folder)
    file = folder / "clips" / "card.yaml"
    card = yaml.safe_load(file.read_text())
    card["tasks"] = ["pretrain", "video_classification", "audio_classification"]
    file.write_text(yaml.safe_dump(card))
    token_sets.write_set(folder, "tokens", [token_sets.example(number) for number in range(8)])
    return folder


def _inputs(arch: str, data_dir: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a run reads to train and to evaluate."""
    if arch in TOKENS:
        tokens = {"tokens": TOKENS[arch]}
        return tokens | {"name": "tokens", "batch_size": 4, "num_parallel_calls": 2}, tokens
    clip = CLIP | HEARD | CLIPS.get(arch, {})
    if "vocabulary" in clip:
        clip["vocabulary"] = str(data_dir / "words.txt")
    same = ("num_frames", "frame_size", "mel_bins", *HEARD)
    evaluated = {key: clip[key] for key in same if key in clip}
    return clip | {"video_stride": 1, "fps": 10.0, "num_parallel_calls": 2}, evaluated


def config(arch: str, data_dir: Path, folder: Path, *, steps: int, **train: Any) -> Any:
    """Returns the configuration of a run; `train` changes fields of that name."""
    read, evaluated = _inputs(arch, data_dir)
    task = "finetune" if arch in FINE_TUNED else "pretrain"
    rate = {"type": "CosineDecayLearningRate", "total_steps": steps, "warmup_steps": 1}
    rate["learning_rate_base"] = 1e-3
    override = {
        "train": {
            "input": read,
            "iterations_per_loop": 2,
            "save_checkpoint_freq": 2,
            "max_checkpoints": 99,
            "optimizer": {"learning_rate": rate},
        },
        "eval": {"input": evaluated},
        **({"jit_compile": False} if task == "pretrain" else {}),  # it takes longer than the steps
        "model_config": MODELS.get(arch, {}),
    }
    return configs.resolve(
        task=task,
        mode="train",
        model_arch=arch,
        data_dir=str(data_dir),
        model_dir=str(folder),
        params_override=[override, {"train": train}],
        strategy_type="one_device",
    )


def recipe(cfg: Any, strategy: tf.distribute.Strategy) -> Any:
    """Returns what a run trains."""
    pretraining = isinstance(cfg, configs.experiment.Pretrain)
    return (pretrain.PretrainRecipe if pretraining else finetune.FinetuneRecipe)(cfg, strategy)


def values(prefix: Path) -> dict[str, Any]:
    """Returns all tensors of a checkpoint by name."""
    reader = open_checkpoint(prefix)
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
