"""Masked autoencoders with given masks: `pretrain_*.npz`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tests.golden.checks import Arrays, Check, Checks, absolute, assign
from vatt import methods
from vatt.methods.av_mae import objective, published, targets
from vatt.methods.av_mae.config import DecoderConfig, LossConfig, ModelConfig
from vatt.methods.av_mae.masks import Mask
from vatt.methods.av_mae.model import MaskedAutoencoder

FORWARD = (2e-5, 1e-4)  # absolute, relative
LOSS = (0.0, 1e-5)
GRADIENT = (1e-5, 1e-3)
EXACT = (0.0, 0.0)
THEIRS = published.MODALITIES  # {ours: published}
_ENCODER = {"hidden_size": "d_model", "mlp_dim": "d_ff", "num_layers": None, "num_heads": None}
_MODEL = ("encoder_strategy", "decoder_strategy", "fusion_layers", "use_modality_tokens")
_MODEL += ("use_inpainting", "shuffle_inpainted_tokens", "normalise_encoder_output")
_MODEL += ("positional_embedding", "use_projection_bias", "init_head_bias")
# Of no effect here: with values of these, a file is of a model that there is not.
_FIXED = {"classifier": "none", "representation_size": None}


def near(name: str, ours: Any, reference: np.ndarray, tolerance: tuple[float, float]) -> Check:
    """Compares value by value, |ours - reference| <= absolute + relative * |reference|."""
    ours = np.asarray(ours, np.float64)
    if ours.shape != reference.shape:
        return absolute(name, ours, reference, 0.0)
    allowed = tolerance[0] + tolerance[1] * np.abs(reference)
    off = np.abs(ours - reference)
    worst = np.argmax(off / np.maximum(allowed, 1e-30)) if off.size else None
    if worst is None:
        return Check(name, 0.0, 0.0)
    return Check(
        name, float(off.flat[worst]), float(np.broadcast_to(allowed, off.shape).flat[worst])
    )


def configured(meta: Mapping[str, Any]) -> ModelConfig:
    """Returns the configuration of a file.

    Raises:
        ValueError: it is of a model that there is not.
    """
    model, loss = meta["model"], meta["masked_feature_loss"]
    for name, value in _FIXED.items():
        if model.get(name, value) != value:
            raise ValueError(f"{name} {model[name]!r} is not known here")
    decoder = model["decoder_config"]
    height, width, frames = model["patches"]["size"]
    ours = [m for m, theirs in THEIRS.items() if theirs in loss["target"]]
    shares, weights = loss["token_mask_probability_dict"], loss["modality_weight"]
    return ModelConfig(
        modalities=ours,
        **_encoder(model),
        **{name: model[name] for name in _MODEL if model.get(name) is not None},
        decoder_config=DecoderConfig(
            **_encoder(decoder), positional_embedding=model["positional_embedding_decoder"]
        ),
        masking_strategy=loss.get("masking_strategy", "random"),
        temporal_patch_size=frames,
        spatial_patch_size=height,
        spatial_patch_width=None if width == height else width,
        audio_temporal_patch_size=height,
        audio_spectral_patch_size=width,
        **{f"{m}_mask": shares[THEIRS[m]] for m in ours},
        loss_config=LossConfig(
            **{name: loss[name] for name in LossConfig.model_fields if loss.get(name) is not None},
            **{f"{m}_weight": weights[THEIRS[m]] for m in ours},
            l2_decay_factor=meta.get("l2_decay_factor") or 0.0,
        ),
    )


def _encoder(config: Mapping[str, Any]) -> dict[str, int]:
    sizes = {ours or name: config[name] for name, ours in _ENCODER.items()}
    return {**sizes, "d_kv": sizes["d_model"] // sizes["num_heads"]}


def built(config: ModelConfig, arrays: Arrays) -> MaskedAutoencoder:
    """Returns the model of a file with its weights."""
    inputs = inputs_of(config, arrays)
    shapes = {modality: x.shape[1:] for modality, x in inputs.items()}
    model = methods.named("av_mae").model(config, shapes, "float32")
    names = published.model_names(model)
    given = {f"w/{name}": arrays[f"w/{name}"] for name in names.values()}
    ours = {
        f"w/{name}": published.from_published(path, given[f"w/{name}"])
        for path, name in names.items()
    }
    assign(
        model.variables, names, {**{k: v for k, v in arrays.items() if k[:2] == "w/"}, **ours}, "w/"
    )
    return model


def inputs_of(config: ModelConfig, arrays: Arrays) -> dict[str, tf.Tensor]:
    return {m: tf.constant(arrays[f"in/{THEIRS[m]}"]) for m in config.modalities}


def pretrain_file(arrays: Arrays) -> Checks:
    """Predictions, masks, targets, losses, gradients; what is encoded with nothing masked."""
    config = configured(json.loads(str(arrays["meta"])))
    model, inputs = built(config, arrays), inputs_of(config, arrays)
    masks, shuffles = _masks(config, arrays), _each(config, arrays, "in/shuffle")
    loss = objective.ReconstructionLoss(config)
    with tf.GradientTape() as tape:
        features = model.reconstruct(inputs, masks, shuffles=shuffles)
        outputs = model.train_outputs(features)
        found = {
            m: loss.of_modality(
                m, _target(config, m, inputs), outputs[m], arrays.get("in/batch_mask")
            )
            for m in config.modalities
        }
        total = loss.total({k: v for values in found.values() for k, v in values.items()}, outputs)
    yield near("out/loss", total["total_loss"], arrays["out/loss"], LOSS)
    for m, theirs in THEIRS.items():
        if m in config.modalities:
            yield from _modality(config, arrays, m, theirs, outputs[m], found[m])
            yield near(
                f"in/token_mask_{theirs}", masks[m].flags, arrays[f"in/token_mask_{theirs}"], EXACT
            )
            target = _target(config, m, inputs)
            yield near(f"out/targets_{theirs}", target, arrays[f"out/targets_{theirs}"], FORWARD)
    for m, features in model.towers(inputs).items():
        name = f"out/eval_encoding_{THEIRS[m]}"
        yield near(name, features["features"], arrays[name], FORWARD)
    yield from _gradients(
        model,
        arrays,
        tape.gradient(
            total["total_loss"], [variable.value for variable in model.trainable_variables]
        ),
    )


def _target(config: ModelConfig, modality: str, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
    return targets.of(inputs[modality], config.patch(modality), config.loss_config)


def _each(config: ModelConfig, arrays: Arrays, prefix: str) -> dict[str, tf.Tensor]:
    names = {m: f"{prefix}_{THEIRS[m]}" for m in config.modalities}
    return {m: tf.cast(arrays[n], tf.int32) for m, n in names.items() if n in arrays}


def _masks(config: ModelConfig, arrays: Arrays) -> dict[str, Mask]:
    hidden, seen = (_each(config, arrays, f"in/{kind}_indices") for kind in ("masked", "unmasked"))
    return {m: Mask(tf.concat([hidden[m], seen[m]], 1), hidden[m].shape[1]) for m in hidden}


def _modality(
    config: ModelConfig,
    arrays: Arrays,
    modality: str,
    theirs: str,
    outputs: Mapping[str, tf.Tensor],
    found: Mapping[str, tf.Tensor],
) -> Iterator[Check]:
    name = f"out/logits_{theirs}"
    yield near(name, outputs["predicted"], arrays[name], FORWARD)
    name = f"out/token_mask_{theirs}"
    yield near(name, outputs["masked"], arrays[name], EXACT)
    if (name := f"out/mse_{theirs}") in arrays:
        yield near(name, found[f"reconstruction/{modality}_loss"], arrays[name], LOSS)
    if (name := f"out/metric_sum_{theirs}") in arrays:
        count = arrays[f"out/metric_norm_{theirs}"]
        ours = found[f"mean_squared_error_{modality}"]
        yield near(f"{name} / norm", ours, arrays[name] / count, LOSS)


def _gradients(model: MaskedAutoencoder, arrays: Arrays, found: list[Any]) -> Iterator[Check]:
    names = published.model_names(model)
    for variable, gradient in zip(model.trainable_variables, found, strict=True):
        name = f"grad/{names[variable.path]}"
        if name in arrays:
            reference = published.from_published(variable.path, arrays[name])
            yield near(name, tf.convert_to_tensor(gradient), reference, GRADIENT)


HANDLERS = {"pretrain_*.npz": pretrain_file}
