"""Weights from every kind of checkpoint into every model that can use them, or nothing at all.

Checkpoints in the published layout are written here; those of this project by its own models.
"""

from __future__ import annotations

import contextlib
import json
import os
import re

import numpy as np
import published_files
import pytest
from published_files import ROOT
from scipy.interpolate import CubicSpline

from vatt import configs
from vatt.errors import CheckpointError
from vatt.modeling import factory
from vatt.modeling.pretraining import PretrainingModel
from vatt.training import checkpoints, layouts, transfer

BASE = f"{ROOT}/_base_layer"
UNIFIED = f"{BASE}/unified_backbone/unified_transformer"
# What makes a fine-tuning model the same as a tower of the small unified model.
PROJECTIONS = {"pre_projection": True, "post_projection": True, "d_post_proj": published_files.POST}
UNIFIED_GRID = {"video": {"max_vertical_buckets": 3}, "audio": {}}
INPUTS = {
    "video": np.random.default_rng(0).uniform(size=(2, *published_files.CLIP)).astype("f4"),
    "audio": np.random.default_rng(1).normal(size=(2, *published_files.WAVEFORM)).astype("f4"),
}


def published_checkpoint(folder, shapes, step=7, **changes):
    tensors = published_files.values(shapes)
    slots = changes.pop("slots", ("m", "v"))
    return published_files.write(folder / f"ckpt-{step}", tensors, step, slots, **changes), tensors


def fill(model, seed=5):
    """Gives a model random weights, positive where they are variances."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        variable.assign(np.abs(random.normal(size=variable.shape)) + 0.1)
    return model


def own_checkpoint(folder, model, step=7, author="own"):
    """A checkpoint of this project; an `earlier` one says nothing of the model in its manifest."""
    kind = layouts.PRETRAIN if isinstance(model, PretrainingModel) else layouts.FINETUNE
    facts = layouts.metadata(model, kind, "some_arch") if author == "own" else {}
    return checkpoints.CheckpointStore(folder).save(step, checkpoints.variable_map(model), **facts)


def weights(model):
    return {v.path: v.numpy().copy() for v in model.variables}


@contextlib.contextmanager
def refused(message, model):
    """Expects a refusal that leaves the model as it was."""
    before = weights(model)
    with pytest.raises(CheckpointError, match=f"(?s){message}") as caught:
        yield caught
    for path, value in weights(model).items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)


def actions(report):
    return {row.variable.partition("/")[2]: row.action for row in report.rows}


# Whole models ------------------------------------------------------------------------------------

# A few variables of each kind, so that the order of the tensors counts too.
PAIRS = {
    "pretrain": {
        "video/patches/kernel": f"{BASE}/vid_backbone/_base/voxel_to_patch/kernel",
        "video/positions/horizontal": f"{BASE}/vid_backbone/_base/pos_embedding_lookup"
        "/horizontal_position_embeddings/embeddings",
        "video/encoder/layer_1/attention/k/bias": f"{BASE}/vid_backbone/_base/tx/layers/1/mha/k"
        "/bias",
        "audio/encoder/final_norm/gamma": f"{BASE}/aud_backbone/_base/tx/final_layer_norm/gamma",
        "text/base/encoder/layer_0/attention/q/kernel": f"{BASE}/txt_backbone/base_lm/layers/0"
        "/self_attention/attention/q/kernel",
        "head/bridge_0/hid_to_va/pre_bn/moving_variance": f"{ROOT}/_head_layer/_bridge_heads/0"
        "/hid_to_va/pre_bn/moving_variance",
    },
    "unified": {
        "unified/encoder/layer_0/feed_forward/wo/bias": f"{UNIFIED}/tx/layers/0/feed_forward/mlp"
        "/wo/bias",
        "unified/text/aggregation/embedding": f"{UNIFIED}/txt_agg_embedding",
        "unified/audio/post_projection/kernel": f"{UNIFIED}/post_proj/audio/kernel",
        "unified/video/positions/vertical": f"{UNIFIED}/pos_embedding_lookup/video"
        "/vertical_position_embeddings/embeddings",
    },
    "video": {
        "video/encoder/layer_0/feed_forward_norm/beta": f"{ROOT}/_base/tx/layers/0/feed_forward"
        "/layer_norm/beta",
        "classification/kernel": f"{ROOT}/_ops/cls/kernel",
    },
    "audio": {
        "audio/patches/kernel": f"{ROOT}/_base/wave_to_patch/kernel",
        "audio/positions/layer_norm/gamma": f"{ROOT}/_base/pos_embedding_lookup/layernorm/gamma",
    },
}
LAYOUTS = {
    "pretrain": published_files.pretrain(),
    "unified": published_files.unified(),
    "video": published_files.finetune("video"),
    "audio": published_files.finetune("audio"),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_published_checkpoint_is_loaded_whole(tmp_path, kind):
    prefix, tensors = published_checkpoint(tmp_path, LAYOUTS[kind])
    model = published_files.model(kind)
    report = transfer.load(prefix, model)
    assert report.source.step == 7 and report.unused == ()
    assert len(report.of("restored")) == len(model.variables) == len(tensors)
    by_bytes = sorted(value.tobytes() for value in tensors.values())
    assert sorted(value.tobytes() for value in weights(model).values()) == by_bytes
    local = {path.partition("/")[2]: value for path, value in weights(model).items()}
    for path, key in PAIRS[kind].items():
        np.testing.assert_array_equal(local[path], tensors[key], err_msg=path)


@pytest.mark.parametrize("author", ["own", "earlier"])
@pytest.mark.parametrize("kind", LAYOUTS)
def test_our_checkpoint_is_loaded_whole(tmp_path, kind, author):
    model = fill(published_files.model(kind))
    prefix = own_checkpoint(tmp_path, model, step=12, author=author)
    other = published_files.model(kind)
    report = transfer.load(prefix, other)
    layout = report.source.layout
    assert report.source.step == 12 and not layout.published
    assert layout.kind == ("pretrain" if kind in ("pretrain", "unified") else "finetune")
    words = {"pretrain": "pre-training", "unified": "modality-agnostic pre-training"}
    assert layout.description == f"vatt {words.get(kind, 'fine-tuned')} checkpoint"
    for path, value in weights(other).items():
        np.testing.assert_array_equal(value, weights(model)[path])


def test_the_report_says_what_was_done(tmp_path):
    prefix, _ = published_checkpoint(tmp_path, LAYOUTS["video"])
    table = transfer.load(prefix, published_files.model("video")).table()
    assert table == (
        f"{prefix} (published fine-tuned checkpoint): 44 restored, 0 resampled, 0 new, 0 skipped"
    )


def test_another_architecture_names_what_differs_on_both_sides(tmp_path):
    prefix, _ = published_checkpoint(tmp_path, LAYOUTS["pretrain"])
    model = published_files.model("unified")
    with refused("published pre-training checkpoint, which does not fit", model) as caught:
        transfer.load(prefix, model)
    message = str(caught.value)
    assert "uvatt_mlp_fac/unified/encoder/layer_0/attention_norm/gamma (8,): not in the" in message
    assert f"{BASE}/aud_backbone/_base/agg_embedding (8,): in the checkpoint only" in message
    # 84 here, 124 there; both have the 19 of the head, 3 of them in other shapes.
    assert "173 variables differ" in message and "... and 163 more" in message


def test_other_widths_and_other_names_are_refused(tmp_path):
    prefix = own_checkpoint(tmp_path, published_files.model("video"))
    wider = published_files.model("video", d_ff=12)
    with refused(r"; 6 variables.*wi/kernel: \(8, 10\) there, \(8, 12\) here", wider):
        transfer.load(prefix, wider)
    renamed = published_files.model("video", name="other")
    with refused("of a model called 'classifier', which does not fit the model 'other'", renamed):
        transfer.load(prefix, renamed)


# Files -------------------------------------------------------------------------------------------


def prefixes(tmp_path):
    published, _ = published_checkpoint(tmp_path / "published", LAYOUTS["pretrain"])
    model = fill(published_files.model("pretrain"))
    own = {a: own_checkpoint(tmp_path / a, model, author=a) for a in ("own", "earlier")}
    return {"published": published, **own}


@pytest.mark.parametrize("author", ["published", "own"])
@pytest.mark.parametrize(
    "cut", [1, 0.5, *(pytest.param(n, marks=pytest.mark.slow) for n in (8, 0.05, 0.999))]
)
def test_a_cut_off_data_file_is_found_before_anything_is_read(tmp_path, author, cut):
    """Also where the tensors that are asked for are all there: of slots, or the object graph."""
    prefix = prefixes(tmp_path)[author]
    data = published_files.data_file(prefix)
    size = data.stat().st_size
    os.truncate(data, size - (cut if cut >= 1 else int(cut * size)))
    model = published_files.model("pretrain")
    with refused(f"{re.escape(str(data))}: (cut off|damaged)", model):
        transfer.load(prefix, model)
    tower = published_files.model("video")
    with refused(f"{re.escape(str(data))}: (cut off|damaged)", tower):
        transfer.transfer(prefix, tower, partial=True)


@pytest.mark.parametrize("author", ["published", "own"])
def test_a_flipped_bit_is_found_and_nothing_is_assigned(tmp_path, author):
    prefix = prefixes(tmp_path)[author]
    data = published_files.data_file(prefix)
    model = published_files.model("pretrain")
    with transfer_of_last_variable(prefix, model) as (key, value):
        content = bytearray(data.read_bytes())
        content[content.index(value.tobytes())] ^= 1
        data.write_bytes(content)
    with refused(f"{re.escape(str(data))}: damaged, cannot read {key}", model):
        transfer.load(prefix, model)


@contextlib.contextmanager
def transfer_of_last_variable(prefix, model):
    """Gives key and value of the variable that is read last."""
    probe = published_files.model("pretrain")
    report = transfer.load(prefix, probe)
    yield report.rows[-1].key, probe.variables[-1].numpy()


def test_missing_files(tmp_path):
    prefix, _ = published_checkpoint(tmp_path, LAYOUTS["video"])
    model = published_files.model("video")
    with refused("ckpt-70: no checkpoint there, expected ckpt-70.index", model):
        transfer.load(tmp_path / "ckpt-70", model)
    with refused("give the checkpoint without its ending", model):
        transfer.load(f"{prefix}.index", model)
    data = published_files.data_file(prefix)
    second = tmp_path / "ckpt-7.data-00001-of-00002"
    data.rename(tmp_path / "ckpt-7.data-00000-of-00002")
    with refused(f"ckpt-7: incomplete, without {second}", model):
        transfer.load(prefix, model)
    (tmp_path / "ckpt-7.data-00000-of-00002").unlink()
    with refused("its data file ckpt-7.data-00000-of-00001 is missing", model):
        transfer.load(prefix, model)
    (tmp_path / "ckpt-7.data-00000-of-00001.partial").write_bytes(b"a copy under way")
    with refused("missing|incomplete", model):
        transfer.load(prefix, model)


def test_a_folder_stands_for_its_newest_checkpoint(tmp_path):
    for step in (9, 10):
        published_checkpoint(tmp_path, LAYOUTS["audio"], step=step)
    model = published_files.model("audio")
    report = transfer.load(tmp_path, model)
    assert report.source.prefix == str(tmp_path / "ckpt-10") and report.source.step == 10
    run = tmp_path / "run"
    for step in (20, 100):
        own_checkpoint(run, model, step)
    os.truncate(published_files.data_file(run / "ckpt-100"), 100)
    assert transfer.load(run, model).source.step == 20  # the newest that is whole
    (tmp_path / "empty").mkdir()
    with refused(r"no checkpoint \(ckpt-<step>.index\)", model):
        transfer.load(tmp_path / "empty", model)


@pytest.mark.parametrize(
    "names",
    [
        ["encoder/kernel", "encoder/bias"],
        ["model/layer-0/kernel/.ATTRIBUTES/VARIABLE_VALUE", "_CHECKPOINTABLE_OBJECT_GRAPH"],
        ["model/other/conv/kernel", "step"],
        [f"{BASE}/vid_backbone/_base/tsm_blocks/0/kernel/.ATTRIBUTES/VARIABLE_VALUE"],
    ],
)
def test_a_checkpoint_of_another_program(tmp_path, names):
    tensors = {name: np.zeros(3, np.float32) for name in names}
    prefix = published_files.write_bundle(tmp_path / "ckpt-1", tensors)
    model = published_files.model("video")
    with refused(f"not a checkpoint of a kind known here.*{names[0][:20]}", model):
        transfer.transfer(prefix, model)


# Into fine-tuning models -------------------------------------------------------------------------


@pytest.mark.parametrize("author", ["published", "own", "earlier"])
@pytest.mark.parametrize("kind", ["pretrain", "unified"])
@pytest.mark.parametrize("modality", ["video", "audio"])
def test_a_tower_computes_the_same_features_as_in_its_checkpoint(tmp_path, author, kind, modality):
    whole = fill(published_files.model(kind))
    if author == "published":
        prefix, _ = published_checkpoint(tmp_path, LAYOUTS[kind])
        transfer.load(prefix, whole)
    else:
        prefix = own_checkpoint(tmp_path, whole, author=author)
    changes = {**PROJECTIONS, **UNIFIED_GRID[modality]} if kind == "unified" else {}
    model = published_files.model(modality, name="tuned", **changes)
    before = weights(model)
    report = transfer.transfer(prefix, model)
    assert not report.left and not report.of("skipped") and not report.of("resampled")
    new = {row.variable for row in report.of("new")}
    assert new == {"tuned/classification/kernel", "tuned/classification/bias"}
    for path in new:
        np.testing.assert_array_equal(weights(model)[path], before[path])
    features = model(INPUTS[modality])["features_pooled"]
    expected = whole.towers({modality: INPUTS[modality]})[modality]["features_pooled"]
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)
    assert np.std(features) > 0.01


@pytest.mark.parametrize("author", ["published", "own", "earlier"])
def test_agnostic_weights_without_projections_name_the_fields(tmp_path, author):
    if author == "published":
        prefix, _ = published_checkpoint(tmp_path, LAYOUTS["unified"])
    else:
        prefix = own_checkpoint(tmp_path, published_files.model("unified"), author=author)
    both = "pre_projection: true, post_projection: true, d_post_proj: 7; 4 variables"
    for missing, message in {
        (): both,
        ("post_projection",): "pre_projection: true, d_post_proj: 7; 4 variables",
        ("pre_projection",): "projections, post_projection: true, d_post_proj: 7; 2 variables",
        ("pre_projection", "post_projection"): "projections, d_post_proj: 7; 2 variables",
    }.items():
        changes = dict.fromkeys(missing, True) | UNIFIED_GRID["video"]
        changes["d_post_proj"] = 9
        model = published_files.model("video", **changes)
        with refused(f"does not fit the video backbone unless.*{message}", model):
            transfer.transfer(prefix, model)
    model = published_files.model("video", **UNIFIED_GRID["video"])
    report = transfer.transfer(prefix, model, partial=True)
    assert len(report.left) == 4 and set(report.left) <= set(report.unused)
    assert report.table().count("not used") == 4 and "post_proj" in report.table()
    assert len(report.of("restored")) == 44 - 2


@pytest.mark.parametrize("author", ["published", "own", "earlier"])
@pytest.mark.parametrize("modality", ["video", "audio"])
def test_fine_tuned_to_fine_tuned(tmp_path, author, modality):
    tuned = fill(published_files.model(modality, name="first"))
    if author == "published":
        prefix, _ = published_checkpoint(tmp_path, LAYOUTS[modality], slots=("momentum",))
        transfer.load(prefix, tuned)
    else:
        prefix = own_checkpoint(tmp_path, tuned, author=author)
    same = published_files.model(modality)
    assert set(actions(transfer.transfer(prefix, same)).values()) == {"restored"}
    logits = same(INPUTS[modality])["logits"]
    np.testing.assert_array_equal(logits, tuned(INPUTS[modality])["logits"])
    other = published_files.model(modality, num_classes=9)
    kernel = other.classification.kernel.numpy()
    report = transfer.transfer(prefix, other)
    skipped = {name for name, action in actions(report).items() if action == "skipped"}
    assert skipped == {"classification/kernel", "classification/bias"}
    assert "(5,) there, (9,) here" in report.table()
    np.testing.assert_array_equal(other.classification.kernel, kernel)
    pooled = tuned(INPUTS[modality])["features_pooled"]
    np.testing.assert_array_equal(other(INPUTS[modality])["features_pooled"], pooled)


def test_the_batch_norm_of_a_classifier_goes_with_it(tmp_path):
    norm = {"cls_batch_norm": True}
    tuned = fill(published_files.model("audio", name="first", **norm))
    prefix = own_checkpoint(tmp_path, tuned, author="own")
    same = published_files.model("audio", **norm)
    assert set(actions(transfer.transfer(prefix, same)).values()) == {"restored"}
    logits = same(INPUTS["audio"])["logits"]
    np.testing.assert_array_equal(logits, tuned(INPUTS["audio"])["logits"])
    without = published_files.model("audio")
    kernel = without.classification.kernel.numpy()
    found = actions(transfer.transfer(prefix, without))  # the kernel belongs behind that norm
    assert found["classification/kernel"] == found["classification/bias"] == "skipped"
    np.testing.assert_array_equal(without.classification.kernel, kernel)
    plain = own_checkpoint(tmp_path, without, step=8)
    found = actions(transfer.transfer(plain, published_files.model("audio", **norm)))
    assert found["classification_norm/gamma"] == "new"
    assert found["classification/kernel"] == "skipped"


def test_published_classifiers_have_no_batch_norm(tmp_path):
    prefix, _ = published_checkpoint(tmp_path, LAYOUTS["video"], slots=())
    model = published_files.model("video", cls_batch_norm=True)
    with refused("classification_norm/gamma", model):
        transfer.load(prefix, model)
    found = actions(transfer.transfer(prefix, model))
    assert found["classification_norm/gamma"] == "new"
    assert found["classification/kernel"] == "skipped"


def test_a_classifier_of_another_width_is_left_whole(tmp_path):
    """Its bias would fit, and means nothing without the kernel."""
    prefix, _ = published_checkpoint(tmp_path, LAYOUTS["video"], slots=())
    model = published_files.model("video", post_projection=True, d_post_proj=6)
    bias = fill(model).classification.bias.numpy()
    report = transfer.transfer(prefix, model, partial=True)
    assert actions(report)["classification/bias"] == "skipped"
    assert "left out with the rest of the classifier" in report.table()
    np.testing.assert_array_equal(model.classification.bias, bias)


def spline(table, rows):
    """The natural cubic spline through the table's rows at k / n, continued by its tangent."""
    count = len(table)
    knots, query = np.arange(count) / count, np.arange(rows) / rows
    curve = CubicSpline(knots, table.astype("f8"), bc_type="natural")
    beyond = np.maximum(query - knots[-1], 0.0)[:, None]
    return curve(np.minimum(query, knots[-1])) + beyond * curve(knots[-1], 1)


@pytest.mark.parametrize("author", ["published", "own", "earlier"])
@pytest.mark.parametrize(
    "rows", [3, 20, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 300))]
)
def test_positions_are_resampled(tmp_path, author, rows):
    prefix = prefixes(tmp_path)[author]
    source = published_files.model("pretrain")
    transfer.load(prefix, source)
    model = published_files.model("audio", max_temporal_buckets=rows)
    report = transfer.transfer(prefix, model)
    assert [row.variable for row in report.of("resampled")] == [
        "classifier/audio/positions/temporal"
    ]
    table = source.audio.positions.tables[0].numpy()
    expected = spline(table, rows)
    found = model.backbone.positions.tables[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert f"(8, 8) there, ({rows}, 8) here" in report.table()


@pytest.mark.parametrize("author", ["published", "own", "earlier"])
@pytest.mark.parametrize("partial", [False, True])
def test_nothing_for_the_modality(tmp_path, author, partial):
    """Video and audio share most names in published fine-tuned checkpoints."""
    for there, here in (("video", "audio"), ("audio", "video")):
        folder = tmp_path / there
        if author == "published":
            prefix, _ = published_checkpoint(folder, LAYOUTS[there], slots=())
        else:
            prefix = own_checkpoint(folder, published_files.model(there), author=author)
        model = published_files.model(here)
        with refused(f"fine-tuned checkpoint with nothing that fits the {here}", model):
            transfer.transfer(prefix, model, partial=partial)


@pytest.mark.parametrize("kind", ["pretrain", "unified", "audio"])
def test_transformers_have_nothing_for_a_convolutional_backbone(tmp_path, kind):
    prefix, _ = published_checkpoint(tmp_path, LAYOUTS[kind], slots=())
    config = configs.registry.backbone("resnet2d_50", width_multiplier=1 / 16, num_classes=3)
    model = factory.build_classifier(config)
    model.build((None, 32, 32, 1))
    with refused("nothing that fits the audio backbone", model):
        transfer.transfer(prefix, model)


def test_a_convolutional_backbone_is_restored_with_its_statistics(tmp_path):
    config = configs.registry.backbone("resnet2d_50", width_multiplier=1 / 16, num_classes=3)
    models = [factory.build_classifier(config, name=name) for name in ("first", "second")]
    for model in models:
        model.build((None, 32, 32, 1))
    prefix = own_checkpoint(tmp_path, fill(models[0]))
    assert set(actions(transfer.transfer(prefix, models[1])).values()) == {"restored"}
    for a, b in zip(models[0].variables, models[1].variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)


@pytest.mark.parametrize("author", ["published", "own", "earlier"])
def test_a_backbone_that_fits_in_part(tmp_path, author):
    prefix = prefixes(tmp_path)[author]
    wider = published_files.model("video", d_ff=12)
    with refused(r"does not fit the video backbone; 6 variables.*\(8, 10\) there", wider):
        transfer.transfer(prefix, wider)
    before = weights(wider)
    report = transfer.transfer(prefix, wider, partial=True)
    skipped = {row.variable for row in report.of("skipped")}
    assert len(skipped) == 6 and all("/feed_forward/w" in path for path in skipped)
    for path, value in weights(wider).items():
        kept = np.array_equal(value, before[path])
        assert kept == (path in skipped or "/classification/" in path), path
    shallow = published_files.model("video", num_layers=1)
    layer = "layers/1" if author == "published" else "layer_1"
    with refused(f"16 variables differ.*{layer}/.*: in the checkpoint only", shallow):
        transfer.transfer(prefix, shallow)
    assert len(transfer.transfer(prefix, shallow, partial=True).left) == 16
    deeper = published_files.model("video", num_layers=3)
    with refused("16 variables differ.*layer_2/.*: not in the checkpoint", deeper):
        transfer.transfer(prefix, deeper)
    nothing_fits = {"d_model": 6, "d_ff": 9, "num_heads": 1}
    model = published_files.model("video", **nothing_fits)
    with refused(r"video/patches/kernel: \(2, 4, 4, 3, 8\) there", model):
        transfer.transfer(prefix, model, partial=True)


def test_the_mask_embedding_of_pre_training_is_not_missed(tmp_path):
    key = f"{BASE}/vid_backbone/_base/mask_embedding"
    shapes = LAYOUTS["pretrain"] | {key: (published_files.D,)}
    prefix, _ = published_checkpoint(tmp_path, shapes)
    report = transfer.transfer(prefix, published_files.model("video"))
    assert key in report.unused and report.left == ()


# What the manifest says --------------------------------------------------------------------------


def moved(model, places):
    """Tensors by name as if parts of the model stood elsewhere: {start of a path: new start}."""
    named = {}
    for path, value in weights(model).items():
        start = next((s for s in places if path.startswith(s)), "")
        named[f"model/{places.get(start, '')}{path.removeprefix(start)}"] = value
    return named


def test_the_manifest_decides_where_the_towers_stand(tmp_path):
    """Not their names: here two candidates for the tower, of which the one called so is a decoy."""
    decoy, meant = (fill(published_files.model("pretrain"), seed) for seed in (1, 2))
    tensors = moved(decoy, {}) | {
        key: value
        for key, value in moved(meant, {"tx_mlp_fac/video/": "tx_mlp_fac/left/eye/"}).items()
        if "/left/" in key
    }
    towers = {"video": {"": "tx_mlp_fac/left/eye/"}}
    store = checkpoints.CheckpointStore(tmp_path / "told")
    told = store.save(3, tensors, kind="pretrain", architecture="some_arch", towers=towers)
    model = published_files.model("video")
    report = transfer.transfer(told, model)
    assert not report.left and len(report.of("restored")) == len(model.variables) - 2
    ours = weights(model)
    for path, value in weights(meant).items():
        if path.startswith("tx_mlp_fac/video/"):
            path = path.replace("tx_mlp_fac/", "classifier/")
            np.testing.assert_array_equal(ours[path], value, err_msg=path)
    sound = published_files.model("audio")
    with refused("vatt pre-training checkpoint with nothing that fits the audio backbone", sound):
        transfer.transfer(told, sound)  # although model/tx_mlp_fac/audio/ is there
    guessed = checkpoints.CheckpointStore(tmp_path / "guessed").save(3, tensors)
    transfer.transfer(guessed, model)
    kernel = weights(model)["classifier/video/patches/kernel"]
    np.testing.assert_array_equal(kernel, weights(decoy)["tx_mlp_fac/video/patches/kernel"])


def test_names_that_nobody_could_guess_are_found_by_the_manifest(tmp_path):
    """A tower in two places, in a model without heads; the longest start that fits counts."""
    source = fill(published_files.model("pretrain"))
    places = {"tx_mlp_fac/video/encoder/": "net/shared/", "tx_mlp_fac/video/": "net/see/"}
    tensors = {k: v for k, v in moved(source, places).items() if k.startswith("model/net/")}
    towers = {"video": {"": "net/see/", "encoder/": "net/shared/"}}
    store = checkpoints.CheckpointStore(tmp_path / "told")
    told = store.save(3, tensors, kind="pretrain", towers=towers)
    model = published_files.model("video")
    report = transfer.transfer(told, model)
    # Several places make no modality-agnostic model: no other tower is in one of them.
    assert report.source.layout.description == "vatt pre-training checkpoint"
    assert not report.left and not report.unused
    features = model(INPUTS["video"])["features_pooled"]
    expected = source.towers({"video": INPUTS["video"]})["video"]["features_pooled"]
    np.testing.assert_allclose(features, expected, rtol=1e-6)
    shallow = published_files.model("video", num_layers=1)
    with refused("16 variables differ.*model/net/shared/layer_1/.*checkpoint only", shallow):
        transfer.transfer(told, shallow)
    guessed = checkpoints.CheckpointStore(tmp_path / "guessed").save(3, tensors)
    with refused("not a checkpoint of a kind known here", model):
        transfer.transfer(guessed, model)


@pytest.mark.parametrize("towers", [None, 3, ["video"], {"video": 3}, {"video": {"": 3}}])
def test_a_manifest_that_does_not_say_where_towers_stand_is_told(tmp_path, towers):
    tuned = fill(published_files.model("video"))
    store = checkpoints.CheckpointStore(tmp_path)
    told = store.save(3, moved(tuned, {}), kind="pretrain", towers=towers)
    with refused("ckpt-3.json: damaged, `towers` does not say", tuned):
        transfer.transfer(told, tuned)


def test_the_manifest_decides_what_kind_it_is(tmp_path):
    """A pre-training model with a part called as classifiers are is none."""
    tuned = fill(published_files.model("video"))
    towers = {"video": {"": "classifier/video/"}}
    store = checkpoints.CheckpointStore(tmp_path)
    told = store.save(3, moved(tuned, {}), kind="pretrain", towers=towers)
    model = fill(published_files.model("video"), seed=6)
    kernel = model.classification.kernel.numpy()
    report = transfer.transfer(told, model)
    assert {row.variable for row in report.of("new")} == {
        "classifier/classification/kernel",
        "classifier/classification/bias",
    }
    np.testing.assert_array_equal(model.classification.kernel, kernel)
    assert report.source.layout.fix() == "--task=pretrain"


@pytest.mark.parametrize("kind", LAYOUTS)
def test_what_a_manifest_says_of_a_model(kind):
    model = published_files.model(kind)
    method = "vatt" if kind in ("pretrain", "unified") else None
    said = layouts.metadata(model, "some_kind", "some_arch", method)
    name = model.name
    towers = {m: {"": f"{name}/{m}/"} for m in ("video", "audio", "text")}
    if kind == "unified":
        encoder = {"encoder/": f"{name}/unified/encoder/"}
        towers = {m: {"": f"{name}/unified/{m}/", **encoder} for m in towers}
    elif kind != "pretrain":
        towers = {kind: towers[kind]}
    expected = {"kind": "some_kind", "architecture": "some_arch", "towers": towers}
    assert said == expected | ({"method": method} if method else {})
    assert json.loads(json.dumps(said)) == said


# Golden ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("tx_to_vit", ""),
        ("tx_to_wat_interp", ""),
        ("ut_to_wat", ""),
        ("tx_to_vit_proj_mismatch", "pre_projection/kernel.*: not in the checkpoint"),
        ("ut_to_vit_noproj", "unless .*pre_projection: true, post_projection: true, d_post"),
    ],
)
def test_golden_transfers(shared_dir, case, message):
    """Complete ones also without `partial`; what the published code lost silently is refused."""
    folder = shared_dir / "conformance" / "checkpoints"
    with np.load(folder / f"restore_{case}.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    config = json.loads(str(arrays["config"]))
    values = {**config["model"], "num_test_samples": 1}
    backbone = configs.registry.backbone(config["case"]["arch"], **values)
    model = factory.build_classifier(backbone)
    model.build((None, *config["case"]["shape"]))
    if message:
        with refused(message, model):
            transfer.transfer(folder / config["source"], model)
        return
    transfer.transfer(folder / config["source"], model)
    inputs = next(arrays[name] for name in ("in:images", "in:audio") if name in arrays)
    outputs = model(inputs.astype("f4"))
    name = "out_exact64:features_pooled"
    expected = arrays[name if name in arrays else "out:features_pooled"]
    np.testing.assert_allclose(outputs["features_pooled"], expected, atol=2e-5)
