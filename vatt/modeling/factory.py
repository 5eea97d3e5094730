"""From configuration to layers: what a configuration's class says is built."""

from __future__ import annotations

import importlib

import keras

from vatt.configs.backbones import Backbone, FineTuned, fine_tuned
from vatt.errors import UserError, nearest
from vatt.modeling.classifier import ClassificationModel
from vatt.modeling.layers import batch_norm
from vatt.modeling.typing import DType


def build_backbone(
    config: Backbone, *, dtype: DType = "float32", name: str | None = None
) -> keras.layers.Layer:
    """Returns the (unbuilt) layer of a backbone.

    Args:
      config: its class says which function builds it (`Backbone.layer`).
      dtype: 'float32' or 'mixed_bfloat16'.
      name: layer name, by default the modality; 'fused' for a backbone of video and sound,
        'unified' for one of text, too.
    """
    module, function = config.layer.split(":")
    builder = getattr(importlib.import_module(module), function)
    if name is None:
        several = "unified" if "text" in config.modalities else "fused"
        name = config.modalities[0] if len(config.modalities) == 1 else several
    return builder(config, name=name, dtype=keras.dtype_policies.get(dtype))


def build_classifier(
    config: Backbone,
    *,
    num_classes: int | None = None,
    multi_label: bool | None = None,
    dtype: DType = "float32",
    name: str = "classifier",
) -> ClassificationModel:
    """Returns the (unbuilt) fine-tuning model of a backbone config.

    Args:
      config: of a backbone that can be fine-tuned.
      num_classes: by default that of the config.
      multi_label: whether a clip may have any number of classes; by default as published: sounds
        may, videos may not.
      dtype: 'float32' or 'mixed_bfloat16'.
      name: model name and prefix of every variable path.

    Raises:
      UserError: not such a backbone, or no number of classes.
    """
    if not config.fine_tuned:
        known = fine_tuned()
        raise UserError(
            f"model_arch: {config.name!r} is none of the backbones that are fine-tuned, "
            f"{', '.join(known)}.{nearest(config.name, known)}"
        )
    classes = num_classes if num_classes is not None else config.num_classes
    if classes is None:
        raise UserError("model_config.num_classes: null; a classifier needs the number of classes")
    policy = keras.dtype_policies.get(dtype)
    return ClassificationModel(
        build_backbone(config, dtype=policy),
        classes,
        config.modalities,
        multi_label=config.modalities == ("audio",) if multi_label is None else multi_label,
        l2_norm=config.cls_l2_norm,
        dropout_rate=config.cls_dropout_rate,
        norm=_norm(config) if config.cls_batch_norm else None,
        representation=config.cls_representation,
        initializer=None if config.cls_initializer == "glorot" else config.cls_initializer,
        prior_bias=config.cls_prior_bias,
        num_test_samples=config.num_test_samples or 1,
        average_probabilities=config.cls_average_probabilities,
        name=name,
        dtype=policy,
    )


def _norm(config: FineTuned) -> batch_norm.NormOptions:
    """Returns PyTorch's batch normalisation, over all replicas unless the backbone's is not."""
    return {
        "momentum": 0.9,
        "epsilon": 1e-5,
        "scale": True,
        "synchronized": getattr(config, "use_xreplica_bn", True),
        "unbiased": True,
    }
