"""What holds for every architecture of the registry: training, precision, serialisation, inputs."""

from __future__ import annotations

import contextlib
import functools
import json
import re

import architectures
import keras
import numpy as np
import pytest
import tensorflow as tf

from vatt.methods.vatt import model as multimodal
from vatt.modeling.layers.positions import spline_matrix
from vatt.modeling.random import Randomness

DTYPES = ("float32", "mixed_bfloat16")
SEED = [3, 4]
# Adds the same to all scores of a query, which softmax ignores: its gradient is zero but for
# rounding. The published models have it.
KEY_BIAS = "/k/bias"
UNIFIED = [name for name in architectures.EVERY if name.startswith("ut_")]
# Nothing in these is random: convolutions without DropBlock, a dense layer per word, and the text
# model without dropout.
NOT_RANDOM = ("resnet2d_101", "mmv_fac", "mmv_fac_tiny", "linear", "linear_tiny", "t5_tiny")
NOT_RANDOM += tuple(n for n in architectures.EVERY if n.startswith(("r2plus1d", "resnet", "mbt")))


def every(names):
    """Parameters of a test: one architecture of each kind is fast."""
    fast = architectures.FAST
    return [pytest.param(n, marks=[] if n in fast else [pytest.mark.slow]) for n in names]


every_architecture = pytest.mark.parametrize("name", every(architectures.EVERY))
every_fine_tuned = pytest.mark.parametrize("name", every(architectures.FINE_TUNED))


@functools.cache
def cached(name, dtype="float32"):
    return architectures.build(name, dtype)


@pytest.fixture
def make():
    """Returns models with the same values for each test, whatever others did to them."""

    def filled(name, dtype="float32"):
        model = cached(name, dtype)
        architectures.fill(model.variables)
        return model

    return filled


@contextlib.contextmanager
def global_policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def ends(outputs):
    """Returns what losses are made of: embeddings, logits or pooled features."""
    if not isinstance(outputs, dict):
        return [outputs]
    for last in ("head", "logits", "features_pooled"):
        if last in outputs:
            return ends(outputs[last])
    return [end for value in outputs.values() for end in ends(value)]


def train(model, inputs, seed=SEED):
    """Returns outputs and {variable path: gradient or None} of a training step, as arrays.

    With the gradients of what is not trained, None if nothing flows there.
    """
    random, variables = np.random.default_rng(0), model.variables
    with tf.GradientTape() as tape:
        tape.watch([v.value for v in variables])
        outputs = model(inputs, training=True, rng=Randomness(seed))
        # Not a sum of squares: what batch norm returns has the same one whatever its inputs.
        total = sum(
            tf.reduce_sum(tf.cast(end, tf.float32) * random.normal(size=end.shape))
            for end in ends(outputs)
        )
    gradients = tape.gradient(total, [v.value for v in variables])
    arrays = [None if g is None else tf.convert_to_tensor(g).numpy() for g in gradients]
    return architectures.flat(outputs), dict(zip([v.path for v in variables], arrays, strict=True))


def assert_finite(arrays):
    assert [name for name, a in arrays.items() if a is not None and not np.isfinite(a).all()] == []


def assert_trains(model, inputs):
    """Outputs and gradients are finite; all that is trained gets one."""
    outputs, gradients = train(model, inputs)
    assert_finite(outputs)
    assert_finite(gradients)
    reached = {path for path, g in gradients.items() if g is not None and np.any(g)}
    missed = {v.path for v in model.trainable_variables} - reached
    assert [path for path in missed if not path.endswith(KEY_BIAS)] == []
    return gradients


def assert_equal(one, other, **tolerance):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_allclose(other[name], value, err_msg=name, **tolerance)


# Training ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@every_architecture
def test_gradients_reach_every_trainable_variable(make, name, dtype):
    gradients = assert_trains(make(name, dtype), architectures.inputs(name))
    if dtype != "float32":
        return
    for path in [path for path in gradients if path.endswith(KEY_BIAS)]:
        kernel = gradients[path.replace(KEY_BIAS, "/k/kernel")]
        assert np.abs(gradients[path]).max() < 1e-3 * np.abs(kernel).max()


@every_fine_tuned
def test_fine_tuning_models_train(name):
    model = architectures.classifier(name, "mixed_bfloat16", cls_dropout_rate=0.3)
    architectures.fill(model.variables)
    assert_trains(model, architectures.inputs(name, rows=4))


@every_architecture
def test_layers_have_the_precision_they_are_given(name):
    """Whatever the global policy; heads are float32."""
    with global_policy("float16"):
        model = architectures.build(name, "mixed_bfloat16")
    assert {v.dtype for v in model.variables} == {"float32"}
    head = list(model.head._flatten_layers()) if architectures.KINDS[name] == "model" else []
    towers = [layer for layer in model._flatten_layers() if layer not in head]
    assert {layer.dtype_policy.name for layer in towers} == {"mixed_bfloat16"}
    assert {layer.dtype_policy.name for layer in head} <= {"float32"}
    outputs = model(architectures.inputs(name))
    assert {end.dtype for end in ends(outputs)} == {tf.float32 if head else tf.bfloat16}


@every_fine_tuned
def test_a_frozen_backbone_is_left_alone(name):
    model = architectures.classifier(name, freeze_backbone=True)
    architectures.fill(model.variables)
    inputs = architectures.inputs(name)
    before = [v.numpy() for v in model.backbone.variables]
    features = architectures.flat(model.backbone(inputs))
    features = {k: v for k, v in features.items() if not k.startswith("pooled_by_modality/")}
    outputs, gradients = train(model, inputs)
    head = {v.path for v in model.classification.variables}
    assert {path for path, gradient in gradients.items() if gradient is not None} == head
    assert {v.path for v in model.trainable_variables} == head
    for variable, value in zip(model.backbone.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)
    # As in evaluation: no token or value is dropped, no batch decides about the statistics.
    assert_equal(features, {key: outputs[key] for key in features}, rtol=1e-6)


def test_a_frozen_tower_of_a_pretraining_model_is_left_alone():
    config = architectures.config("tx_fac")
    config.backbone_config.audio_model_kwargs["freeze_backbone"] = True
    model = architectures.ready(multimodal.build(config), "tx_fac")
    architectures.fill(model.variables)
    frozen = {v.path for v in model.audio.variables}
    for one in (model, again(model, "tx_fac")):
        gradients = assert_trains(one, architectures.inputs("tx_fac"))
        assert frozen.isdisjoint(v.path for v in one.trainable_variables)
        assert frozen.isdisjoint(path for path, g in gradients.items() if g is not None)


# What the configuration of a family can vary, beside its sizes.
OPTIONS = {
    "relu": {"activation": "relu"},
    "swish": {"activation": "swish"},
    "geglu": {"activation": "geglu"},
    "no activation": {"activation": None},
    "post-norm": {"pre_norm": False},
    "biases, much dropout": {"use_bias": True, "dropout_rate": 0.5},
    "no biases, no dropout": {"use_bias": False, "dropout_rate": 0.0},
    "projections": {"pre_projection": True, "post_projection": True}
    | {"post_proj_activation": "swish"},
    "masking": {"use_masking": True, "mask_rate": 0.5},
    "masking nothing": {"use_masking": True, "mask_rate": 0.0},
    "all tokens": {"random_patch_sampling": False},
    "one token": {"patch_sampling_rate": 0.01},
    "overlap": {"temporal_patch_stride": 16},
    "gaps": {"temporal_patch_stride": 48},
    "words as wide as the model": {"d_kv": 4, "d_pre_proj": None, "d_embedding": 8},
    "trained words": {"trainable_embeddings": True},
    "sentence token": {"use_agg_token": True, "d_pre_proj": 8, "d_post_proj": 7},
    "no sentence token": {"use_agg_token": False, "d_pre_proj": 8, "d_post_proj": 7},
    "trained words in all": {"txt_embedding_trainable": True},
    "all at once": {"activation": "geglu", "pre_norm": False, "use_masking": True}
    | {"pre_projection": True, "post_projection": True, "post_proj_activation": "geglu"},
    "DropBlock": {"dropblock_keep_probs": (1.0, 0.95, 0.9, 0.9), "dropblock_size": 3},
    "stopped gradient": {"stop_gradient_point": 2, "cifar_stem": True}
    | {"final_endpoint": "unit_out_1"},
    "plain batch norm": {"use_xreplica_bn": False, "batch_norm_scale": False},
    "other stages": {"blocks": (2, 1, 1, 3), "final_endpoint": "layer2", "use_xreplica_bn": False},
}
# One backbone of each class; ViT and SpT are the class of WaT.
FAMILIES = ("wat_base", "t5_base", "bert_base", "linear", "ut_base", "resnet2d_50", "i3d")
FAMILIES += ("r2plus1d_tiny", "resnet_tiny")


def varied():
    """Every option with every family that has all its fields; a few of one family are fast."""
    pairs = [(name, option) for name in FAMILIES for option in OPTIONS]
    fields = {name: set(architectures.config(name).keys()) for name in FAMILIES}
    pairs = [(name, option) for name, option in pairs if set(OPTIONS[option]) <= fields[name]]
    fast = [("wat_base", option) for option in ("all at once", "one token", "gaps", "post-norm")]
    marks = {pair: [pytest.mark.slow] for pair in pairs if pair not in fast}
    return [pytest.param(*pair, marks=marks.get(pair, [])) for pair in pairs]


@pytest.mark.parametrize(("name", "option"), varied())
def test_every_option_trains(name, option):
    inputs = architectures.inputs(name)
    for dtype in DTYPES:
        model = architectures.build(name, dtype, **OPTIONS[option])
        architectures.fill(model.variables)
        hidden = {v.path for v in model.variables if v.path.endswith("/masking/embedding")}
        if option == "masking nothing":  # its vector is never used then, but has a gradient
            outputs, gradients = train(model, inputs)
            assert_finite(outputs)
            assert [bool(np.any(gradients[path])) for path in hidden] == [False]
        else:
            assert_trains(model, inputs)
        assert_finite(architectures.flat(model(inputs)))


# Reproducibility ---------------------------------------------------------------------------------


@every_architecture
def test_the_same_randomness_gives_the_same_outputs(make, name):
    model, inputs = make(name), architectures.inputs(name)

    def run(**arguments):
        return architectures.flat(model(inputs, **arguments))

    one, two, other = (run(training=True, rng=Randomness(s)) for s in (SEED, SEED, [3, 5]))
    assert_equal(one, two, rtol=0)
    differs = any(np.any(one[key] != other[key]) for key in one)
    assert differs == (name not in NOT_RANDOM)
    # In evaluation nothing is drawn, even if there is something to draw from.
    assert_equal(run(), run(rng=Randomness(SEED)), rtol=0)


# Serialisation -----------------------------------------------------------------------------------


def again(model, name):
    """Returns a model built from what is left of `model`'s configuration after JSON."""
    text = json.dumps(keras.saving.serialize_keras_object(model))
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    return architectures.ready(copy, name)


@every_architecture
def test_a_rebuilt_model_is_equal(make, name):
    model = make(name, "mixed_bfloat16")
    copy = again(model, name)
    assert type(copy) is type(model)
    assert copy.get_config() == model.get_config()
    for kind in ("variables", "trainable_variables"):
        assert [v.path for v in getattr(copy, kind)] == [v.path for v in getattr(model, kind)]
    one, two = ([x.dtype_policy.name for x in m._flatten_layers()] for m in (model, copy))
    assert one == two
    copy.set_weights(model.get_weights())
    inputs, arguments = architectures.inputs(name), {"training": True, "rng": Randomness(SEED)}
    one, two = (architectures.flat(m(inputs, **arguments)) for m in (model, copy))
    assert_equal(one, two, rtol=0)


@pytest.mark.parametrize("name", architectures.FAST)
def test_a_rebuilt_float32_model_is_equal_whatever_the_global_policy(make, name):
    model, inputs = make(name), architectures.inputs(name)
    with global_policy("mixed_bfloat16"):
        copy = again(model, name)
    assert {x.dtype_policy.name for x in copy._flatten_layers()} == {"float32"}
    copy.set_weights(model.get_weights())
    assert_equal(*(architectures.flat(m(inputs)) for m in (model, copy)), rtol=0)


@every_fine_tuned
def test_a_rebuilt_fine_tuning_model_is_equal(name):
    model = architectures.classifier(name, freeze_backbone=True, num_test_samples=3)
    architectures.fill(model.variables)
    copy = again(model, name)
    assert [v.path for v in copy.trainable_variables] == [v.path for v in model.trainable_variables]
    assert [v.path for v in copy.variables] == [v.path for v in model.variables]
    copy.set_weights(model.get_weights())
    inputs = architectures.inputs(name)
    assert_equal(architectures.flat(model(inputs)), architectures.flat(copy(inputs)), rtol=0)


@pytest.mark.parametrize("name", UNIFIED)
def test_three_towers_share_one_encoder(make, name):
    model = make(name)
    for one in (model, again(model, name)):
        whole = one.unified if architectures.KINDS[name] == "model" else one
        towers = [whole.video, whole.audio, whole.text]
        assert all(tower.encoder is whole.encoder for tower in towers)
        paths = [v.path for v in one.variables]
        assert len({id(v) for v in one.variables}) == len(set(paths)) == len(paths)
        prefix = f"{one.name}/unified" if one is not whole else "unified"
        shared = [v.path for v in whole.encoder.variables]
        assert all(path.startswith(f"{prefix}/encoder/") for path in shared)
        assert sorted(path for path in paths if "/encoder/" in path) == sorted(shared)
        own = r"/(video|audio|text|encoder)/" if one is whole else r"/(unified/\w+|head/bridge_0)/"
        assert all(re.match(f"{one.name}{own}", path) for path in paths)
    inputs = architectures.inputs(name)
    before = architectures.flat(whole(inputs))
    whole.encoder.blocks[0].attention.o.bias.assign_add(np.arange(whole.encoder.d_model))
    after = architectures.flat(whole(inputs))
    for modality in ("video", "audio", "text"):
        key = f"{modality}/features_pooled"
        assert np.abs(after[key] - before[key]).max() > 1e-3


# Inputs ------------------------------------------------------------------------------------------


@every_architecture
def test_a_batch_of_one(make, name):
    """Gives what the row gives in a larger batch; and can be trained on."""
    model = make(name)
    three, one = architectures.inputs(name), architectures.inputs(name)
    one = keras.tree.map_structure(lambda x: x[: len(x) // 3], one)
    expected = architectures.flat(model(three))
    row = {key: value[: len(value) // 3] for key, value in expected.items()}
    assert_equal(row, architectures.flat(model(one)), rtol=1e-4, atol=1e-5)
    outputs, gradients = train(model, one)
    assert_finite(outputs)
    assert_finite(gradients)


def resized(name, video, audio, text):
    """Returns inputs of other sizes than those the position tables are made for."""
    random = np.random.default_rng(1)
    shapes = {"video": (2, *video, 3), "audio": (2, *audio, 1), "text": (2, text)}
    arrays = {m: random.normal(size=shape).astype("float32") for m, shape in shapes.items()}
    arrays["text"] = random.integers(0, architectures.VOCABULARY, shapes["text"]).astype("int32")
    kind = architectures.KINDS[name]
    if kind == "fused":
        return {modality: arrays[modality] for modality in ("video", "audio")}
    return arrays if kind in ("unified", "model") else arrays[kind]


@pytest.mark.parametrize("size", [pytest.param("smaller", marks=pytest.mark.slow), "larger"])
@every_architecture
def test_inputs_of_other_sizes(make, name, size):
    model = make(name)
    spectrogram = re.match("spt|resnet|mmv|mbt", name)
    sizes = {
        "smaller": ((2, 4, 8), (4, 6) if spectrogram else (40,), 1),
        "larger": ((10, 20, 16), (24, 10) if spectrogram else (500,), 20),
    }
    inputs = resized(name, *sizes[size])
    assert_finite(architectures.flat(model(inputs)))
    for arrays in train(model, inputs):
        assert_finite(arrays)


@pytest.mark.parametrize(
    "name", every(n for n in architectures.KINDS if n not in architectures.FINE_TUNED)
)
def test_a_text_without_words(make, name):
    model, inputs = make(name), architectures.inputs(name)
    text = inputs["text"] if isinstance(inputs, dict) else inputs
    text[1] = 0
    assert_finite(architectures.flat(model(inputs)))
    for arrays in train(model, inputs):
        assert_finite(arrays)


TABLES = {
    "vit_large": {
        "max_temporal_buckets": 5,
        "max_vertical_buckets": 3,
        "max_horizontal_buckets": 1,
    },
    "wat_large": {"max_temporal_buckets": 13},
    "spt_large": {"max_temporal_buckets": 5, "max_spectoral_buckets": 2},
    "ut_large": {"max_vid_temporal_buckets": 5, "max_vid_spatial_buckets": 4}
    | {"max_aud_temporal_buckets": 13, "max_txt_temporal_buckets": 9},
}


@pytest.mark.parametrize("name", TABLES)
def test_other_sizes_equal_a_model_with_resampled_tables(name):
    """The tables are resampled to the grid, axis by axis, in training and evaluation alike."""
    small = architectures.build(name, dropout_rate=0.0)
    large = architectures.build(name, dropout_rate=0.0, **TABLES[name])
    architectures.fill(small.variables)
    for one, two in zip(small.variables, large.variables, strict=True):
        value = one.numpy().astype("float64")
        if one.shape != two.shape:
            assert "/positions/" in one.path
            value = spline_matrix(len(value), two.shape[0]) @ value
        two.assign(value)
    spectrogram = name.startswith("spt")
    side = (16, 16) if name.startswith("ut") else (12, 4)
    inputs = resized(name, (10, *side), (20, 4) if spectrogram else (416,), 9)
    grids = [tuple(x.shape) for x in keras.tree.flatten(large(inputs))]
    assert grids == [tuple(x.shape) for x in keras.tree.flatten(small(inputs))]
    assert_equal(*(architectures.flat(m(inputs)) for m in (large, small)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in TABLES if not n.startswith("ut")])
def test_what_is_left_after_the_last_patch_has_no_effect(make, name):
    model, inputs = make(name), architectures.inputs(name)
    more = np.pad(inputs, [(0, 0), *[(0, 1)] * (inputs.ndim - 2), (0, 0)], constant_values=9)
    for arguments in ({}, {"training": True, "rng": Randomness(SEED)}):
        one, two = (architectures.flat(model(x, **arguments)) for x in (inputs, more))
        assert_equal(one, two, rtol=0)
