"""The forms in which models are written, each with what it needs; importing this imports nothing
heavy.

| format | files | run by |
|---|---|---|
| saved_model | saved_model.pb, variables/ | TensorFlow, TensorFlow Serving |
| keras | the same, used as layers | Keras on TensorFlow: `keras.layers.TFSMLayer` |
| onnx | one .onnx per function | ONNX Runtime |
| litert | one .tflite per function | LiteRT (TensorFlow Lite) |
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vatt import __version__
from vatt.errors import UserError

if TYPE_CHECKING:
    from vatt.export.signatures import Signature

PRECISION = "precision=float32"  # in which every runtime computes, for `naming.find`
ONNX_OPSET = 18
CALL, DEFAULT = "__call__", "serving_default"
_SHOWN = 300  # characters of a converter's message


@dataclass(frozen=True)
class Format:
    """How models are written.

    Attributes:
      name: on the command line.
      write: makes the files of functions in a folder.
      packages: that must be there beside those of this package, to write and to try what was
        written; by the extra of the format's name.
      strings: whether sentences can go in.
      float64: whether it computes in it.
      fourier: whether it has Fourier transforms of any length.
      called: whether what is loaded can be called itself, as published models are.
      own_gradients: whether layers are traced as in training, with gradients of their own. LiteRT
        knows gelu by the backend's operations only, of which ONNX lacks one (erfc); a SavedModel
        keeps no gradients but those of its operations.
    """

    name: str
    write: Callable[[Sequence[Signature], Path], None]
    packages: tuple[str, ...] = ()
    strings: bool = False
    float64: bool = True
    fourier: bool = False
    called: bool = False
    own_gradients: bool = False


def check(name: str) -> None:
    """Raises UserError where a package that a format needs is missing."""
    missing = [p for p in FORMATS[name].packages if importlib.util.find_spec(p) is None]
    if missing:
        lacking = ", ".join(package.replace("_", "-") for package in missing)
        raise UserError(
            f"--format={name} needs {lacking}, which is not installed: pip install 'vatt[{name}]'"
        )


def _saved_model(signatures: Sequence[Signature], folder: Path) -> None:
    import tensorflow as tf

    root = tf.Module()
    for signature in signatures:
        setattr(root, signature.name, signature.mapped or _of_one_value(signature))
    root.weights_of_functions = [v for s in signatures for v in _concrete(s).variables]
    root.resources = [table for signature in signatures for table in signature.resources]
    served = {signature.name: _concrete(signature) for signature in signatures}
    if CALL in served:
        served[DEFAULT] = served.pop(CALL)
    elif len(signatures) == 1:
        served[DEFAULT] = _concrete(signatures[0])
    with _log_level_kept():
        tf.saved_model.save(root, str(folder), signatures=served)


def _of_one_value(signature: Signature) -> Callable[..., object]:
    """The function; of several inputs one that takes them by name, as a layer of Keras does."""
    import tensorflow as tf

    if len(signature.specs) == 1:
        return signature.function
    specs = dict(zip(signature.inputs, signature.specs, strict=True))
    return tf.function(
        lambda inputs: signature.function(*(inputs[name] for name in specs)),
        input_signature=[specs],
        autograph=False,
    )


def _onnx(signatures: Sequence[Signature], folder: Path) -> None:
    import onnx
    import tf2onnx

    for signature in signatures:
        with _converting(signature.name, "onnx"):
            graph, _ = tf2onnx.convert.from_function(
                signature.function, input_signature=signature.specs, opset=ONNX_OPSET
            )
            inputs = {value.name: value for value in graph.graph.input}
            for name, value in signature.inputs.items():
                _name_sizes(inputs[name], value.shape)
            for value in graph.graph.output:
                _name_sizes(value, signature.outputs[value.name].shape)
            graph.producer_name, graph.producer_version = "vatt", __version__
            onnx.save(graph, str(folder / f"{signature.name}.onnx"))


def _name_sizes(value: object, shape: Sequence[int | str]) -> None:
    """Gives sizes that may differ their names."""
    for size, known in zip(value.type.tensor_type.shape.dim, shape, strict=True):
        if isinstance(known, str):
            size.dim_param = known
        else:
            size.dim_value = known


def _litert(signatures: Sequence[Signature], folder: Path) -> None:
    import tensorflow as tf

    for signature in signatures:
        root = tf.Module()
        concrete = _concrete(signature)
        root.function, root.weights_of_functions = signature.function, list(concrete.variables)
        with _converting(signature.name, "litert"):
            converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], root)
            with _log_level_kept():
                written = converter.convert()
            (folder / f"{signature.name}.tflite").write_bytes(written)


def _concrete(signature: Signature) -> Callable[..., object]:
    return signature.function.get_concrete_function()


@contextlib.contextmanager
def _log_level_kept() -> Iterator[None]:
    """TensorFlow leaves absl's logger, which is ours, at WARNING after a SavedModel."""
    logger = logging.getLogger("absl")
    level = logger.level
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _converting(function: str, name: str) -> Iterator[None]:
    """Keeps what converters print to themselves; what they cannot do becomes an error of ours."""
    sys.stdout.flush()
    sys.stderr.flush()
    real = [os.dup(1), os.dup(2)]
    try:
        with tempfile.TemporaryFile() as held:
            os.dup2(held.fileno(), 1)
            os.dup2(held.fileno(), 2)
            yield
    except (KeyboardInterrupt, OSError, MemoryError):
        raise
    except Exception as error:  # converters raise whatever they like
        told = " ".join(str(error).split())[:_SHOWN]
        raise UserError(
            f"{function}: cannot be written as {name}: {told}. --format=saved_model has no such "
            "limits"
        ) from error
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in enumerate(real, 1):
            os.dup2(copy, number)
            os.close(copy)


FORMATS = {
    found.name: found
    for found in (
        Format("saved_model", _saved_model, strings=True, fourier=True, called=True),
        Format("onnx", _onnx, ("onnx", "onnxruntime", "tf2onnx"), own_gradients=True),
        Format("litert", _litert, ("ai_edge_litert",), float64=False),
        Format("keras", _saved_model, strings=True, fourier=True),
    )
}
