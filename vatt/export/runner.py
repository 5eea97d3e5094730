"""Runs an exported model as its users do; not imported, but started in a process of its own.

    python -I runner.py FORMAT FOLDER CALLS.npz RESULTS.npz [MODULE...]

CALLS has arrays named <call>/<function>/<input>; RESULTS gets <call>/<function>/<output>. This
package cannot be imported here; MODULES are imported first.
"""

import sys

sys.modules["vatt"] = None  # import vatt fails
sys.dont_write_bytecode = True  # nothing is left in the folder

import importlib  # noqa: E402
import importlib.util  # noqa: E402
import os  # noqa: E402

import numpy as np  # noqa: E402

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _tensorflow(folder):
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)

    def run(function, inputs):
        given = {name: tf.constant(values) for name, values in inputs.items()}
        if function == "__call__":
            found = loaded(given)
            found = found if isinstance(found, dict) else {"logits": found}
        else:
            found = loaded.signatures[function](**given)
        return {name: values.numpy() for name, values in found.items()}

    return run


def _keras(folder):
    import keras
    import tensorflow as tf

    layers = {}

    def run(function, inputs):
        if function not in layers:
            layers[function] = keras.layers.TFSMLayer(folder, call_endpoint=function)
        given = {name: tf.constant(values) for name, values in inputs.items()}
        found = layers[function](given if len(given) > 1 else next(iter(given.values())))
        return {name: values.numpy() for name, values in found.items()}

    return run


def _onnx(folder):
    import onnxruntime

    sessions = {}

    def run(function, inputs):
        if function not in sessions:
            path = os.path.join(folder, function + ".onnx")
            sessions[function] = onnxruntime.InferenceSession(
                path, providers=["CPUExecutionProvider"]
            )
        names = [value.name for value in sessions[function].get_outputs()]
        found = sessions[function].run(None, _numbers(folder, inputs))
        return dict(zip(names, found, strict=True))

    return run


def _litert(folder):
    from ai_edge_litert.interpreter import Interpreter

    runners = {}

    def run(function, inputs):
        if function not in runners:
            interpreter = Interpreter(os.path.join(folder, function + ".tflite"))
            runners[function] = interpreter.get_signature_runner()
        return runners[function](**_numbers(folder, inputs))

    return run


def _numbers(folder, inputs):
    """Makes numbers of sentences, by the file that is exported for that."""
    if "sentences" not in inputs:
        return inputs
    spec = importlib.util.spec_from_file_location("words", os.path.join(folder, "words.py"))
    words = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(words)
    return {"ids": words.ids(inputs["sentences"].tolist())}


def main(name, folder, calls, results, *modules):
    """Runs every call."""
    for module in modules:
        importlib.import_module(module)
    run = {"saved_model": _tensorflow, "keras": _keras, "onnx": _onnx, "litert": _litert}[name](
        folder
    )
    given = {}
    with np.load(calls) as arrays:
        for key in arrays.files:
            call, function, name = key.split("/")
            given.setdefault((call, function), {})[name] = arrays[key]
    found = {}
    for (call, function), inputs in given.items():
        for name, values in run(function, inputs).items():
            found[f"{call}/{function}/{name}"] = values
    np.savez(results, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
