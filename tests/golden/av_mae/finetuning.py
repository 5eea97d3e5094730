"""Golden files of MBT classifiers: logits in training and evaluation, losses, gradients."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tests.golden import checks
from tests.golden.av_mae.classification import close
from tests.golden.av_mae.pretraining import near
from tests.golden.checks import Arrays, Checks
from vatt.configs.multimodal import MBTBase
from vatt.data import pipeline
from vatt.methods.av_mae import fine_tuned
from vatt.methods.av_mae.published import MODALITIES as NAMES
from vatt.modeling.classifier import ClassificationModel
from vatt.modeling.factory import build_classifier
from vatt.objectives import classification

FORWARD = (2e-5, 1e-4)  # absolute, relative
GRADIENT = (1e-5, 1e-3)
OURS = {name: modality for modality, name in NAMES.items()}
POOLING = {"gap": "mean", "gmp": "max", "gsp": "sum", "token": "token"}
# Published options that change nothing here: initialisation, precision, layers without dropout.
IRRELEVANT = ("attention_config", "dropout_rate", "attention_dropout_rate")
INITS = {
    None: "fan_in",
    "central_frame_initializer": "central",
    "average_frame_initializer": "average",
}


def finetune_file(arrays: Arrays) -> Checks:
    """`finetune_*.npz`: an MBT classifier with stored weights."""
    meta = json.loads(str(arrays["meta"]))
    model = filled(arrays, meta["model"])
    inputs = {m: tf.constant(arrays[f"in/{NAMES[m]}"]) for m in model.modalities}
    given = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    logits = model(given, training=False)["logits"]
    yield near("out/eval_logits", logits, arrays["out/eval_logits"], FORWARD)
    drops = {
        name.removeprefix("in/drop/"): value
        for name, value in arrays.items()
        if name.startswith("in/drop/")
    }
    with tf.GradientTape() as tape:
        outputs = model(given, training=True, rng=Drawn(drops) if drops else None)
        found = by_name(outputs["logits_by_modality"])
        losses = dict(_losses(arrays, meta, found))
    for name, value in found.items():
        reference = arrays[f"out/train_logits_{name}"]
        yield near(f"out/train_logits_{name}", value, reference, FORWARD)
    for name, value in losses.items():
        yield close(name, value, arrays[name])
    yield from _gradients(arrays, model, losses, tape)


def filled(arrays: Arrays, options: Mapping[str, Any]) -> ClassificationModel:
    """Returns the classifier of a published configuration, with the weights of the file."""
    shapes = {
        m: (None, *arrays[f"in/{name}"].shape[1:])
        for m, name in NAMES.items()
        if name in options["modality_fusion"]
    }
    classes = arrays["w/ProjectionHeadAndClassifier_0/output_projection/bias"].shape[0]
    kernels = {m: arrays.get(f"w/{name}/kernel") for m, name in fine_tuned.EMBEDDING.items()}
    config = configured(options, kernels["audio"])
    model = build_classifier(config, num_classes=classes, multi_label=True)
    model.build(shapes if len(shapes) > 1 else next(iter(shapes.values())))
    fill(model, arrays, "w/")
    return model


def fill(model: ClassificationModel, arrays: Arrays, prefix: str) -> None:
    """Gives every variable its stored value.

    Raises:
        KeyError: a variable without one, or one without a variable.
    """
    names = fine_tuned.classifier_names(model)
    arranged = {
        prefix + name: fine_tuned.from_published(path, arrays[prefix + name])
        for path, name in names.items()
        if prefix + name in arrays
    }
    left = {k: v for k, v in arrays.items() if k.startswith(prefix) and k not in arranged}
    checks.assign(model.variables, names, {**arranged, **left}, prefix)


def configured(options: Mapping[str, Any], heard: np.ndarray | None) -> MBTBase:
    """Returns our configuration of a published one; `heard` is the projection of sound.

    Raises:
        KeyError: an option that is not known here.
    """
    options = dict(options)
    height, across, time = options["patches"].pop("size")
    encoding = options.pop("temporal_encoding_config", {})
    width, heads = options.pop("hidden_size"), options.pop("num_heads")
    cfg = MBTBase(
        d_model=width,
        num_heads=heads,
        d_kv=width // heads,
        d_ff=options.pop("mlp_dim"),
        num_layers=options.pop("num_layers"),
        modality_fusion=tuple(OURS[name] for name in options.pop("modality_fusion")),
        temporal_patch_size=time,
        spatial_patch_size=height,
        spatial_patch_width=across,
        audio_temporal_patch_size=height if heard is None else heard.shape[0],
        audio_spectral_patch_size=across if heard is None else heard.shape[1],
        fusion_layer=options.pop("fusion_layer"),
        num_bottlenecks=options.pop("n_bottlenecks"),
        use_bottleneck=options.pop("use_bottleneck", True),
        test_with_bottlenecks=options.pop("test_with_bottlenecks", True),
        share_encoder=options.pop("share_encoder", False),
        pooling=POOLING[options.pop("classifier")],
        modality_vectors=options.pop("use_modality_tokens", False),
        video_patch_init=INITS[encoding.get("kernel_init_method")],
        stochastic_depth=options.pop("stochastic_droplayer_rate", None) or 0.0,
        cls_representation=options.pop("representation_size", None),
    )
    unknown = {k for k, v in options.items() if k not in IRRELEVANT and k != "patches"}
    if unknown:
        raise KeyError(f"options {sorted(unknown)}")
    return cfg


def by_name(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns values by published names of the modalities."""
    return {NAMES[m]: value for m, value in values.items()}


def _losses(arrays: Arrays, meta: Mapping[str, Any], logits: Mapping[str, Any]) -> Any:
    """Yields the published losses that the file has: each modality by its labels, their mean."""
    smoothing = meta.get("label_smoothing") or 0.0

    def mean(kind: str, labels: str) -> Any:
        losses = []
        for name, value in logits.items():
            key = f"{labels}_{name}" if f"{labels}_{name}" in arrays else labels
            truth = pipeline.smooth_labels(tf.constant(arrays[key]), smoothing)
            losses.append(_loss(kind, value, truth, arrays.get("in/batch_mask")))
        return tf.add_n(losses) / len(losses)

    for name, kind, labels in (
        ("out/multilabel_train_loss", "sigmoid", "in/labels"),
        ("out/softmax_train_loss", "softmax", "in/onehot"),
        ("out/train_loss", "sigmoid" if meta.get("multilabel") else "softmax", "in/labels"),
    ):
        if name in arrays:
            yield name, mean(kind, labels)


def _loss(kind: str, logits: Any, labels: Any, mask: np.ndarray | None) -> Any:
    """Returns the loss of all rows, or of those that a mask keeps."""
    if mask is not None:
        rows = [_loss(kind, logits[r : r + 1], labels[r : r + 1], None) for r in range(len(mask))]
        return tf.reduce_sum(tf.stack(rows) * mask) / (np.sum(mask) + 1e-8)
    if kind == "softmax":
        return classification.softmax_loss(logits, labels)
    return classification.sigmoid_loss(logits, labels, rarity=False)


def _gradients(
    arrays: Arrays, model: ClassificationModel, losses: Mapping[str, Any], tape: tf.GradientTape
) -> Checks:
    names = fine_tuned.classifier_names(model)
    wanted = [v for v in model.variables if f"grad/{names[v.path]}" in arrays]
    if not wanted:
        return
    found = tape.gradient(losses["out/train_loss"], [v.value for v in wanted])
    for variable, gradient in zip(wanted, found, strict=True):
        name = f"grad/{names[variable.path]}"
        reference = fine_tuned.from_published(variable.path, arrays[name])
        gradient = tf.zeros_like(variable.value) if gradient is None else gradient
        yield near(name, gradient, reference, GRADIENT)


class Drawn:
    """A source of randomness whose draws are stored: which rows leave out a part of a layer."""

    _PARTS: Mapping[str, str] = {"attended": "attention", "changed": "mlp"}

    def __init__(self, drops: Mapping[str, np.ndarray], path: tuple[str, ...] = ()) -> None:
        self._drops, self._path = drops, path

    def child(self, name: str) -> Drawn:
        """Returns a place below this one."""
        return Drawn(self._drops, (*self._path, name))

    def dropout_mask(self, shape: tuple[int, ...], rate: float) -> tf.Tensor:
        """Returns where something is kept."""
        *_, modality, layer, part, kind = self._path
        if kind != "depth":
            raise KeyError(f"no draws stored for {self._path}")
        number = int(re.fullmatch(r"layer_(\d+)", layer)[1])
        block = self._block(modality, number, self._PARTS[part])
        return tf.reshape(tf.constant(self._drops[block] == 0), shape)

    def _block(self, modality: str, number: int, part: str) -> str:
        """Returns the name of stored draws; those of the second modality end in its name."""
        own = "_spec" if modality == "audio" else ""
        names = [f"encoderblock_{number}{end}/{part}" for end in (own, "")]
        return next(name for name in names if name in self._drops)


HANDLERS = {"finetune_*.npz": finetune_file}
