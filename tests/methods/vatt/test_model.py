"""The pre-training model as a whole: outputs, names, serialisation, gradients, replicas."""

from __future__ import annotations

import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from vatt import configs
from vatt.methods.vatt import model as multimodal
from vatt.methods.vatt import published
from vatt.modeling.random import Randomness


@pytest.fixture
def model(model_config, shapes):
    keras.utils.set_random_seed(0)
    return multimodal.build(model_config).build_from(shapes)


def test_outputs(model, inputs):
    outputs = model(inputs)
    assert outputs["video"]["features_pooled"].shape == (4, 16)
    assert outputs["text"]["features"].shape == (8, 6, 16)
    shapes = {(m, t): tuple(v.shape) for m, d in outputs["head"].items() for t, v in d.items()}
    assert shapes == {
        ("video", "toaud"): (4, 128),
        ("video", "totxt"): (4, 64),
        ("audio", "tovid"): (4, 128),
        ("text", "tovid"): (8, 64),
    }


def test_any_subset_of_modalities(model, inputs):
    outputs = model({"text": inputs["text"]})
    assert set(outputs) == {"text", "head"}
    assert set(outputs["head"]) == {"text"}
    full = model(inputs)["head"]["text"]["tovid"]
    np.testing.assert_allclose(outputs["head"]["text"]["tovid"], full, atol=1e-6)


def test_towers_and_head_apart_equal_the_whole(model, inputs):
    features = model.towers(inputs)
    apart = model.head(features, training=False)
    np.testing.assert_array_equal(apart["video"]["totxt"], model(inputs)["head"]["video"]["totxt"])


def test_variables_exist_without_a_forward_pass_and_have_stable_names(model_config, shapes):
    first = multimodal.build(model_config).build_from(shapes)
    second = multimodal.build(model_config).build_from(shapes)
    paths = [v.path for v in first.variables]
    assert paths == [v.path for v in second.variables]
    assert len(set(paths)) == len(paths)
    # Keras' automatic names end in the class name and a counter.
    assert not [p for p in paths if re.search(r"(dense|normalization|embedding|layer_norm)_\d+", p)]
    assert {p.split("/")[0] for p in paths} == {model_config.model_name}


def test_every_trainable_variable_gets_a_gradient(model, inputs):
    with tf.GradientTape() as tape:
        outputs = model(inputs, training=True, rng=Randomness([0, 1]))
        total = sum(tf.reduce_sum(v**2) for d in outputs["head"].values() for v in d.values())
    variables = [v.value for v in model.trainable_variables]
    for variable, gradient in zip(variables, tape.gradient(total, variables), strict=True):
        assert gradient is not None, variable.name


def test_batch_norm_statistics_move_only_in_training(model, inputs):
    before = [v.numpy() for v in model.non_trainable_variables]
    model(inputs, training=False)
    for value, variable in zip(before, model.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(value, variable.numpy())
    model(inputs, training=True, rng=Randomness([0, 1]))
    moved = [
        np.any(b != v.numpy()) for b, v in zip(before, model.non_trainable_variables, strict=True)
    ]
    assert all(moved)


def test_towers_do_not_depend_on_the_replica_split(model, inputs):
    whole = model.towers(inputs, training=True, rng=Randomness([5, 6]))
    for replica in range(2):
        local = {
            k: v[replica * len(v) // 2 : (replica + 1) * len(v) // 2] for k, v in inputs.items()
        }
        part = model.towers(local, training=True, rng=Randomness([5, 6], first_row=2 * replica))
        for modality, values in part.items():
            pooled = whole[modality]["features_pooled"]
            rows = slice(replica * len(pooled) // 2, (replica + 1) * len(pooled) // 2)
            np.testing.assert_allclose(values["features_pooled"], pooled[rows], atol=1e-5)


def test_config_round_trip_gives_an_equal_model(model, inputs, shapes):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    if not again.built:
        again.build_from(shapes)
    assert [v.path for v in again.variables] == [v.path for v in model.variables]
    for one, two in zip(model.variables, again.variables, strict=True):
        two.assign(one)
    expected = model(inputs)["head"]["video"]["totxt"]
    np.testing.assert_array_equal(again(inputs)["head"]["video"]["totxt"], expected)


def test_mixed_precision_heads_stay_float32(model_config, inputs, shapes):
    model = multimodal.build(model_config, dtype="mixed_bfloat16").build_from(shapes)
    outputs = model(inputs, training=True, rng=Randomness([0, 0]))
    assert outputs["video"]["features_pooled"].dtype == tf.bfloat16
    for embeddings in outputs["head"].values():
        for value in embeddings.values():
            assert value.dtype == tf.float32
            assert np.isfinite(value).all()


@pytest.mark.slow
def test_compiled_towers_equal_eager_ones(model, inputs):
    def run(seed):
        features = model.towers(inputs, training=True, rng=Randomness(seed))
        return {modality: value["features_pooled"] for modality, value in features.items()}

    seed = tf.constant([3, 4])
    eager = run(seed)
    for modality, value in tf.function(run, jit_compile=True)(seed).items():
        np.testing.assert_allclose(value, eager[modality], atol=1e-4)


def test_published_names_are_complete_and_one_to_one(model):
    keys = published.multimodal_keys(model)
    assert set(keys) == {v.path for v in model.variables}
    assert len(set(keys.values())) == len(keys)


@pytest.mark.slow
def test_published_names_equal_a_published_checkpoint(shared_dir):
    expected = json.loads((shared_dir / "conformance/manifests/tx_fac_bbs.json").read_text())
    config = configs.registry.model("tx_fac", backbone_config={"video_backbone": "vit_base"})
    shapes = {"video": (1, 32, 224, 224, 3), "audio": (1, 153600, 1), "text": (1, 16)}
    model = multimodal.build(config).build_from(shapes)
    keys = published.multimodal_keys(model)
    ours = {keys[v.path]: list(v.shape) for v in model.variables}
    assert ours == {key: list(shape) for key, shape in expected["variables"].items()}


def test_rows_of_text_must_fit_the_clips(model, inputs):
    with pytest.raises(ValueError, match="text has 7 rows for 4 clips"):
        model({**inputs, "text": inputs["text"][:7]}, training=True, rng=Randomness([0, 0]))
