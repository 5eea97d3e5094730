"""Compares steps of `mmv_fac` under XLA with uncompiled ones: how far rounding is enlarged.

    python benchmarks/compiled_drift.py [--steps 8] [--rate 1e-4]

The towers are a quarter as wide, a batch is 4 clips of noise, and the optimizer is gradient
descent with momentum. Losses in float32 uncompiled, under XLA and from first weights that are
changed by one part in ten million are compared with those in float64. A run in float64 is one of a
copy of the package in which float64 stands for float32: there is no such option.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
ROWS, NARROWER = 4, 4
CLIP, SPECTROGRAM, WORDS, VOCABULARY = (8, 32, 32, 3), (32, 32, 1), 6, 40
PERTURBATION = 1e-7  # of each first weight: about a unit in the last place of float32
RUNS = {  # floats, under XLA, change of the first weights
    "float32": (32, False, 0.0),
    "float32, XLA": (32, True, 0.0),
    "float32, weights changed by 1e-7": (32, False, PERTURBATION),
    "float64": (64, False, 0.0),
}


def compare(steps: int, rate: float, runs: tuple[str, ...] = tuple(RUNS)) -> dict[str, dict]:
    """Returns `losses`, and `norms` of gradients, of every step by run."""
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, dict] = {}
        for floats in (32, 64):
            names = [name for name in runs if RUNS[name][0] == floats]
            package = Path(folder) / f"float{floats}"
            copied(package, floats)
            command = [sys.executable, __file__, "--steps", str(steps), "--rate", str(rate)]
            paths = {"PYTHONPATH": str(package), "VATT_WEIGHTS": f"{folder}/first.npz"}
            answer = subprocess.run(
                [*command, "--worker", *names],
                env=os.environ | paths,
                cwd=ROOT,
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            found |= json.loads(answer.stdout.splitlines()[-1])
    return found


def copied(target: Path, floats: int) -> None:
    """Copies the package, with other numbers in place of float32."""
    shutil.copytree(ROOT / "vatt", target / "vatt", ignore=shutil.ignore_patterns("__pycache__"))
    for path in target.rglob("*.py"):
        path.write_text(path.read_text().replace("float32", f"float{floats}"))


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--worker", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        work(arguments)
        return
    found = compare(arguments.steps, arguments.rate)
    print("| run | " + " | ".join(f"step {n + 1}" for n in range(arguments.steps)) + " |")
    print("|---" * (1 + arguments.steps) + "|")
    exact = np.array(found["float64"]["losses"])
    print("| loss in float64 | " + " | ".join(f"{x:.4f}" for x in exact) + " |")
    norms = found["float64"]["norms"]
    print("| norm of its gradient | " + " | ".join(f"{x:.4g}" for x in norms) + " |")
    for name in RUNS:
        if name != "float64":
            away = np.abs(np.array(found[name]["losses"]) / exact - 1)
            print(f"| {name} | " + " | ".join(f"{x:.1e}" for x in away) + " |")


def work(arguments: argparse.Namespace) -> None:
    """The runs of one precision."""
    os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    import keras

    floats = RUNS[arguments.worker[0]][0]
    keras.backend.set_floatx(f"float{floats}")
    narrow_i3d()
    if floats == 64:
        pool_by_slices()
    found = {}
    for name in arguments.worker:
        _, xla, change = RUNS[name]
        found[name] = train(f"float{floats}", xla, change, arguments.steps, arguments.rate)
    print(json.dumps(found))


def narrow_i3d() -> None:
    """Makes I3D narrower, whose configuration has no width."""
    from vatt.modeling.backbones import i3d

    def less(filters: object) -> object:
        if isinstance(filters, int):
            return max(1, filters // NARROWER)
        return tuple(map(less, filters))

    i3d.CONVS = {n: (less(filters), *others) for n, (filters, *others) in i3d.CONVS.items()}
    i3d.MIXED = {name: less(filters) for name, filters in i3d.MIXED.items()}


def pool_by_slices() -> None:
    """Gives I3D the same maximum in other operations: TensorFlow's has no float64."""
    import keras
    from keras import ops

    from vatt.modeling.backbones import i3d

    class Pool(keras.layers.Layer):
        def __init__(self, size: tuple, strides: tuple, name: str, dtype: object) -> None:
            super().__init__(name=name, dtype=dtype)
            self.windows = list(zip(size, strides, strict=True))

        def call(self, x: object) -> object:
            for axis, (size, stride) in enumerate(self.windows, start=1):
                count = -(-x.shape[axis] // stride)
                missing = max((count - 1) * stride + size - x.shape[axis], 0)
                margins = [(0, 0)] * 5
                margins[axis] = (missing // 2, missing - missing // 2)
                padded, last = ops.pad(x, margins, constant_values=-1e30), (count - 1) * stride + 1
                at = (slice(None),) * axis
                x = padded[(*at, slice(0, last, stride))]
                for place in range(1, size):
                    x = ops.maximum(x, padded[(*at, slice(place, place + last, stride))])
            return x

    i3d._pool = Pool


def narrow_config() -> object:
    """Returns the configuration of the model."""
    from vatt import configs

    config = configs.registry.model("mmv_fac")
    stack = config.backbone_config
    stack.audio_model_kwargs.width_multiplier /= NARROWER
    stack.text_model_kwargs = {"d_embedding": 10, "vocab_size": VOCABULARY, "d_model": 512}
    return config


def batch(dtype: str) -> dict[str, np.ndarray]:
    """Returns clips, spectrograms and words, the same in any precision."""
    random = np.random.default_rng(0)
    return {
        "video": random.uniform(size=(ROWS, *CLIP)).astype("float32").astype(dtype),
        "audio": random.normal(size=(ROWS, *SPECTROGRAM)).astype("float32").astype(dtype),
        "text": random.integers(0, VOCABULARY, (ROWS, 2, WORDS)).astype("int32"),
    }


def train(dtype: str, xla: bool, change: float, steps: int, rate: float) -> dict[str, list]:
    """Returns losses and norms of gradients of a run."""
    import keras
    import tensorflow as tf

    from vatt import methods
    from vatt.training import replica

    keras.backend.clear_session()
    method, config, inputs = methods.named("vatt"), narrow_config(), batch(dtype)
    objective, strategy = method.objective(config), tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        keras.utils.set_random_seed(1)
        model = method.model(config, {m: x.shape[1:] for m, x in inputs.items()}, dtype)
        start(model, change)
        slopes = [tf.Variable(tf.zeros(v.shape, v.dtype)) for v in model.trainable_variables]

    def replica_step(inputs: dict) -> tuple:
        variables = [v.value for v in model.trainable_variables]
        with tf.GradientTape() as tape:
            outputs = model.train_outputs(model.towers(inputs, training=True))
            losses = objective(outputs, inputs, replica.of_this_step(), None)
        gradients = [
            tf.convert_to_tensor(g) for g in tape.gradient(losses["total_loss"], variables)
        ]
        for slope, gradient, variable in zip(slopes, gradients, variables, strict=True):
            slope.assign(0.9 * slope + gradient)
            variable.assign_sub(rate * slope)
        return losses["total_loss"], tf.linalg.global_norm(gradients)

    @tf.function(autograph=False, jit_compile=xla or None)
    def step() -> tuple:
        return strategy.run(replica_step, ({m: tf.constant(x) for m, x in inputs.items()},))

    made = [[float(x) for x in step()] for _ in range(steps)]
    return {"losses": [loss for loss, _ in made], "norms": [norm for _, norm in made]}


def start(model: object, change: float) -> None:
    """Gives a model the first weights of all runs, which the first of them has drawn."""
    path, random = Path(os.environ["VATT_WEIGHTS"]), np.random.default_rng(1)
    if not path.exists():
        np.savez(path, **{v.path: v.numpy() for v in model.variables})
    with np.load(path) as first:
        for variable in model.variables:
            value = first[variable.path].astype(variable.dtype)
            variable.assign(value * (1 + change * random.choice([-1, 1], value.shape)))


if __name__ == "__main__":
    main()
