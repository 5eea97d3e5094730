"""Text models: T5, BERT and linear against golden numbers, their options, precision, names."""

from __future__ import annotations

import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.golden.checks import assign
from vatt import configs
from vatt.errors import UserError
from vatt.modeling.backbones import text
from vatt.modeling.random import Randomness

MAKE = {"t5": text.t5, "bert": text.bert, "linear": text.linear}
GOLDEN = ("bert", "bert_small_defaults", "linear", "linear_proj", "t5", "t5_long")
SMALL = {"num_layers": 2, "d_model": 16, "num_heads": 2, "d_kv": 8, "d_ff": 24}
WORDS = {"vocab_size": 30, "d_embedding": 12, "dropout_rate": 0.0}
IDS = np.array([[7, 3, 9, 2, 0, 0], [4, 5, 6, 8, 1, 2]], "int32")


def make(arch, dtype="float32", **changes):
    if arch == "linear":
        defaults = {"vocab_size": 30, "d_embedding": 12, "d_model": 16}
    else:
        defaults = {**SMALL, **WORDS, "d_pre_proj": 16}
    config = configs.registry.backbone(arch, **{**defaults, **changes})
    layer = MAKE[arch.split("_")[0]](config, dtype=dtype)
    layer.build((None, 6))
    return layer


def filled(layer, seed=0):
    """Gives every variable values, so that no scale is 1 and no offset 0."""
    rng = np.random.default_rng(seed)
    for variable in layer.variables:
        variable.assign(rng.normal(0.3, 0.4, variable.shape))
    return layer


def published_keys(layer):
    """Returns {variable path: published key}, from the layout of published checkpoints."""
    t5 = isinstance(layer.base, text.T5Encoder)
    rules = {
        r"^aggregation/embedding": "agg_embedding",
        r"_projection/": "_proj/",
        r"^base/": "base_lm/",
        r"/relative_bias": (
            "/layers/0/self_attention/attention/relative_attention_bias/embeddings"
        ),
        r"/aggregation/embedding": "/agg_embedding",
        r"/masking/embedding": "/mask_embedding",
        r"/positions/temporal": "/pos_embedding_lookup/temporal_position_embeddings/embeddings",
        r"/positions/layer_norm": "/pos_embedding_lookup/layernorm",
        r"/encoder/": "/" if t5 else "/tx/",
        r"/layer_(\d+)/": r"/layers/\1/",
        r"/attention_norm/": "/self_attention/layer_norm/" if t5 else "/layer_norm/",
        r"/attention/([qkvo])/": r"/self_attention/attention/\1/" if t5 else r"/mha/\1/",
        r"/feed_forward_norm/": "/feed_forward/layer_norm/",
        r"/feed_forward/w": "/feed_forward/mlp/w",
        r"/final_norm/": "/final_layer_norm/",
    }
    keys = {}
    for variable in layer.variables:
        key = variable.path.removeprefix(f"{layer.path}/")
        for pattern, replacement in rules.items():
            key = re.sub(pattern, replacement, key)
        keys[variable.path] = f"model/layer_with_weights-0/{key}"
    return keys


# Golden numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", GOLDEN)
def test_golden(shared_dir, case):
    with np.load(shared_dir / f"conformance/backbones/{case}.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    stored = json.loads(str(arrays["config"]))
    fields = {key: value for key, value in stored["model"].items() if key != "name"}
    layer = MAKE[case.split("_")[0]](configs.registry.backbone(stored["arch"], **fields))
    layer.build((None, *stored["input_shape"]))
    assign(layer.variables, published_keys(layer), arrays, "w:")
    ids = arrays["in:text"]
    outputs = layer(ids, intermediates=True)
    ours = {f"attention_weights/{i}": w for i, w in enumerate(outputs["attention_weights"])}
    ours |= {"word_embeddings": outputs["features"], "lm_inputs": outputs["lm_inputs"]}
    ours |= {"sentence_embeddings": outputs["features_pooled"]}
    ours |= {"hidden_states_last": outputs["hidden_states_last"]}
    unmasked = layer(ids, word_mask=np.ones(ids.shape))["features_pooled"]
    ours["no_padding_mask/sentence_embeddings"] = unmasked
    compared = [name for name in arrays if name.startswith("out")]
    assert len(compared) >= 5
    for name in compared:
        kind, output = name.split(":")
        exact = kind == "out_exact64" or "interpolated_buckets" not in arrays
        np.testing.assert_allclose(
            ours[output], arrays[name], rtol=0, atol=2e-5 if exact else 1e-2, err_msg=name
        )


# What the sentence is ----------------------------------------------------------------------------


def test_linear_takes_the_largest_value_over_all_words_with_padding():
    layer = filled(make("linear", trainable_embeddings=True), seed=1)
    table, kernel, bias = (np.asarray(v, np.float64) for v in layer.get_weights())
    words = np.maximum(table[IDS] @ kernel[0] + bias, 0.0)  # [batch, words, d_model]
    outputs = layer(IDS, intermediates=True)
    np.testing.assert_allclose(outputs["features"], words, atol=1e-5)
    np.testing.assert_allclose(outputs["features_pooled"], words.max(axis=1), atol=1e-5)
    assert np.any(words.max(axis=1)[0] != words[0, :4].max(axis=0))  # padding does decide some
    assert outputs["attention_weights"] == []


def test_an_aggregation_token_is_the_sentence_of_any_base():
    layer = filled(make("linear", use_agg_token=True))
    token = np.asarray(layer.aggregation.embedding, np.float64)
    kernel, bias = (np.asarray(v, np.float64) for v in layer.base.get_weights())
    outputs = layer(IDS)
    expected = np.maximum(token @ kernel[0] + bias, 0.0)
    np.testing.assert_allclose(outputs["features_pooled"], [expected, expected], atol=1e-5)
    assert outputs["features"].shape == (2, 6, 16)


@pytest.mark.parametrize("is_transformer", [True, False])
def test_t5_without_an_aggregation_token(is_transformer):
    layer = filled(make("t5_small", use_agg_token=False, is_transformer=is_transformer))
    outputs = layer(IDS, intermediates=True)
    hidden = np.asarray(outputs["hidden_states_last"])
    assert hidden.shape == (2, 6, 16)
    pooled = hidden[:, 0] if is_transformer else hidden.max(axis=1)
    words = hidden[:, 1:] if is_transformer else hidden  # the first word is lost
    np.testing.assert_array_equal(outputs["features_pooled"], pooled)
    np.testing.assert_array_equal(outputs["features"], words)


@pytest.mark.parametrize(("arch", "tokens"), [("bert_base", 7), ("bert_small", 8)])
def test_bert_has_an_aggregation_token_of_its_own(arch, tokens):
    layer = filled(make(arch))
    outputs = layer(IDS, intermediates=True)
    assert outputs["hidden_states_last"].shape == (2, tokens, 16)
    assert outputs["features"].shape == (2, tokens - 1, 16)
    assert [w.shape for w in outputs["attention_weights"]] == [(2, 2, tokens, tokens)] * 2
    before = np.asarray(outputs["features_pooled"])
    layer.base.aggregation.embedding.assign_add(np.linspace(-1, 1, 16))
    assert np.abs(np.asarray(layer(IDS)["features_pooled"]) - before).max() > 1e-3


# Options -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "sees"), [("t5_small", False), ("bert_base", False), ("linear", True)]
)
def test_transformers_do_not_look_at_padding(arch, sees):
    layer = filled(make(arch))
    before = np.asarray(layer(IDS)["features_pooled"])
    table = layer.embedding.embeddings.numpy()
    table[0] += 3.0
    layer.embedding.embeddings.assign(table)
    after = np.asarray(layer(IDS)["features_pooled"])
    assert (np.abs(after - before)[0].max() > 1e-3) == sees
    np.testing.assert_allclose(after[1], before[1], atol=1e-6)  # this one has no padding
    unmasked = np.asarray(layer(IDS, word_mask=np.ones(IDS.shape))["features_pooled"])
    assert (np.abs(unmasked - after)[0].max() > 1e-3) != sees


@pytest.mark.parametrize("arch", ["t5_small", "bert_base"])
@pytest.mark.parametrize("activation", ["gelu", "geglu"])
def test_projections_use_plain_gelu(arch, activation):
    layer = filled(make(arch, activation=activation, d_post_proj=10))
    assert layer.features_dim == 10
    outputs = layer(IDS, intermediates=True)

    def gelu(x):
        return x * 0.5 * (1.0 + tf.math.erf(x / np.sqrt(2.0)).numpy())

    words = layer.embedding.embeddings.numpy()[IDS].astype(np.float64)
    projected = gelu(words @ layer.pre_projection.kernel.numpy().astype(np.float64))
    skip = int(arch == "t5_small")  # the aggregation token goes through the projection too
    np.testing.assert_allclose(outputs["lm_inputs"][:, skip:], projected, atol=1e-5)
    hidden = np.asarray(outputs["hidden_states_last"], np.float64)
    final = gelu(hidden @ layer.post_projection.kernel.numpy().astype(np.float64))
    np.testing.assert_allclose(outputs["features_pooled"], final[:, 0], atol=1e-4)
    np.testing.assert_allclose(outputs["features"], final[:, 1:], atol=1e-4)
    gates = sum("wi_1" in v.path for v in layer.variables)
    assert gates == (2 if activation == "geglu" else 0) * (2 if arch == "bert_base" else 1)


def test_bert_positions_tell_orders_apart():
    layer = make("bert_base")
    one, other = (np.asarray(layer(np.array([ids]))["features_pooled"]) for ids in ([5, 9], [9, 5]))
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("arch", ["bert_base", "bert_small"])
def test_bert_draws_dropout_by_global_row(arch):
    layer = filled(make(arch, dropout_rate=0.2))
    whole = np.asarray(layer(IDS, training=True, rng=Randomness([1, 2]))["features_pooled"])
    second = layer(IDS[1:], training=True, rng=Randomness([1, 2], first_row=1))["features_pooled"]
    np.testing.assert_allclose(second[0], whole[1], atol=1e-5)
    assert np.abs(whole - np.asarray(layer(IDS)["features_pooled"])).max() > 1e-2
    with pytest.raises(ValueError, match=r"dropout \(positions, rate 0.1\) is active"):
        make(arch, dropout_rate=0.0)(IDS, training=True)  # positions keep their own rate


def test_bert_masking_hides_words_in_training_only():
    class Masked(configs.text.BertBase):
        use_masking: bool = True
        mask_rate: float = 1.0

    fields = {**SMALL, "vocab_size": 30, "d_embedding": 16, "d_pre_proj": None}
    layer = text.bert(Masked(**fields))
    layer.build((None, 6))
    plain = make("bert_base", d_embedding=16, d_pre_proj=None)
    filled(layer)
    masking = layer.base.masking.embedding.path
    rest = [v for v in layer.variables if v.path != masking]
    for mine, value in zip(plain.variables, rest, strict=True):
        mine.assign(value)
    np.testing.assert_allclose(layer(IDS)["features"], plain(IDS)["features"], atol=1e-6)
    ids = np.tile(IDS, (100, 1))
    tokens = layer.embedding(ids)
    hidden, selected = layer.base.masking(tokens, rng=Randomness([3, 4]).child("base"))
    assert np.all(np.asarray(selected) == 1.0)
    replaced = np.all(np.asarray(hidden) == np.asarray(layer.base.masking.embedding), axis=-1)
    assert 0.75 < replaced.mean() < 0.85

    with tf.GradientTape() as tape:
        pooled = layer(ids, training=True, rng=Randomness([3, 4]))["features_pooled"]
        total = tf.reduce_sum(pooled)
    gradient = tape.gradient(total, layer.base.masking.embedding.value)
    assert np.abs(np.asarray(gradient)).max() > 0
    keys = published_keys(layer)
    assert keys[masking] == "model/layer_with_weights-0/base_lm/mask_embedding"


@pytest.mark.parametrize("make_model", [text.t5, text.bert])
@pytest.mark.parametrize("d_pre_proj", [None, 24])
def test_tokens_that_do_not_fit_the_encoder_are_refused(make_model, d_pre_proj):
    config = configs.registry.backbone("bert_small", d_model=16, d_embedding=12)
    config.d_pre_proj = d_pre_proj
    found = "d_embedding is 12" if d_pre_proj is None else "d_pre_proj is 24"
    with pytest.raises(UserError, match=f"{found}, expected d_model, which is 16: set d_pre_proj"):
        make_model(config)


# As layers ---------------------------------------------------------------------------------------

ARCHS = ("t5_small", "bert_base", "bert_small", "linear")


@pytest.mark.parametrize("arch", ARCHS)
def test_bfloat16_is_close_and_trains(arch):
    exact, half = make(arch), make(arch, dtype="mixed_bfloat16")
    for one, two in zip(exact.variables, half.variables, strict=True):
        assert two.dtype == "float32"
        two.assign(one)
    with tf.GradientTape() as tape:
        pooled = half(IDS, training=True, rng=Randomness([1, 1]))["features_pooled"]
        total = tf.reduce_sum(tf.cast(pooled, "float32") ** 2)
    assert pooled.dtype == tf.bfloat16
    for gradient in tape.gradient(total, [v.value for v in half.trainable_variables]):
        assert np.all(np.isfinite(tf.convert_to_tensor(gradient)))
    reference = np.asarray(exact(IDS)["features_pooled"])
    difference = reference - np.asarray(tf.cast(half(IDS)["features_pooled"], "float32"))
    # At most 2.7 % over twenty seeds on one processor, twice that on another.
    assert np.abs(difference).max() < 0.1 * np.abs(reference).max()


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("trainable", [True, False])
def test_a_rebuilt_layer_is_equal(arch, trainable):
    layer = filled(make(arch, trainable_embeddings=trainable))
    names = [v.path for v in layer.trainable_variables]
    assert any("embedding/embeddings" in name for name in names) == trainable
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    copy.build((None, 6))
    assert [v.path for v in copy.variables] == [v.path for v in layer.variables]
    assert [v.path for v in copy.trainable_variables] == names
    copy.set_weights(layer.get_weights())
    for name, value in layer(IDS).items():
        np.testing.assert_array_equal(copy(IDS)[name], value)
