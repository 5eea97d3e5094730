r"""Training steps at full size on one GPU: Keras' JAX backend in bfloat16, and PyTorch beside it.

    python benchmarks/gpu_step.py [--models vit_base tx_fac_bbs av_mae_base] [--batch 32]
        [--rounds 5] [--steps 10] [--torch_python PYTHON] [--tiny]

The models and objectives are those of this package, which need no TensorFlow; JAX and Keras are
enough. A step is the whole of it: towers, losses, gradients, clipping, Adam, compiled as one
function, on a batch that is on the device already. PyTorch is `compare_torch.py` (the same
`vit_base`: SDPA, compiled, autocast), in a process of its own; rounds alternate. MFU is the share
of what products of bfloat16 matrices reach on the same device in the same run. --tiny takes the
smallest architectures instead, to see that all of this runs where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ["KERAS_BACKEND"] = "jax"
# Rounds of two frameworks share one device.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax  # noqa: E402
import numpy as np  # noqa: E402
from jax import numpy as jnp  # noqa: E402

from vatt import configs, methods  # noqa: E402
from vatt.modeling import factory, flops  # noqa: E402
from vatt.modeling.random import Randomness  # noqa: E402
from vatt.objectives import classification  # noqa: E402
from vatt.objectives.replica import ALONE  # noqa: E402

# What `vatt.data.pipeline.clip_shapes` says of the presets' examples.
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "vit_base": {"video": (32, 224, 224, 3)},
    "tx_fac_bbs": {"video": (32, 224, 224, 3), "audio": (153600, 1), "text": (5, 16)},
    "av_mae_base": {"video": (16, 224, 224, 3), "audio": (1000, 128, 1)},
    "vit_tiny": {"video": (16, 64, 64, 3)},
    "tx_fac_tiny": {"video": (16, 64, 64, 3), "audio": (12800, 1), "text": (5, 16)},
    "av_mae_tiny": {"video": (8, 48, 48, 3), "audio": (160, 64, 1)},
}
TINY = {"vit_base": "vit_tiny", "tx_fac_bbs": "tx_fac_tiny", "av_mae_base": "av_mae_tiny"}
CLASSES, RATE, CLIP_NORM = 8, 1e-4, 1.0
BETAS, EPSILON = (0.9, 0.999), 1e-7

Arrays = Mapping[str, Any]


class Step:
    """A model with its loss and Adam; calling it does `count` steps and returns the last loss."""

    def __init__(self, name: str, batch: int, precision: str) -> None:
        """Builds it and draws a batch."""
        shapes = SHAPES[name]
        rng = np.random.default_rng(0)
        self._batch = {
            m: jnp.asarray(
                rng.integers(0, 50, (batch, *s))
                if m == "text"
                else rng.uniform(-1, 1, (batch, *s)),
                "int32" if m == "text" else "float32",
            )
            for m, s in shapes.items()
        }
        make = _classifier if "vit" in name else _pretraining
        self.model, self._loss, cost = make(name, shapes, precision)
        self.flops = batch * cost
        trained = [v.value for v in self.model.trainable_variables]
        still = [v.value for v in self.model.non_trainable_variables]
        zeros = [jnp.zeros_like(value) for value in trained]
        self._state = (
            trained,
            still,
            zeros,
            [jnp.zeros_like(z) for z in zeros],
            jnp.zeros((), "int32"),
        )
        self._update = jax.jit(self._step, donate_argnums=0)

    def __call__(self, count: int) -> float:
        for _ in range(count):
            self._state, loss = self._update(self._state, self._batch)
        return float(loss)

    def _step(self, state: tuple, batch: Arrays) -> tuple[tuple, Any]:
        trained, still, first, second, number = state
        seed = jnp.stack([jnp.zeros((), "int32"), number])

        def loss_of(values: list) -> tuple[Any, list]:
            with self._with(values, still) as scope:
                loss = self._loss(batch, Randomness(seed))
            kept = [scope.get_current_value(v) for v in self.model.non_trainable_variables]
            return loss, [old if new is None else new for old, new in zip(still, kept, strict=True)]

        (loss, still), gradients = jax.value_and_grad(loss_of, has_aux=True)(trained)
        norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in gradients))
        scale = CLIP_NORM / jnp.maximum(norm, CLIP_NORM)
        number = number + 1
        rate = RATE * jnp.sqrt(1 - BETAS[1] ** number) / (1 - BETAS[0] ** number)
        moved = [
            _adam(*values, scale, rate)
            for values in zip(trained, gradients, first, second, strict=True)
        ]
        trained, first, second = (list(values) for values in zip(*moved, strict=True))
        return (trained, still, first, second, number), loss

    def _with(self, trained: list, still: list) -> Any:
        from keras import StatelessScope

        pairs = [*zip(self.model.trainable_variables, trained, strict=True),
                 *zip(self.model.non_trainable_variables, still, strict=True)]  # fmt: skip
        return StatelessScope(state_mapping=pairs)


def _adam(weight: Any, gradient: Any, m: Any, v: Any, scale: Any, rate: Any) -> tuple:
    gradient = gradient * scale
    m = BETAS[0] * m + (1 - BETAS[0]) * gradient
    v = BETAS[1] * v + (1 - BETAS[1]) * gradient**2
    return weight - rate * m / (jnp.sqrt(v) + EPSILON), m, v


def _classifier(name: str, shapes: Arrays, precision: str) -> tuple[Any, Callable, float]:
    """A classifier as `compare_torch.py` has it: DropToken 50 %, dropout 0.1."""
    config = configs.registry.backbone(name)
    model = factory.build_classifier(config, num_classes=CLASSES, dtype=precision)
    model.build((None, *shapes["video"]))

    def loss(batch: Arrays, rng: Randomness) -> Any:
        logits = model(batch["video"], training=True, rng=rng)["logits"]
        labels = jax.nn.one_hot(jnp.arange(len(logits)) % CLASSES, CLASSES)
        return classification.softmax_loss(logits, labels)

    return model, loss, flops.classification_step(model, shapes)


def _pretraining(name: str, shapes: Arrays, precision: str) -> tuple[Any, Callable, float]:
    given = {"task": "pretrain", "mode": "train", "model_arch": name}
    cfg = configs.resolve(**given, model_dir="unused", data_dir="unused")
    method = methods.of(cfg)
    model = method.model(cfg.model, shapes, precision)
    objective = method.objective(cfg.model)

    def loss(batch: Arrays, rng: Randomness) -> Any:
        features = model.towers(batch, training=True, rng=rng.child("towers"))
        outputs = model.train_outputs(features, rng=rng.child("head"))
        rows = len(batch["video"])
        there = {f"{m}_mask": jnp.ones((rows,)) for m in ("audio", "text")}
        return objective({**outputs}, {**batch, **there}, ALONE, rng)["total_loss"]

    return model, loss, flops.pretraining_step(model, shapes)


def matmul_peak() -> float:
    """Operations per second of products of bfloat16 matrices."""
    side = 8192 if jax.default_backend() == "gpu" else 1024
    x = jnp.ones((side, side), jnp.bfloat16)
    product = jax.jit(lambda x: x @ x)
    product(x).block_until_ready()
    return 2 * side**3 / min(_seconds(lambda: product(x).block_until_ready()) for _ in range(5))


def _seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


class Torch:
    """`compare_torch.py` in a process of its own."""

    def __init__(self, python: str, batch: int, steps: int) -> None:
        """Waits until it is compiled."""
        script = Path(__file__).with_name("compare_torch.py")
        command = [python, str(script), "compiled", "bfloat16", str(batch), str(steps), "cuda"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.flops = json.loads(self._process.stdout.readline())["flops"]

    def seconds(self) -> float:
        """A step, of a round."""
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())["ms"] / 1000


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=TINY, default=list(TINY))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="in a round")
    parser.add_argument("--precision", default="mixed_bfloat16")
    parser.add_argument("--torch_python", help="interpreter that has PyTorch; none: without it")
    parser.add_argument("--tiny", action="store_true", help="the smallest architectures")
    given = parser.parse_args()
    peak = matmul_peak()
    device = jax.devices()[0].device_kind
    print(f"{device}: {peak / 1e12:.3g} TFLOP/s of bfloat16 products; batch {given.batch}")
    print("| model | ms per step | clips/s | TFLOP/s | MFU |\n|---|---|---|---|---|")
    for name in [TINY[name] if given.tiny else name for name in given.models]:
        step = Step(name, given.batch, given.precision)
        step(2)
        cases = {
            name: (step.flops, lambda step=step: _seconds(lambda: step(given.steps)) / given.steps)
        }
        if name == "vit_base" and given.torch_python:
            other = Torch(given.torch_python, given.batch, given.steps)
            cases["vit_base, PyTorch"] = other.flops, other.seconds
        times = {case: [] for case in cases}
        for _ in range(given.rounds):
            for case, (_, seconds) in cases.items():
                times[case].append(seconds())
        for case, (operations, _) in cases.items():
            low, middle, high = min(times[case]), statistics.median(times[case]), max(times[case])
            print(
                f"| {case} | {1e3 * middle:.1f} ({1e3 * low:.1f}-{1e3 * high:.1f}) | "
                f"{given.batch / middle:.4g} | {operations / middle / 1e12:.3g} | "
                f"{operations / middle / peak:.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
