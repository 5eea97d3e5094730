"""A loaded model as functions with preprocessing inside, and what goes in and comes out of them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import tensorflow as tf

from vatt.api.encoders import LOGITS
from vatt.api.model import Model
from vatt.data import portable, views, vision
from vatt.data.features import AUDIO, TEXT, VIDEO
from vatt.data.portable import Runtime
from vatt.evaluators.subject import POOLED
from vatt.export.formats import Format
from vatt.modeling.layers import gradients

FRAMES, WAVEFORM, SENTENCES, IDS = "frames", "waveform", "sentences", "ids"
CLASSIFY, PROBABILITIES = "classify", "probabilities"

Outputs = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Value:
    """An input or output.

    Attributes:
      shape: names stand for sizes that may differ from call to call.
      dtype: name of its type.
      meaning: what it is, with units.
    """

    shape: tuple[int | str, ...]
    dtype: str
    meaning: str

    def spec(self, name: str) -> tf.TensorSpec:
        """Returns what a function takes."""
        sizes = [size if isinstance(size, int) else None for size in self.shape]
        return tf.TensorSpec(sizes, tf.as_dtype(self.dtype), name)

    def __str__(self) -> str:
        """Type and shape as they stand in documents."""
        return f"{self.dtype} [{', '.join(map(str, self.shape))}]"


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function of an exported model.

    Attributes:
      name: of what it takes, "video", "audio", "text", or "classify".
      inputs: by name, in order.
      outputs: by name.
      function: the traced `tf.function`.
      resources: tables that it looks words up in.
      mapped: the same of a mapping of inputs, where the loaded object itself is called with one.
    """

    name: str
    inputs: Mapping[str, Value]
    outputs: Mapping[str, Value]
    function: tf.types.experimental.PolymorphicFunction
    resources: Sequence[object] = ()
    mapped: tf.types.experimental.PolymorphicFunction | None = None

    @property
    def specs(self) -> list[tf.TensorSpec]:
        """What the function takes, in order."""
        return [value.spec(name) for name, value in self.inputs.items()]


def of_model(model: Model, form: Format) -> list[Signature]:
    """Returns the functions of a model, loaded in float32, traced for a format."""
    with tracing(form) as runtime:
        if model.labels:
            return [_classifier(model, runtime)]
        return [
            _texts(model, form.strings) if modality == TEXT else _clips(model, modality, runtime)
            for modality in model.modalities
        ]


@contextlib.contextmanager
def tracing(form: Format) -> Iterator[Runtime]:
    """While functions are traced for a format; gives what its runtime can do."""
    with contextlib.nullcontext() if form.own_gradients else gradients.plain():
        yield Runtime(float64=form.float64, fourier=form.fourier)


# -- inputs ----------------------------------------------------------------------------------------


def frames_of(model: Model) -> Value:
    """Pictures of a clip."""
    _, reader, _ = model.parts
    cfg, spec, view = reader.input, reader.spec, views.for_evaluation(reader.input)
    square = "three squares along the longer side are" if cfg.multi_crop else "the middle square is"
    if spec.frames == 1:
        times = "one picture"
    elif spec.windows:
        times = f"lying evenly in {spec.seconds:g} s, the first and the last at its ends"
    else:
        times = f"{spec.fps / spec.video_stride:g} per second: a clip of {spec.seconds:g} s"
    return Value(
        ("batch", spec.frames, "height", "width", 3),
        "uint8",
        f"RGB pictures, levels 0 to 255, {times}. Any size: inside, the shorter side is brought to "
        f"{view.resize} pixels, {square} taken and levels are normalised",
    )


def waveform_of(model: Model) -> Value:
    """Sound of a clip."""
    _, reader, _ = model.parts
    cfg, spec = reader.input, reader.spec
    samples = spec.samples * spec.audio_stride
    forms = [f"every {cfg.audio_stride}th sample is taken"] if cfg.audio_stride > 1 else []
    if cfg.audio_level is not None:
        forms.append(f"brought to a level of {cfg.audio_level:g} dB (RMS)")
    if not cfg.raw_audio:
        filters = cfg.audio_features == "filterbank"
        kind = "log filterbank" if filters else "log-mel spectrogram"
        forms.append(f"made a {kind} of {cfg.mel_bins} bands")
    inside = f". Inside, it is {', '.join(forms)}" if forms else ""
    return Value(
        ("batch", samples),
        "float32",
        f"sound, one channel, -1 to 1, {cfg.sample_rate} samples per second: "
        f"{samples / cfg.sample_rate:g} s{inside}",
    )


def _inputs(model: Model, modalities: Sequence[str]) -> dict[str, Value]:
    known = {VIDEO: (FRAMES, frames_of), AUDIO: (WAVEFORM, waveform_of)}
    return {known[m][0]: known[m][1](model) for m in modalities}


def _prepared(
    model: Model, modalities: Sequence[str], given: Sequence[tf.Tensor], runtime: Runtime
) -> tuple[dict[str, tf.Tensor], int]:
    """What the towers take, crops as rows, and how many crops there are of a clip."""
    _, reader, _ = model.parts
    cfg, view = reader.input, views.for_evaluation(reader.input)
    crops = view.crops if VIDEO in modalities else 1
    rows = {}
    for modality, values in zip(modalities, given, strict=True):
        if modality == AUDIO:
            sound = portable.heard(values, cfg, runtime)
            rows[modality] = tf.repeat(sound, crops, axis=0) if crops > 1 else sound
            continue
        cut = portable.evaluation_frames(values, view, runtime)
        cut = tf.reshape(cut, [-1, *cut.shape[2:]])
        rows[modality] = vision.space_to_depth(cut) if cfg.space_to_depth else cut
    return rows, crops


# -- functions -------------------------------------------------------------------------------------


def _clips(model: Model, modality: str, runtime: Runtime) -> Signature:
    """Embeddings of clips of one modality."""
    encoder, _, _ = model.parts

    def embed(*given: tf.Tensor) -> Outputs:
        rows, crops = _prepared(model, [modality], given, runtime)
        return _over_crops(encoder.of_rows(rows), crops)

    return _traced(model, modality, _inputs(model, [modality]), embed)


def _texts(model: Model, strings: bool) -> Signature:
    """Embeddings of sentences."""
    encoder, reader, sentences = model.parts
    tokenize, vocabulary = sentences.tokenizer()
    words = reader.input.max_num_words
    if not strings:
        ids = Value(("batch", words), "int32", f"numbers of words, {vocabulary.pad_id} after them")
        return _traced(model, TEXT, {IDS: ids}, lambda given: encoder.of_rows({TEXT: given}))
    said = Value(
        ("batch",), "string", f"sentences in UTF-8; the first {words} words of each are read"
    )
    return _traced(
        model,
        TEXT,
        {SENTENCES: said},
        lambda given: encoder.of_rows({TEXT: tokenize(given, words)}),
        [tokenize.table],
    )


def _classifier(model: Model, runtime: Runtime) -> Signature:
    """Probabilities of classes."""
    encoder, _, _ = model.parts
    modalities = [m for m in (VIDEO, AUDIO) if m in model.modalities]
    likely = tf.sigmoid if model.multi_label else tf.nn.softmax

    def classify(*given: tf.Tensor) -> Outputs:
        rows, crops = _prepared(model, modalities, given, runtime)
        found = _over_crops(encoder.of_rows(rows), crops)
        return {PROBABILITIES: likely(found[LOGITS]), **found}

    return _traced(model, CLASSIFY, _inputs(model, modalities), classify)


def _over_crops(found: Mapping[str, tf.Tensor], crops: int) -> Outputs:
    """Means over the crops of a clip."""
    if crops == 1:
        return dict(found)
    return {
        key: tf.reduce_mean(tf.reshape(value, [-1, crops, value.shape[-1]]), axis=1)
        for key, value in found.items()
    }


def _traced(
    model: Model,
    name: str,
    inputs: Mapping[str, Value],
    body: Callable[..., Outputs],
    resources: Sequence[object] = (),
) -> Signature:
    specs = [value.spec(key) for key, value in inputs.items()]
    function = tf.function(body, input_signature=specs, autograph=False)
    outputs = function.get_concrete_function().structured_outputs
    described = {
        key: Value(("batch", value.shape[-1]), "float32", _meaning(model, key))
        for key, value in outputs.items()
    }
    return Signature(name, inputs, described, function, resources)


def _meaning(model: Model, key: str) -> str:
    """What an output is."""
    encoder, _, _ = model.parts
    if key == PROBABILITIES:
        how = "any number of them may be true" if model.multi_label else "they add up to 1"
        return f"of the classes in labels.txt; {how}"
    if key == LOGITS:
        return "before the probabilities; of several clips of a file, their mean is what counts"
    if key == POOLED:
        return "what the backbone gives: for classifiers of your own"
    others = [
        f"{modality} ({other})"
        for pair in encoder.pairs
        for mine, modality, other in (
            (pair.left, pair.target, pair.right),
            (pair.right, pair.query, pair.left),
        )
        if mine == key
    ]
    return f"compared with {' and '.join(others)}, by the cosine" if others else "an embedding"
