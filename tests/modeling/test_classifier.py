"""The fine-tuning model: golden outputs, initial values, dropout, windows, serialisation."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from vatt import configs
from vatt.errors import UserError
from vatt.methods.vatt import published
from vatt.modeling.classifier import ClassificationModel, initial_bias
from vatt.modeling.factory import build_backbone, build_classifier
from vatt.modeling.layers.dropout import dropout
from vatt.modeling.random import Randomness

CLASSES = 5


@pytest.fixture
def make(video_config, audio_config, shapes):
    def build(modality="video", dtype="float32", frozen=False, **options):
        keras.utils.set_random_seed(0)
        config = {"video": video_config, "audio": audio_config}[modality](freeze_backbone=frozen)
        backbone = build_backbone(config, dtype=dtype, name="backbone")
        options = {"multi_label": modality == "audio", **options}
        model = ClassificationModel(
            backbone, CLASSES, (modality,), name="finetune", dtype=dtype, **options
        )
        model.build((None, *shapes[modality][1:]))
        return model

    return build


def test_outputs(make, inputs):
    for modality in ("video", "audio"):
        model = make(modality)
        outputs = model(inputs[modality])
        expected = model.backbone(inputs[modality])
        for name in ("features_pooled", "features"):
            np.testing.assert_array_equal(outputs[name], expected[name])
        kernel, bias = (v.numpy().astype("f8") for v in model.classification.variables)
        logits = np.asarray(expected["features_pooled"], "f8") @ kernel + bias
        np.testing.assert_allclose(outputs["logits"], logits, atol=1e-5)
        exponentials = np.exp(logits)
        if modality == "video":
            probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
        else:
            probabilities = exponentials / (1.0 + exponentials)
        np.testing.assert_allclose(outputs["probabilities"], probabilities, atol=1e-6)


def test_initial_values(video_config, audio_config, shapes):
    """Many classes, so that the spread of the kernel tells the two distributions apart."""
    classes = 400
    for modality, config in (("video", video_config), ("audio", audio_config)):
        keras.utils.set_random_seed(3)
        multi_label = modality == "audio"
        model = ClassificationModel(
            build_backbone(config()), classes, (modality,), multi_label=multi_label, name="finetune"
        )
        model.build((None, *shapes[modality][1:]))
        kernel, bias = (v.numpy() for v in model.classification.variables)
        variance = 2.0 / (16 + classes)
        assert np.var(kernel) == pytest.approx(variance, rel=0.06)
        limit = np.sqrt(3 * variance)  # of the uniform distribution with that variance
        inside = np.abs(kernel).max() <= limit
        assert inside == (modality == "audio")
        np.testing.assert_allclose(bias, -np.log(399) if modality == "audio" else 0.0, rtol=1e-6)
    assert initial_bias(9, multi_label=True) == pytest.approx(-2.0794415)


def test_variables_exist_without_a_forward_pass_and_have_published_names(make):
    model = make()
    keys = published.classifier_keys(model)
    assert set(keys) == {v.path for v in model.variables}
    assert len(set(keys.values())) == len(keys)
    assert keys["finetune/classification/kernel"] == "model/layer_with_weights-0/_ops/cls/kernel"
    assert {path.split("/")[1] for path in keys} == {"backbone", "classification"}


def test_windows_are_averaged_before_the_probabilities(make, inputs):
    model = make()
    rows = model(inputs["video"])
    weights = [v.numpy() for v in model.variables]
    model = make(num_test_samples=2)
    for variable, value in zip(model.variables, weights, strict=True):
        variable.assign(value)
    outputs = model(inputs["video"])
    logits = np.asarray(rows["logits"], "f8").reshape(2, 2, CLASSES).mean(axis=1)
    np.testing.assert_allclose(outputs["logits"], logits, atol=1e-6)
    np.testing.assert_allclose(
        outputs["probabilities"], tf.nn.softmax(outputs["logits"]), atol=1e-6
    )
    assert outputs["features_pooled"].shape[0] == 4
    in_training = model(inputs["video"], training=True, rng=Randomness([0, 1]))
    assert in_training["logits"].shape == (4, CLASSES)


def test_rows_that_are_no_whole_samples_are_refused(make, inputs):
    model = make(num_test_samples=3)
    with pytest.raises(ValueError, match=r"4 rows.*num_test_samples = 3"):
        model(inputs["video"])


NORM = {"momentum": 0.9, "epsilon": 1e-5, "scale": True, "synchronized": True}


def test_length_dropout_and_batch_norm_come_before_the_dense_layer_in_that_order(make, inputs):
    model = make("audio", l2_norm=True, norm=NORM, dropout_rate=0.5, multi_label=False)
    rng = np.random.default_rng(3)
    for variable in model.classification_norm.variables:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    norm = model.classification_norm.weights
    gamma, beta, mean, variance = (v.numpy().astype("f8") for v in norm)
    kernel, bias = (v.numpy().astype("f8") for v in model.classification.variables)
    pooled = np.asarray(model.backbone(inputs["audio"])["features_pooled"], "f8")
    unit = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    scaled = gamma * (unit - mean) / np.sqrt(variance + 1e-5) + beta
    outputs = model(inputs["audio"])
    np.testing.assert_allclose(outputs["logits"], scaled @ kernel + bias, atol=1e-5)
    rng = Randomness([0, 1])
    dropped = dropout(unit.astype("f4"), 0.5, training=True, rng=rng, name="classification")
    dropped = np.asarray(dropped, "f8")
    own = (dropped - dropped.mean(axis=0)) / np.sqrt(dropped.var(axis=0) + 1e-5)
    logits = model.classify(pooled, True, rng)
    np.testing.assert_allclose(logits, (gamma * own + beta) @ kernel + bias, atol=1e-4)


def test_zero_features_have_finite_gradients_at_length_one(make):
    model = make("audio", l2_norm=True)
    pooled = tf.Variable(tf.zeros([2, model.backbone.features_dim]))
    with tf.GradientTape() as tape:
        logits = tf.reduce_sum(model.classify(pooled, False, None))
    assert np.isfinite(tape.gradient(logits, pooled)).all()


def test_orthogonal_kernel(make):
    model = make(initializer="orthogonal")
    kernel = model.classification.kernel.numpy()
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(CLASSES), atol=1e-5)
    assert not model.classification.bias.numpy().any()


def test_options_of_the_classifier_come_from_the_configuration():
    options = {"cls_l2_norm": True, "cls_batch_norm": True, "cls_initializer": "orthogonal"}
    for name in ("vit_tiny", "i3d"):
        config = configs.registry.backbone(name, **options, num_classes=CLASSES)
        if name == "i3d":
            config.use_xreplica_bn = False
        model = build_classifier(config)
        assert model.l2_norm and model.initializer == "orthogonal"
        assert model.norm["synchronized"] == (name != "i3d")
        layers = [layer.name for layer in model.classifier_layers()]
        assert layers == ["classification_norm", "classification"]
    plain = build_classifier(configs.registry.backbone("vit_tiny", num_classes=CLASSES))
    assert plain.norm is None and plain.initializer is None and not plain.l2_norm


def test_unknown_batch_sizes(make, inputs):
    model = make(num_test_samples=2)
    signature = [tf.TensorSpec((None, *inputs["video"].shape[1:]), tf.float32)]
    compiled = tf.function(lambda x: model(x)["logits"], signature, autograph=False)
    expected = model(inputs["video"])["logits"]
    np.testing.assert_allclose(compiled(inputs["video"]), expected, atol=1e-5)


def test_dropout_only_in_training_and_stateless(make, inputs):
    model = make("audio", dropout_rate=0.5)

    def logits(seed, first_row=0, rows=slice(None)):
        rng = Randomness(seed, first_row=first_row)
        return model(inputs["audio"][rows], training=True, rng=rng)["logits"].numpy()

    one = logits([1, 2])
    np.testing.assert_array_equal(one, logits([1, 2]))
    assert np.abs(one - logits([1, 3])).max() > 1e-3
    np.testing.assert_allclose(one[2:], logits([1, 2], 2, slice(2, 4)), atol=1e-5)
    with pytest.raises(ValueError, match="rng="):
        model(inputs["audio"], training=True)


def test_dropout_zeroes_the_stated_share_of_the_pooled_feature(make, inputs):
    """With the identity as kernel the logits are the pooled feature after dropout."""
    model = make("audio", dropout_rate=0.25)
    model.classification.kernel.assign(np.eye(16, CLASSES))
    model.classification.bias.assign(np.zeros(CLASSES))
    dropped = []
    for step in range(20):
        outputs = model(inputs["audio"], training=True, rng=Randomness([0, step]))
        pooled, logits = outputs["features_pooled"].numpy()[:, :CLASSES], outputs["logits"].numpy()
        kept = logits != 0
        np.testing.assert_allclose(logits[kept], pooled[kept] / 0.75, rtol=1e-5)
        dropped.append(~kept)
    assert np.mean(dropped) == pytest.approx(0.25, abs=0.06)


def test_frozen_backbone_leaves_the_classifier(make, inputs):
    model = make(frozen=True)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(model(inputs["video"], training=True)["logits"] ** 2)
    variables = [v.value for v in model.trainable_variables]
    assert [v.path for v in model.trainable_variables] == [
        "finetune/classification/kernel",
        "finetune/classification/bias",
    ]
    assert all(np.any(g) for g in tape.gradient(total, variables))


def test_every_variable_gets_a_gradient(make, inputs):
    model = make(dropout_rate=0.5)
    with tf.GradientTape() as tape:
        outputs = model(inputs["video"], training=True, rng=Randomness([0, 1]))
        total = tf.reduce_sum(outputs["logits"] ** 2)
    gradients = tape.gradient(total, [v.value for v in model.trainable_variables])
    assert None not in gradients and len(gradients) == len(model.variables)


def test_config_round_trip_gives_an_equal_model(make, inputs):
    options = {"l2_norm": True, "norm": NORM, "initializer": "orthogonal"}
    model = make("audio", dropout_rate=0.25, num_test_samples=2, dtype="mixed_bfloat16", **options)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    if not again.built:
        again.build((None, *inputs["audio"].shape[1:]))
    assert again.get_config() == model.get_config()
    assert [v.path for v in again.variables] == [v.path for v in model.variables]
    for one, two in zip(model.variables, again.variables, strict=True):
        two.assign(one)
    expected = model(inputs["audio"])["probabilities"]
    np.testing.assert_array_equal(again(inputs["audio"])["probabilities"], expected)


def test_mixed_precision_classifier_stays_float32(make, inputs):
    model = make(dtype="mixed_bfloat16", dropout_rate=0.5)
    outputs = model(inputs["video"], training=True, rng=Randomness([0, 0]))
    assert outputs["features_pooled"].dtype == tf.bfloat16
    for name in ("logits", "probabilities"):
        assert outputs[name].dtype == tf.float32
    exact = make(dropout_rate=0.5)(inputs["video"])["logits"]
    np.testing.assert_allclose(model(inputs["video"])["logits"], exact, atol=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modalities": "video"}, "modalities: 'video' is not a sequence"),
        ({"modalities": ()}, r"modalities: \(\) is not a sequence of at least one name"),
        ({"num_classes": 1}, "num_classes: 1"),
        ({"dropout_rate": 1.0}, "dropout_rate: 1.0"),
        ({"num_test_samples": 0}, "num_test_samples: 0"),
    ],
)
def test_arguments_out_of_range(video_config, change, message):
    arguments = {"num_classes": 3, "modalities": ("video",), **change}
    with pytest.raises(UserError, match=message):
        ClassificationModel(build_backbone(video_config()), name="x", **arguments)


@pytest.mark.parametrize("case", ["ft_vit", "ft_wat"])
@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("clips", [1, 2, 4])
def test_golden_outputs(shared_dir, case, step, clips):
    folder = shared_dir / "conformance" / "checkpoints"
    with np.load(folder / f"{case}.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    config = json.loads(str(arrays["config"]))
    kind = config["case"]["kind"]
    fields = {name: value for name, value in config["model"].items() if name != "backbone_config"}
    backbone = build_backbone(configs.registry.backbone(fields.pop("name"), **fields))
    model = ClassificationModel(
        backbone,
        config["case"]["num_classes"],
        (kind,),
        multi_label=kind == "audio",
        num_test_samples=clips,
        name="finetune",
    )
    model.build((None, *config["case"]["shape"]))
    reader = tf.train.load_checkpoint(str(folder / case / f"ckpt-{step}"))
    for variable in model.variables:
        key = published.classifier_keys(model)[variable.path]
        variable.assign(reader.get_tensor(f"{key}/.ATTRIBUTES/VARIABLE_VALUE"))
    inputs = arrays["in:images" if kind == "video" else "in:audio"].astype("float32")
    outputs = model(inputs)
    prefix = f"ckpt{step}/out" + (f"_clips{clips}" if clips > 1 else "")
    for name in ("logits", "probabilities"):
        np.testing.assert_allclose(outputs[name], arrays[f"{prefix}:{name}"], rtol=0, atol=2e-5)
