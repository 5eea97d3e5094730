"""How an exported model is used, in a few lines; tests run them as they stand in the card."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vatt.api.model import Model
from vatt.export.formats import CALL, Format
from vatt.export.signatures import IDS, SENTENCES, Signature, Value

_SIZES = {"batch": 2, "height": 120, "width": 160}
_SENTENCES = '["a red circle", "rain"]'


def of(form: Format, functions: Sequence[Signature], model: Model, modules: Sequence[str]) -> str:
    """Returns Markdown: what to install, and code for the first function and for text.

    The code is to be run in the folder of the export.
    """
    install, write = _WAYS[form.name]
    shown = [one for one in functions if one is functions[0] or one.name in ("text", CALL)]
    lines = [f"import {module}  # its operations" for module in modules]
    lines += write(shown)
    if model.labels:
        lines += [
            'labels = open("labels.txt", encoding="utf-8").read().splitlines()',
            'print([labels[row.argmax()] for row in np.array(found["probabilities"])])',
        ]
    code = "\n".join(lines)
    return f"`pip install {install}`; in this folder:\n\n```python\n{code}\n```"


def _given(value: Value, name: str) -> str:
    """An input, as code."""
    if name == SENTENCES:
        return _SENTENCES
    sizes = ", ".join(str(_SIZES.get(size, size)) for size in value.shape)
    return f'np.zeros(({sizes}), "{value.dtype}")'


def _tensorflow(functions: Sequence[Signature]) -> list[str]:
    lines = ["import numpy as np, tensorflow as tf", 'model = tf.saved_model.load(".")']
    for one in functions:
        if one.name == CALL:
            lines.append(f"published = model({_mapping(one)})")
            continue
        given = ", ".join(
            f"{name}=tf.constant({_given(value, name)})" for name, value in one.inputs.items()
        )
        lines.append(f'found = model.signatures["{one.name}"]({given})')
    return lines


def _keras(functions: Sequence[Signature]) -> list[str]:
    lines = ["import keras, numpy as np, tensorflow as tf"]
    for one in functions:
        given = [f"tf.constant({_given(value, name)})" for name, value in one.inputs.items()]
        named = ", ".join(f'"{n}": {g}' for n, g in zip(one.inputs, given, strict=True))
        lines.append(
            f'{one.name} = keras.layers.TFSMLayer(".", call_endpoint="{one.name}")  # a layer'
        )
        lines.append(f"found = {one.name}({given[0] if len(given) == 1 else '{' + named + '}'})")
    return lines


def _onnx(functions: Sequence[Signature]) -> list[str]:
    lines = ["import numpy as np, onnxruntime"]
    for one in functions:
        lines += _words(one)
        lines += [
            f'{one.name} = onnxruntime.InferenceSession("{one.name}.onnx")',
            f"names = [value.name for value in {one.name}.get_outputs()]",
            f"found = dict(zip(names, {one.name}.run(None, {_mapping(one)})))",
        ]
    return lines


def _litert(functions: Sequence[Signature]) -> list[str]:
    lines = ["import numpy as np", "from ai_edge_litert.interpreter import Interpreter"]
    for one in functions:
        lines += _words(one)
        lines += [
            f'{one.name} = Interpreter("{one.name}.tflite").get_signature_runner()',
            f"found = {one.name}(**{_mapping(one)})",
        ]
    return lines


def _words(one: Signature) -> list[str]:
    return ["from words import ids  # beside the model"] if IDS in one.inputs else []


def _mapping(one: Signature) -> str:
    given = [
        f'"{name}": {f"ids({_SENTENCES})" if name == IDS else _given(value, name)}'
        for name, value in one.inputs.items()
    ]
    return "{" + ", ".join(given) + "}"


_WAYS: dict[str, tuple[str, Callable[[Sequence[Signature]], list[str]]]] = {
    "saved_model": ("tensorflow", _tensorflow),
    "keras": ("tensorflow", _keras),
    "onnx": ("onnxruntime", _onnx),
    "litert": ("ai-edge-litert", _litert),
}
