"""Methods beside VATT: what is read of a record, steps of training on one replica and two."""

from __future__ import annotations

import sys
from pathlib import Path

import architectures
import keras
import numpy as np
import pytest
import tensorflow as tf

from vatt import configs, methods
from vatt.configs.model import ProjectionConfig
from vatt.configs.problems import ConfigError
from vatt.data import pipeline
from vatt.errors import DataError
from vatt.methods.av_mae import config as av_mae
from vatt.methods.eao import config as eao
from vatt.methods.gdt import config as gdt
from vatt.methods.gdt import hypotheses
from vatt.methods.stica import config as stica
from vatt.modeling import flops
from vatt.modeling.random import Randomness
from vatt.training import micro_batches, optimizers, replica

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
import corpus

ROWS = 8
CLIP, SOUND, WORDS = (8, 16, 16, 3), (12, 10, 1), 6
NARROW = {"widths": [4, 4, 4, 8]}
HEAD = ProjectionConfig(d_model=6, d_hidden=10)

# A step ------------------------------------------------------------------------------------------


def sound_model(hypothesis):
    return gdt.SoundModel(
        hypothesis=hypothesis,
        video_backbone="r2plus1d_tiny",
        video_model_kwargs=NARROW,
        audio_backbone="resnet_tiny",
        audio_model_kwargs=NARROW,
        head_config=HEAD,
    )


def caption_model():
    return gdt.CaptionModel(
        hypothesis=4,
        video_backbone="r2plus1d_tiny",
        video_model_kwargs=NARROW,
        text_model_kwargs={"vocab_size": 11, "d_embedding": 5, "d_model": 8},
        head_config=HEAD,
    )


def view_model(**fields):
    return stica.ModelConfig(
        video_backbone="r2plus1d_tiny",
        video_model_kwargs=NARROW,
        audio_backbone="resnet_tiny",
        audio_model_kwargs=NARROW,
        head_config=HEAD,
        num_head=2,
        transformer_time_dim=2,
        **fields,
    )


def masked_model(**fields):
    sizes = {"d_model": 12, "num_heads": 2, "d_kv": 6, "d_ff": 20, "dropout_rate": 0.1}
    return av_mae.ModelConfig(
        **sizes,
        num_layers=3,
        spatial_patch_size=4,
        audio_temporal_patch_size=4,
        audio_spectral_patch_size=5,
        video_mask=0.95,
        decoder_config=av_mae.DecoderConfig(**sizes, num_layers=1),
        **fields,
    )


def fused_model(**fields):
    fusion = eao.FusionConfig(embed_dim=12, num_heads=2, mlp_ratio=2.0, drop_rate=0.1)
    weights = {f"{name}_weight": 0.5 for name in eao.COMPARED}
    given = {
        "video_embed_dim": 7,
        "text_embed_dim": 5,
        "projection_dim": 6,
        "davenet_widths": (4, 4, 6),
        "davenet_blocks": (1, 1),
        "use_xreplica_bn": True,
        "fusion_params": fusion,
        "loss_config": eao.LossConfig(temperature=0.5, **weights),
    }
    return eao.ModelConfig(**given | fields)


CASES = {
    "gdt 1": ("gdt", sound_model(1)),
    "gdt 6": ("gdt", sound_model("v_reversal_v_shift")),
    "gdt text": ("gdt", caption_model()),
    "stica": ("stica", view_model(num_small_crops=2, num_large_tcrops=1, num_small_tcrops=1)),
    "stica alone": ("stica", view_model(cross_modal_alpha=0.0, num_layer=0)),
    "av_mae": ("av_mae", masked_model(use_modality_tokens=True)),
    "eao": ("eao", fused_model()),
    "eao apart": ("eao", fused_model(type=eao.PER_MODALITY)),
    "eao class token": (
        "eao",
        fused_model(
            individual_projections=False,
            fusion_params=eao.FusionConfig(embed_dim=8, num_heads=2, use_cls_token=True),
        ),
    ),
    "eao baseline": ("eao", fused_model(type=eao.BASELINE)),
    "av_mae inpainting": (
        "av_mae",
        masked_model(
            encoder_strategy=av_mae.SHARED,
            decoder_strategy=av_mae.OWN_DECODERS,
            positional_embedding="learned_1d",
            use_inpainting=True,
            shuffle_inpainted_tokens=True,
            audio_mask=0.8,
        ),
    ),
}


PARTS = 2


def batch_of(name, model):
    """Shapes of an example, and a batch."""
    if name == "vatt":
        batch = architectures.inputs("tx_fac", ROWS)
        batch["text"] = batch["text"].reshape(ROWS, architectures.CANDIDATES, -1)
        return {modality: x.shape[1:] for modality, x in batch.items()}, batch
    if name == "eao":
        return tokens_of(model)
    if name == "av_mae":
        shapes = {"video": CLIP, "audio": SOUND}
    elif name == "stica":
        shapes = {"video": (2, *CLIP), "audio": SOUND}
    else:
        sets = len(model.terms().sets)
        shapes = {"video": (sets, *CLIP), "audio": (sets, *SOUND), "text": (sets, WORDS)}
    shapes = {modality: shapes[modality] for modality in model.modalities}
    random = np.random.default_rng(0)
    batch = {m: random.normal(size=(ROWS, *s)).astype("f4") for m, s in shapes.items()}
    if "text" in batch:
        batch["text"] = random.integers(0, 11, size=(ROWS, *shapes["text"])).astype("i4")
    return shapes, batch


def tokens_of(model):
    """Tokens, some clips without one of the modalities."""
    shapes = {"text": (4, model.text_embed_dim), "video": (3, model.video_embed_dim)}
    shapes |= {"audio": (40, 16)}
    random = np.random.default_rng(0)
    batch = {m: random.normal(size=(ROWS, *s)).astype("f4") for m, s in shapes.items()}
    for modality, (count, empty) in {"text": (4, 1), "video": (3, 6), "audio": (16, 3)}.items():
        mask = (random.uniform(size=(ROWS, count)) < 0.8).astype("f4")
        mask[:, 0], mask[empty] = 1.0, 0.0
        batch[f"{modality}_mask"] = mask
    batch["audio_STFT_nframes"] = np.full(ROWS, -1, "i4")
    return {name: x.shape[1:] for name, x in batch.items()}, batch


def train(strategy, name, config, shapes, batch, optimizer, steps, in_parts=None, xla=None):
    """Returns the model, losses, and what the model's variables are after some steps.

    `in_parts` makes other towers from those of the model, and the model; `xla` compiles all.
    """
    method, replicas = methods.named(name), strategy.num_replicas_in_sync
    objective, rows = method.objective(config), ROWS // replicas
    with strategy.scope():
        keras.utils.set_random_seed(1)
        model = method.model(config, shapes, "float32")
        optimizer = optimizers.build(optimizer, "optimizer")
        optimizer.build(model.trainable_variables)

    def towers(inputs, seed, first_row):
        rng = Randomness(seed, first_row)
        return model.towers(inputs, training=True, rng=rng)

    with strategy.scope():
        run_towers = in_parts(towers, model) if in_parts else towers

    def replica_step(inputs, step):
        this = replica.of_this_step()
        seed, first_row = tf.stack([3, step]), this.index * rows
        rng = Randomness(seed, first_row)
        with tf.GradientTape() as tape:
            features = run_towers(inputs, seed, first_row)
            losses = objective(model.train_outputs(features, rng), inputs, this, rng)
            scaled = losses["total_loss"] / replicas
        assert tuple(losses) == objective.names or set(losses) == set(objective.names)
        gradients = tape.gradient(scaled, [v.value for v in model.trainable_variables])
        unused = [
            v.path for v, g in zip(model.trainable_variables, gradients, strict=True) if g is None
        ]
        assert not unused, unused
        gradients = [tf.convert_to_tensor(g) for g in gradients]
        optimizer.apply(gradients, model.trainable_variables)
        return losses["total_loss"]

    @tf.function(autograph=False, jit_compile=xla)
    def step(inputs, number):
        return strategy.reduce("mean", strategy.run(replica_step, (inputs, number)), axis=None)

    def part(context):
        index = context.replica_id_in_sync_group
        return {m: tf.constant(np.split(x, replicas)[index]) for m, x in batch.items()}

    inputs = strategy.experimental_distribute_values_from_function(part)
    losses = [float(step(inputs, tf.constant(number))) for number in range(steps)]
    return model, losses, {v.path: v.numpy() for v in model.variables}


def rate(base):
    return configs.experiment.LearningRate(learning_rate_base=base)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_replicas_equal_one(two_replicas, case):
    name, config = CASES[case]
    case = (name, config, *batch_of(name, config))
    descent = configs.experiment.MomentumOptimizer(learning_rate=rate(3e-5))
    one = train(tf.distribute.OneDeviceStrategy("CPU:0"), *case, descent, steps=2)
    two = train(two_replicas, *case, descent, steps=2)
    np.testing.assert_allclose(two[1][0], one[1][0], rtol=1e-5)
    np.testing.assert_allclose(two[1], one[1], rtol=1e-4)  # temperature and norms enlarge rounding
    for path, value in one[2].items():
        np.testing.assert_allclose(two[2][path], value, atol=1e-5, rtol=1e-4, err_msg=path)


@pytest.mark.slow
@pytest.mark.parametrize("case", ("vatt", "gdt 1", "stica alone", "av_mae", "eao"))
def test_a_whole_step_compiles_under_xla(case):
    """With static shapes, as TPUs need it: towers, losses, gradients and optimizer."""
    name, config = CASES.get(case, ("vatt", architectures.config("tx_fac")))
    case = (name, config, *batch_of(name, config))
    descent = configs.experiment.MomentumOptimizer(learning_rate=rate(1e-4))
    device = tf.distribute.OneDeviceStrategy("CPU:0")
    plain = train(device, *case, descent, steps=1)
    compiled = train(device, *case, descent, steps=1, xla=True)
    np.testing.assert_allclose(compiled[1], plain[1], rtol=1e-5)
    for path, value in plain[2].items():
        np.testing.assert_allclose(compiled[2][path], value, atol=1e-5, rtol=1e-4, err_msg=path)


# A step in parts ---------------------------------------------------------------------------------


def in_parts(towers, model):
    return micro_batches.InParts(towers, PARTS, model)


def sliced(towers, model):
    """What is computed in parts, for autodiff to keep everything of."""

    def run(inputs, seed, first_row):
        rows = next(iter(inputs.values())).shape[0] // PARTS
        parts = [
            towers(
                {m: x[i * rows : (i + 1) * rows] for m, x in inputs.items()},
                seed,
                first_row + i * rows,
            )
            for i in range(PARTS)
        ]
        return tf.nest.map_structure(lambda *x: tf.concat(x, 0), *parts)

    return run


def compare(two, one, rounding=1.0):
    np.testing.assert_allclose(two[1], one[1], rtol=1e-6 * rounding)
    for path, value in one[2].items():
        np.testing.assert_allclose(
            two[2][path], value, atol=1e-6 * rounding, rtol=1e-5 * rounding, err_msg=path
        )


@pytest.mark.slow
def test_rows_in_parts_have_the_losses_and_gradients_of_the_undivided_step():
    config = architectures.config("tx_fac")
    case = ("vatt", config, *batch_of("vatt", config))
    descent = configs.experiment.MomentumOptimizer(learning_rate=rate(1e-2))
    device = tf.distribute.OneDeviceStrategy("CPU:0")
    whole = train(device, *case, descent, steps=1)
    parts = train(device, *case, descent, steps=1, in_parts=in_parts)
    compare(parts, whole)
    still = train(device, *case, configs.experiment.MomentumOptimizer(learning_rate=rate(1e-9)), 1)
    moved = [p for p, v in still[2].items() if np.abs(v - whole[2][p]).max() > 1e-5]
    assert len(moved) > len(whole[0].trainable_variables) / 2  # dropout and DropToken are on


@pytest.mark.slow
def test_rows_in_parts_have_the_gradients_and_statistics_of_slices():
    name, config = CASES["stica alone"]
    case = (name, config, *batch_of(name, config))
    descent = configs.experiment.MomentumOptimizer(learning_rate=rate(1e-3))
    device = tf.distribute.OneDeviceStrategy("CPU:0")
    slices = train(device, *case, descent, steps=2, in_parts=sliced)
    # After one step 2e-7 apart, which normalising a few rows makes ten times as much.
    compare(train(device, *case, descent, steps=2, in_parts=in_parts), slices, rounding=10)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ("vatt", "gdt 1", "av_mae", "eao")
)  # without and with batch norm over replicas
def test_rows_in_parts_on_two_replicas(two_replicas, case):
    name, config = CASES.get(case, ("vatt", architectures.config("tx_fac")))
    case = (name, config, *batch_of(name, config))
    descent = configs.experiment.MomentumOptimizer(learning_rate=rate(1e-3))
    slices = train(two_replicas, *case, descent, steps=2, in_parts=sliced)
    compare(train(two_replicas, *case, descent, steps=2, in_parts=in_parts), slices)


@pytest.mark.slow
@pytest.mark.parametrize("case", ("gdt 6", "stica"))
def test_training_lowers_the_loss_and_evaluation_takes_single_clips(case):
    name, config = CASES[case]
    shapes, batch = batch_of(name, config)
    adam = configs.experiment.AdamOptimizer(learning_rate=rate(3e-3))
    device = tf.distribute.OneDeviceStrategy("CPU:0")
    model, losses, _ = train(device, name, config, shapes, batch, adam, steps=12)
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    clips = {m: batch[m][:, 0] if m == "video" or name == "gdt" else batch[m] for m in batch}
    found = model.embed(model.towers(clips))
    for left, right in ((pair.left, pair.right) for pair in model.pairs):
        assert found[left].shape == found[right].shape == (ROWS, 6)
        np.testing.assert_allclose(np.linalg.norm(found[left], axis=1), 1.0, atol=1e-5)
    alone = model.embed(model.towers({"audio": clips["audio"]}))
    np.testing.assert_allclose(alone["audio"], found["audio"], atol=1e-6)
    single = {m: x.shape[1:] for m, x in clips.items()}
    several = sum(
        model.rows_of(m, shapes[m])[0] * flops.count(model.backbone(m), single[m], True).cost.step
        for m in shapes
    )
    assert flops.pretraining_step(model, shapes) == several
    assert flops.pretraining_step(model, shapes) > flops.pretraining_step(model, single)


# Examples ----------------------------------------------------------------------------------------

READ = {
    "num_frames": 4,
    "fps": 10.0,
    "frame_size": 16,
    "min_resize": 16,
    "sample_rate": corpus.SAMPLE_RATE,
    "raw_audio": True,
    "batch_size": 2,
}
PLAIN = dict.fromkeys(("horizontal_flip", "color_augment", "random_crop", "scale_jitter"), False)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    captions = ["a red circle moves", "zero", "one left"]
    corpus.write_set(folder, "both", [corpus.example(i, captions=captions) for i in range(6)])
    silent = [corpus.example(i, sound=False) for i in range(6)]
    corpus.write_set(folder, "silent", silent, audio=False, text=False)
    corpus.write_vocabulary(folder)
    return folder


def examples(data_dir, model, name="both", **fields):
    words = str(data_dir / "words.txt")
    captioned = isinstance(model, gdt.CaptionModel)
    kind = gdt.CaptionInput if captioned else configs.dataset.Pretrain
    data = kind(name=name, vocabulary=words, **(READ | PLAIN | fields))
    module = gdt if isinstance(model, gdt.ModelConfig) else stica
    run = module.Pretrain(model=model, data_dir=str(data_dir))
    run.train.input = data
    return methods.of(run).examples(run)


def batch(made, data_dir, seed=0):
    return next(pipeline.training_batches(made, data_dir=data_dir, seed=seed).as_numpy_iterator())


def test_sets_are_reversed_and_shifted_with_their_sound(data_dir):
    made = examples(data_dir, sound_model(9))
    assert made.shapes == {"video": (4, 4, 16, 16, 3), "audio": (4, 640, 1)}
    found = batch(made, data_dir)
    assert {m: x.shape[1:] for m, x in found.items()} == made.shapes
    for x in found.values():
        forward, backward, shifted, shifted_backward = np.moveaxis(x, 1, 0)
        np.testing.assert_array_equal(backward, forward[:, ::-1])
        np.testing.assert_array_equal(shifted_backward, shifted[:, ::-1])
    different = [not np.array_equal(v[0], v[2]) for v in found["video"]]
    heard = [not np.array_equal(a[0], a[2]) for a in found["audio"]]
    assert different == heard and any(different)


@pytest.mark.parametrize(("number", "sets"), ((1, 1), (2, 2), (5, 2), (8, 4)))
def test_an_example_has_the_sets_that_its_hypothesis_needs(data_dir, number, sets):
    found = batch(examples(data_dir, sound_model(number)), data_dir)
    assert found["video"].shape[1] == found["audio"].shape[1] == sets
    first = batch(examples(data_dir, sound_model(9)), data_dir)
    index = [hypotheses.SETS.index(name) for name in hypotheses.of(number).sets]
    for m, x in found.items():
        np.testing.assert_array_equal(x, first[m][:, index], err_msg=m)


def test_each_clip_is_augmented_by_itself(data_dir):
    found = batch(examples(data_dir, sound_model(2), horizontal_flip=True), data_dir, seed=3)
    clips = found["video"]
    reversed_alike = [np.allclose(a, b[::-1]) for a, b in clips]
    mirrored = [np.allclose(a, b[::-1, :, ::-1]) for a, b in clips]
    assert all(x or y for x, y in zip(reversed_alike, mirrored, strict=True))
    np.testing.assert_array_equal(found["audio"][:, 1], found["audio"][:, 0, ::-1])


def test_captions_are_reversed_as_the_clips_are(data_dir):
    model = caption_model()
    model.hypothesis = 6
    made = examples(data_dir, model, max_num_words=5)
    assert made.shapes == {"video": (4, 4, 16, 16, 3), "text": (4, 5)}
    found = batch(made, data_dir)["text"]
    np.testing.assert_array_equal(found[:, 1], found[:, 0, ::-1])
    sentences = {(4, 5, 6, 7, 0), (9, 0, 0, 0, 0), (10, 8, 0, 0, 0)}
    assert {tuple(row) for row in found[:, (0, 2)].reshape(-1, 5)} <= sentences


def test_views_are_the_same_frames(data_dir):
    made = examples(data_dir, view_model())
    assert made.shapes == {"video": (2, 4, 16, 16, 3), "audio": (640, 1)}
    found = batch(made, data_dir)
    np.testing.assert_array_equal(found["video"][:, 0], found["video"][:, 1])
    changed = batch(examples(data_dir, view_model(), color_augment=True), data_dir)["video"]
    assert not np.array_equal(changed[:, 0], changed[:, 1])
    assert set(examples(data_dir, view_model(cross_modal_alpha=0.0)).shapes) == {"video"}


# What is told ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "lacking"),
    ((sound_model(1), "audio"), (caption_model(), "text"), (view_model(), "audio")),
)
def test_a_set_without_what_is_compared_is_told(data_dir, model, lacking):
    with pytest.raises(DataError, match=rf"'silent' has no {lacking}"):
        made = examples(data_dir, model, name="silent")
        made.maker(pipeline.load_card("silent", data_dir))


def test_an_unknown_hypothesis_is_told_with_the_nearest():
    with pytest.raises(ConfigError) as error:
        configs.resolve(
            model_arch="gdt_tiny", params_override="model_config.hypothesis=v_reversal_i_shif"
        )
    assert "model_config.hypothesis = 'v_reversal_i_shif'" in str(error.value)
    assert "v_reversal_i_shift" in str(error.value).split("Did you mean")[-1]


@pytest.mark.parametrize(
    "arch", ("gdt_av", "gdt_av_34", "gdt_text", "gdt_tiny", "stica", "stica_tiny")
)
def test_presets_fit_together(arch):
    assert configs.resolve(model_arch=arch).model_arch == arch
