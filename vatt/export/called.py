"""Published models as they are called: AV-MAE's pretrained ones, and the classifiers made of them.

    model = tf.saved_model.load(folder)
    found = model({"rgb": rgb, "waveform": waveform})

Both inputs are named whatever the model takes; one that it does not use may be left out. Published
are names, shapes and types; that pictures and sound have values from -1 to 1 is said here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from vatt import configs
from vatt.api.encoders import LOGITS
from vatt.api.model import Model
from vatt.data import portable, views
from vatt.data.features import AUDIO, VIDEO
from vatt.data.views import EvaluationView
from vatt.export.formats import CALL, Format
from vatt.export.signatures import Outputs, Signature, Value, tracing, waveform_of

NAMES = {VIDEO: "rgb", AUDIO: "waveform"}


def of_model(model: Model, form: Format) -> list[Signature]:
    """Returns the function of a model that was published so, traced; nothing for others."""
    encoder, reader, _ = model.parts
    if not (form.called and encoder.published):
        return []
    view, inputs = view_of(reader.input), inputs_of(model)
    with tracing(form) as runtime:

        def call(rgb: tf.Tensor, waveform: tf.Tensor) -> Outputs:
            rows = {}
            if VIDEO in model.modalities:
                rows[VIDEO] = view.values(rgb if view.zero_centred else (rgb + 1.0) / 2.0)
            if AUDIO in model.modalities:
                rows[AUDIO] = portable.heard(waveform[..., 0], reader.input, runtime)
            found = encoder.as_published(rows)
            return found if isinstance(found, dict) else {LOGITS: found}

        specs = [value.spec(name) for name, value in inputs.items()]
        function = tf.function(call, input_signature=specs, autograph=False)
        found = function.get_concrete_function().structured_outputs
    meaning = "before the probabilities, a tensor by itself"
    if not model.labels:
        meaning = "its tokens after the last layer, nothing masked"
    outputs = {
        name: Value(("batch", *value.shape[1:]), "float32", meaning)
        for name, value in found.items()
    }
    used = [NAMES[modality] for modality in model.modalities]
    mapped = _of_mapping(function, inputs, used)
    return [Signature(CALL, inputs, outputs, function, mapped=mapped)]


def view_of(cfg: configs.dataset.Evaluation | configs.dataset.Finetune) -> EvaluationView:
    """Returns how pictures that are cut already are seen."""
    return dataclasses.replace(views.for_evaluation(cfg), multi_crop=False)


def inputs_of(model: Model) -> dict[str, Value]:
    """Returns what is given, by its published names, also what the model does not use."""
    _, reader, _ = model.parts
    cfg, sound = reader.input, waveform_of(model)
    pictures = (
        f"RGB pictures of {cfg.frame_size} x {cfg.frame_size} pixels, values -1 to 1 (levels 0 to"
        " 255 as level * 2 / 255 - 1)"
    )
    found = {
        VIDEO: Value(
            ("batch", reader.spec.frames, cfg.frame_size, cfg.frame_size, 3), "float32", pictures
        ),
        AUDIO: dataclasses.replace(sound, shape=(*sound.shape, 1)),
    }
    return {
        NAMES[m]: value
        if m in model.modalities
        else dataclasses.replace(value, meaning="not used: may be left out")
        for m, value in found.items()
    }


def _of_mapping(
    function: tf.types.experimental.PolymorphicFunction,
    inputs: Mapping[str, Value],
    used: list[str],
) -> tf.types.experimental.PolymorphicFunction:
    """A function of all inputs by name, or of those alone that are used."""

    def call(given: Mapping[str, tf.Tensor]) -> tf.Tensor | Outputs:
        nothing = {name: tf.zeros([0, *value.shape[1:]]) for name, value in inputs.items()}
        found = function(*({**nothing, **given}[name] for name in inputs))
        return found.get(LOGITS, found)

    mapped = tf.function(call, autograph=False)
    for names in dict.fromkeys((tuple(inputs), tuple(used))):
        mapped.get_concrete_function({name: inputs[name].spec(name) for name in names})
    return mapped
