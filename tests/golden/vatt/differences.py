"""What differs in our configuration from the published one: names, defaults, added fields.

    differences.class_of("dataset.Pretrain")    # vatt.methods.vatt.config.PretrainInput

tests/configs/test_schema.py compares every class with the published defaults in both directions.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from typing import Any

from vatt.configs import audio, backbones, base, dataset, experiment, registry, text, unified, video
from vatt.methods.vatt import PRESETS, towers
from vatt.methods.vatt import config as configuration

# Published modules, and those that took in their classes.
_METHOD = ChainMap(vars(configuration), vars(towers))
NAMES: dict[str, Mapping[str, Any]] = {
    "audio": vars(audio),
    "dataset": vars(dataset),
    "experiment": vars(experiment),
    "text": vars(text),
    "unified": vars(unified),
    "video": vars(video),
    "head": _METHOD,
    "loss": _METHOD,
    "multimodal": _METHOD,
}
# Published classes that the methods have divided between them; VATT's stand for them.
DIVIDED: dict[str, type[base.Config]] = {
    "dataset.Pretrain": configuration.PretrainInput,
    "experiment.Pretrain": configuration.Pretrain,
}
# Classes with another name than the published one.
RENAMED: dict[type[base.Config], str] = {configuration.PretrainInput: "Pretrain"}

# (class, field) with another default here -> (published, ours, reason).
DOCUMENTED_DIFFERENCES: dict[tuple[type[base.Config], str], tuple[Any, Any, str]] = {
    (experiment.RuntimeConfig, "distribution_strategy"): (
        "tpu",
        "auto",
        "a machine without a TPU is the common case: all GPUs mirrored, else one CPU device",
    ),
}

CLASSIFIER = (
    "cls_l2_norm",
    "cls_batch_norm",
    "cls_representation",
    "cls_initializer",
    "cls_prior_bias",
    "cls_average_probabilities",
)
# Fields that the published configuration lacks, under the class that introduces them.
EXTRA_FIELDS: dict[type[base.Config], tuple[str, ...]] = {
    video.ModelConfig: CLASSIFIER,
    audio.ModelConfig: CLASSIFIER,
    video.ViTBase: ("patch_init_std", "stochastic_depth"),
    audio.WaTBase: ("patch_init_std", "stochastic_depth"),
    audio.SpTBase: ("patch_init_std", "stochastic_depth"),
    text.ModelConfig: ("word_embeddings",),
    unified.UniTBase: ("word_embeddings", "vid_patch_init_std", "aud_patch_init_std"),
    towers.UnifiedBackboneConfig: ("unified_model_kwargs",),
    configuration.BaseLossConfig: ("mask_normalization",),
    configuration.PretrainInput: ("caption_selection", "audio_gain"),
    dataset.Finetune: ("audio_gain", "mixup_style", "mixup_apart", "smooth_multi_label"),
    dataset.Training: (
        "volume_jitter",
        "audio_shift",
        "audio_masking",
        "band_masks",
        "band_mask_width",
        "time_masks",
        "time_mask_width",
        "time_mask_ratio",
        "audio_roll",
    ),
    dataset.Pretrain: ("mixing_weights",),
    dataset.Dataset: (
        "fps",
        "sample_rate",
        "horizontal_flip",
        "random_crop",
        "clip_sampling",
        "max_resize",
        "test_resize",
        "min_stretch",
        "max_stretch",
        "sound_loops",
        "color_style",
        "color_probability",
        "grey_probability",
        "blur_probability",
        "published_augmentation",
        "pixel_mean",
        "pixel_std",
        "audio_level",
        "audio_features",
        "spectrum",
        "audio_mean",
        "audio_std",
        "audio_seconds",
        "vocabulary",
        "use_bos",
        "use_eos",
        "shuffle_buffer",
        "num_parallel_calls",
        "published_resampling",
        "scaled_decoding",
        "max_bad_fraction",
        "data_service",
    ),
    experiment.LearningRate: ("type", "times_replicas"),
    experiment.TrainConfig: (
        "keep_every_steps",
        "keep_best",
        "early_stop",
        "freeze_batch_norm",
        "max_bad_steps",
        "log_every_steps",
        "watchdog_s",
        "backbone_rate",
        "pooling_rate",
        "layer_decay",
        "clip_together",
        "rarity_weights",
        "ema_decay",
        "remat",
        "micro_batches",
    ),
    experiment.EvalConfig: (
        "poll_interval_s",
        "timeout_s",
        "wait_for_run",
        "report",
        "evaluators",
        "probes",
        "zero_shot",
        "best_on_test_of_last",
    ),
    experiment.RuntimeConfig: ("num_devices",),
    experiment.ExperimentConfig: (
        "model_arch",
        "seed",
        "precision",
        "jit_compile",
        "data_dir",
    ),
}


def class_of(published: str) -> type[base.Config] | None:
    """Returns our class of a published one, "module.Class"; None where there is none."""
    module, name = published.split(".")
    return DIVIDED.get(published) or NAMES.get(module, {}).get(name)


def published_name(cls: type[base.Config]) -> str:
    """Returns the published name of a class of ours."""
    return RENAMED.get(cls, cls.__name__)


def registry_tables() -> dict[str, dict[str, str]]:
    """Returns {name: class selected} by published table, names in upper case as there."""
    tables: dict[str, dict[str, type]] = {
        "VID_MODELS": backbones.of_modality("video"),
        "AUD_MODELS": backbones.of_modality("audio"),
        "TXT_MODELS": backbones.of_modality("text"),
        "UNIFIED_MODELS": backbones.of_modality("video", "audio", "text"),
        "MULTIMODAL_MODELS": {n: type(make().model) for n, make in PRESETS.items()},
        "EXPERIMENT_CONFIGS": {
            task: type(registry.experiment_config(task)) for task in registry.DEFAULT_ARCHITECTURE
        },
    }
    return {
        table: {name.upper(): cls.__name__ for name, cls in entries.items()}
        for table, entries in tables.items()
    }
