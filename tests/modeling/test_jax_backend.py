"""Every architecture gives under Keras' JAX backend what it gives under TensorFlow.

A second process runs under JAX, once for all architectures. It takes the weights over by path, and
both processes write what the models give. The draws of the two backends differ by design, so both
take theirs from NumPy here; all that is made of them (masks, DropToken, permutations) is compared.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import architectures
import keras
import numpy as np
import pytest

from vatt.modeling import random
from vatt.modeling.random import Randomness

REPOSITORY = Path(__file__).resolve().parents[2]
FAST = ("wat_large", "t5_base")
DIFFERENTIATED = (*FAST, "bert_base")  # they have all the layers with gradients of their own
ROWS = 8  # batch norm over fewer magnifies rounding


def numpy_draw(shape: Any, seed: Any) -> Any:
    """Returns int32 `shape`, uniform over all values, a function of `seed` on every backend."""

    def draw(seed: Any) -> np.ndarray:
        words = np.asarray(seed).view(np.uint32)
        return np.random.default_rng(words).integers(-(2**31), 2**31, shape).astype("int32")

    if keras.backend.backend() == "jax":
        import jax

        return jax.pure_callback(draw, jax.ShapeDtypeStruct(shape, "int32"), seed)
    return keras.ops.convert_to_tensor(draw(seed))


def run(name: str, weights: Path) -> dict[str, np.ndarray]:
    """Returns outputs, moving statistics after training and gradients; needs `numpy_draw`.

    Writes `weights`, or if the file is there reads them from it.
    """
    model = _random_everywhere(name)
    if weights.exists():
        with np.load(weights) as given:
            assert set(given) == {v.path for v in model.variables}
            for variable in model.variables:
                variable.assign(given[variable.path])
    else:
        architectures.fill(model.variables)
        np.savez(weights, **{v.path: v.numpy() for v in model.variables})
    inputs, rng = architectures.inputs(name, ROWS), Randomness([5, 6], first_row=2)
    compute = _with_jax if keras.backend.backend() == "jax" else _with_tensorflow
    found = compute(model, inputs, rng, name in DIFFERENTIATED)
    arrays = architectures.flat(found)
    assert all(np.isfinite(array).all() for array in arrays.values())
    return arrays


def _with_tensorflow(model: Any, inputs: Any, rng: Randomness, differentiate: bool) -> Any:
    import tensorflow as tf

    found = {"evaluation": model(inputs)}
    with tf.GradientTape() as tape:
        found["training"] = model(inputs, training=True, rng=rng)
        if differentiate:
            total = tf.reduce_sum(found["training"]["features_pooled"] ** 2)
    found["statistics"] = [v.value for v in model.non_trainable_variables]
    if differentiate:
        found["gradient"] = tape.gradient(total, [v.value for v in model.trainable_variables])
    return found


def _with_jax(model: Any, inputs: Any, rng: Randomness, differentiate: bool) -> Any:
    import jax

    trained, others = (
        [v.value for v in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    )

    @jax.jit
    def evaluate(trained: Any) -> Any:
        return model.stateless_call(trained, others, inputs)[0]

    @jax.jit
    def train(trained: Any) -> Any:
        return model.stateless_call(trained, others, inputs, training=True, rng=rng)

    outputs, statistics = train(trained)
    found = {"evaluation": evaluate(trained), "training": outputs, "statistics": statistics}
    if differentiate:
        total = jax.grad(lambda t: (train(t)[0]["features_pooled"] ** 2).sum())
        found["gradient"] = total(trained)
    return found


def _random_everywhere(name: str) -> Any:
    """Builds an architecture; in some, more is random than by default."""
    changes: dict[str, Any] = {}
    if name.startswith("wat"):
        changes = {"use_masking": True, "mask_rate": 0.5}
    elif name.startswith("resnet2d"):
        changes = {"dropblock_keep_probs": (0.9,) * 4, "dropblock_size": 3}
    return architectures.build(name, **changes)


@pytest.fixture(scope="module")
def compared(request):
    """Returns {architecture: (arrays under TensorFlow, arrays under JAX)} of those asked for."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed: pip install jax, or put it on PYTHONPATH")
    items = [i for i in request.session.items if "compared" in getattr(i, "fixturenames", ())]
    names = [item.callspec.params["name"] for item in items]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(random, "_uniform_int32", numpy_draw)
        here = {name: run(name, Path(folder, f"{name}.npz")) for name in names}
        path = [str(REPOSITORY), str(REPOSITORY / "tests"), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiling takes the time here
            "PYTHONPATH": os.pathsep.join(path),
        }
        result = subprocess.run(
            [sys.executable, __file__, folder, *names],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        there = {}
        for name in names:
            with np.load(Path(folder, f"{name}-jax.npz")) as arrays:
                there[name] = dict(arrays)
    return {name: (here[name], there[name]) for name in names}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow])
        for name in architectures.EVERY
    ],
)
def test_jax_gives_what_tensorflow_gives(compared, name):
    here, there = compared[name]
    assert here.keys() == there.keys()
    for key, value in here.items():
        scale = max(1.0, np.abs(value).max(initial=0.0))
        tolerance = 1e-5 if key.startswith("evaluation") else 1e-3
        assert np.abs(there[key] - value).max(initial=0.0) <= tolerance * scale, key


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    assert keras.backend.backend() == "jax"
    random._uniform_int32 = numpy_draw
    # The weights are handed over: their first values, which take long to compile, are not needed.
    import jax

    def zeros(key: Any, shape: Any = (), dtype: Any = "float32", **_: Any) -> Any:
        return np.zeros(shape, dtype)

    jax.random.uniform = jax.random.normal = jax.random.truncated_normal = zeros
    for name in names:
        np.savez(folder / f"{name}-jax.npz", **run(name, folder / f"{name}.npz"))
    # vatt.modeling and all it needs, models built, called and differentiated.
    assert "tensorflow" not in sys.modules


if __name__ == "__main__":
    main()
