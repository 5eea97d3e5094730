"""Optimizers against NumPy; names; serialisation; two replicas."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from vatt import configs
from vatt.errors import UserError
from vatt.training import optimizers

GRADIENTS = np.random.default_rng(1).normal(size=(6, 3, 2)).astype("float32")
START = np.random.default_rng(2).normal(size=(3, 2)).astype("float32")
RATES = [0.0, 0.01, 0.02, 0.03, 0.02, 0.01]


class Undecided(configs.experiment.OptimizerConfig):
    """A class that nothing builds an optimizer from."""

    name: str = "undecided"


class Rates(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return tf.gather(tf.constant(RATES, tf.float32), step)


def run(optimizer):
    variable = keras.Variable(START, name="w")
    optimizer.build([variable])
    for gradient in GRADIENTS:
        optimizer.apply([tf.constant(gradient)], [variable])
    return variable.numpy()


def test_adam_with_unscaled_decay():
    p, m, v = START.astype("f8"), 0.0, 0.0
    for t, (g, rate) in enumerate(zip(GRADIENTS.astype("f8"), RATES, strict=True), start=1):
        p = p - 0.03 * p  # also while the learning rate is 0
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
        p = p - rate * np.sqrt(1 - 0.95**t) / (1 - 0.8**t) * m / (np.sqrt(v) + 1e-4)
    result = run(optimizers.Adam(Rates(), 0.8, 0.95, 1e-4, decay=0.03, name="o"))
    np.testing.assert_allclose(result, p, atol=1e-6)


@pytest.mark.parametrize(("path", "decay"), [("layer/kernel", 0.03), ("layer/bias", 0.0)])
def test_adam_of_flax_shrinks_kernels_after_each_step(path, decay):
    p, m, v = START.astype("f8"), 0.0, 0.0
    for t, (g, rate) in enumerate(zip(GRADIENTS.astype("f8"), RATES, strict=True), start=1):
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
        p = p - rate * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-2)
        p = p * (1 - rate * decay)
    above, leaf = path.split("/")
    with keras.name_scope(above):
        variable = keras.Variable(START, name=leaf)
    optimizer = optimizers.FlaxAdam(Rates(), 0.8, 0.95, 1e-2, 0.03, name="o")
    optimizer.build([variable])
    for gradient in GRADIENTS:
        optimizer.apply([tf.constant(gradient)], [variable])
    np.testing.assert_allclose(variable.numpy(), p, atol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_holds_the_learning_rate(nesterov):
    p, velocity = START.astype("f8"), 0.0
    for g, rate in zip(GRADIENTS.astype("f8"), RATES, strict=True):
        velocity = 0.9 * velocity - rate * g
        p = p + (0.9 * velocity - rate * g if nesterov else velocity)
    result = run(optimizers.SGD(Rates(), 0.9, nesterov, name="o"))
    np.testing.assert_allclose(result, p, atol=1e-6)


def test_plain_descent():
    result = run(optimizers.SGD(Rates(), name="o"))
    expected = START - sum(r * g for r, g in zip(RATES, GRADIENTS, strict=True))
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_descent_of_pytorch(momentum):
    """The velocity knows no learning rate, decay is part of the gradient."""
    p, velocity = START.astype("f8"), 0.0
    for g, rate in zip(GRADIENTS.astype("f8"), RATES, strict=True):
        velocity = momentum * velocity + g + 0.03 * p
        p = p - rate * velocity
    result = run(optimizers.TorchSGD(Rates(), momentum, 0.03, name="o"))
    np.testing.assert_allclose(result, p, atol=1e-6)


def orthogonalised(matrix):
    """Its singular values through the polynomial of each of five steps, by the SVD."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    values = values / np.linalg.norm(values)
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    assert np.all((values > 0.5) & (values < 1.5))
    return left @ np.diag(values) @ right


@pytest.mark.parametrize("transposed", [False, True])
def test_muon_moves_a_matrix_alike_in_all_directions(transposed):
    gradients = GRADIENTS.astype("f8") * np.array([1.0, 0.02])  # two directions, one of them weak
    p, m = START.astype("f8"), 0.0
    for g, rate in zip(gradients, RATES, strict=True):
        m = 0.9 * m + g
        p = p - rate * 0.3 * np.sqrt(3) * orthogonalised(g + 0.9 * m)
    optimizer = optimizers.Muon(Rates(), 0.9, 0.3, name="o")
    with keras.name_scope("dense"):
        kernel = keras.Variable(START.T if transposed else START, name="kernel")
    optimizer.build([kernel])
    for gradient in gradients:
        gradient = tf.constant(gradient.T if transposed else gradient, tf.float32)
        optimizer.apply([gradient], [kernel])
    result = kernel.numpy().T if transposed else kernel.numpy()
    np.testing.assert_allclose(result, p, atol=1e-5)


def test_muon_moves_a_convolution_as_the_matrix_of_its_filters():
    rng = np.random.default_rng(4)
    start, gradient = rng.normal(size=(2, 3, 3, 4, 5)), rng.normal(size=(2, 3, 3, 4, 5))
    ends = []
    for shape in ((2, 3, 3, 4, 5), (72, 5)):
        with keras.name_scope("layer"):
            kernel = keras.Variable(start.reshape(shape), name="kernel", dtype="float32")
        optimizer = optimizers.Muon(0.1, convolutions=True, name="o")
        optimizer.build([kernel])
        for _ in range(2):
            optimizer.apply([tf.constant(gradient.reshape(shape), tf.float32)], [kernel])
        ends.append(kernel.numpy().ravel())
    np.testing.assert_array_equal(*ends)
    assert np.abs(ends[0] - start.ravel()).max() > 0.01


def test_muon_leaves_to_adam_what_is_no_kernel_of_a_dense_layer():
    shapes = {"kernel": (3, 2), "bias": (2,), "embeddings": (3, 2)}
    with keras.name_scope("layer"):
        variables = [keras.Variable(np.ones(shape, "f4"), name=n) for n, shape in shapes.items()]
    with keras.name_scope("patches"):
        variables.append(keras.Variable(np.ones((2, 2, 3, 4), "f4"), name="kernel"))
    gradients = [tf.constant(np.random.default_rng(3).normal(size=v.shape), "float32")
                 for v in variables]  # fmt: skip
    slots, values = {}, {}
    for optimizer in (optimizers.Muon(0.1, name="o"), optimizers.Adam(0.1, name="o")):
        for variable in variables:
            variable.assign(np.ones(variable.shape))
        optimizer.build(variables)
        optimizer.apply(gradients, variables)
        slots[type(optimizer)] = {k: list(v) for k, v in optimizer.slot_variables().items()}
        values[type(optimizer)] = [v.numpy() for v in variables]
    others = ["layer/bias", "layer/embeddings", "patches/kernel"]
    assert slots[optimizers.Muon] == {"m": others, "v": others, "momentum": ["layer/kernel"]}
    equal = [np.array_equal(*pair) for pair in zip(*values.values(), strict=True)]
    assert equal == [False, True, True, True]


def test_the_optimizer_of_a_run_has_the_rate_of_its_replicas(two_replicas):
    rate = configs.experiment.LearningRate(learning_rate_base=0.1, times_replicas=True)
    config = configs.experiment.TorchSGDOptimizer(learning_rate=rate, weight_decay=0.5)
    optimizer = optimizers.of_run(config, two_replicas)
    assert optimizer.rate_at(3) == pytest.approx(0.2) and optimizer.l2 == 0.5
    alone = optimizers.of_run(config, tf.distribute.OneDeviceStrategy("CPU:0"))
    assert alone.rate_at(3) == pytest.approx(0.1)
    assert config.learning_rate.learning_rate_base == 0.1


def every_optimizer():
    family = configs.experiment.OptimizerConfig.variants()
    return sorted(family)


@pytest.mark.parametrize("name", every_optimizer())
def test_every_configured_optimizer_runs(name):
    config = configs.experiment.OptimizerConfig.variants()[name]()
    optimizer = optimizers.build(config, "opt")
    assert not np.allclose(run(optimizer), START)
    assert len({v.path for v in optimizer.variables}) == len(optimizer.variables)


def test_slot_names_are_stable():
    def names():
        optimizer = optimizers.Adam(0.1, name="opt")
        with keras.name_scope("model"):
            variables = [keras.Variable(START, name=name) for name in ("a", "b")]
        optimizer.build(variables)
        return [v.path for v in optimizer.variables]

    assert names() == names()
    assert "opt/model_a_m" in names()


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("AdamW", {"weight_decay": 0.1}),
        ("TorchSGD", {"weight_decay": 0.1}),
        ("Muon", {"momentum": 0.8, "convolutions": True}),
    ],
)
def test_round_trip(name, own):
    schedule = configs.experiment.CosineDecayLearningRate(total_steps=10, warmup_steps=2)
    config = configs.experiment.OptimizerConfig.variants()[name](learning_rate=schedule, **own)
    optimizer = optimizers.build(config, "opt")
    again = type(optimizer).from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    np.testing.assert_array_equal(run(again), run(optimizer))


def test_unknown_optimizer_is_refused():
    for config in (configs.experiment.OptimizerConfig(name="Adm"), Undecided()):
        with pytest.raises(
            UserError, match=f"'{config.name}' is not one of Adam, AdamW, FlaxAdam, Momentum"
        ):
            optimizers.build(config)


def test_the_class_decides_which_optimizer_is_built():
    config = configs.experiment.AdamOptimizer(beta_1=0.5).model_copy(update={"name": "SGD"})
    optimizer = optimizers.build(config)
    assert type(optimizer) is optimizers.Adam and optimizer.beta_1 == 0.5


@pytest.mark.parametrize("name", ["Adam", "MomentumW", "Muon", "SGD"])
def test_variables_may_have_rates_of_their_own(name):
    """A variable at half the rate moves as one alone with half the schedule; decay is unscaled."""

    def run_two(rate, scales):
        family = configs.experiment.OptimizerConfig.variants()
        schedule = configs.experiment.LearningRate(learning_rate_base=rate)
        optimizer = optimizers.build(family[name](learning_rate=schedule), "opt")
        variables = [keras.Variable(START, name=n) for n in ("a", "b")]
        optimizer.build(variables, scales)
        for gradient in GRADIENTS:
            optimizer.apply([tf.constant(gradient)] * 2, variables)
        return [v.numpy() for v in variables]

    full, half = run_two(0.1, {"b": 0.5})
    np.testing.assert_array_equal(full, run_two(0.1, {})[1])
    np.testing.assert_allclose(half, run_two(0.05, None)[0], rtol=1e-6)
    assert np.abs(full - half).max() > 1e-3


def test_update_compiles_into_a_graph():
    optimizer = optimizers.Adam(0.1, name="opt")
    variable = keras.Variable(START, name="w")
    optimizer.build([variable])

    @tf.function(autograph=False)
    def step(gradient):
        optimizer.apply([gradient], [variable])

    step(GRADIENTS[0])
    step(GRADIENTS[1])
    assert int(optimizer.iterations.numpy()) == 2
