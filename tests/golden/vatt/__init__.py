"""Golden numbers of the published VATT code: what recomputes each of its files."""

from __future__ import annotations

from collections.abc import Callable

from tests.golden.checks import Checks, Golden
from tests.golden.vatt import (
    backbones,
    configurations,
    data,
    evaluation,
    heads,
    layers,
    losses,
    models,
    training,
)

HANDLERS: dict[str, Callable[[Golden], Checks]] = {
    "backbones/*.npz": backbones.backbone_file,
    "checkpoints/*.npz": models.checkpoint_file,
    "manifests/*.json": models.manifest_file,
    "classification_losses.npz": evaluation.classification_losses_file,
    "metrics.npz": evaluation.metrics_file,
    "heads.npz": heads.heads_file,
    "losses.npz": losses.losses_file,
    "losses_multi_replica.npz": losses.losses_multi_replica_file,
    "schedules.npz": training.schedules_file,
    "optimizers.npz": training.optimizers_file,
    "spline.npz": layers.spline_file,
    "t5_relative_buckets.npz": layers.relative_buckets_file,
    "config_defaults.json": configurations.config_defaults_file,
    "config_registry.json": configurations.config_registry_file,
    "data/records.json": data.records_file,
    "data/processing.npz": data.processing_file,
    "data/decoded_frames.npz": data.decoded_frames_file,
    "data/pipeline_outputs.npz": data.pipeline_outputs_file,
    "data/loader_outputs.npz": data.loader_outputs_file,
}
INPUTS = ("checkpoints/*_all_keys.json",)
