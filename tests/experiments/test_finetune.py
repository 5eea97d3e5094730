"""Fine-tuning end to end on a few records: every architecture, resuming, evaluation, refusals."""

import csv
import json
import shutil
import sys
from pathlib import Path

import architectures
import numpy as np
import pytest
import yaml

from vatt import configs
from vatt.errors import CheckpointError, DataError, UserError
from vatt.experiments import executor, finetune
from vatt.training import loop
from vatt.training.checkpoints import CheckpointStore, manifest_metadata, open_checkpoint
from vatt.training.rundir import RunDir
from vatt.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
import corpus

FAST = ("vit_tiny",)
EVERY = [
    pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow])
    for name in architectures.FINE_TUNED
]
TRAIN, TEST = 12, 5
AVERAGED = {"train": {"ema_decay": 0.9, "input": {"mixup": True}}}
SAMPLE_RATE = 16000


def write_card(folder, name, **changes):
    file = folder / name / "card.yaml"
    card = yaml.safe_load(file.read_text()) | changes
    file.write_text(yaml.safe_dump(card))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    records = [corpus.example(i) for i in range(TRAIN + TEST)]
    both = {"video_classification", "audio_classification"}
    for name, tasks in (
        ("acts", both),
        ("sounds", {"audio_classification"}),
        ("bare", {"pretrain"}),
    ):
        corpus.write_set(folder, name, records[:TRAIN], sample_rate=SAMPLE_RATE, text=False)
        splits = yaml.safe_load((folder / name / "card.yaml").read_text())["splits"]
        corpus.write_set(
            folder, name, records[TRAIN:], split="test", sample_rate=SAMPLE_RATE, text=False
        )
        splits |= yaml.safe_load((folder / name / "card.yaml").read_text())["splits"]
        write_card(folder, name, splits=splits, tasks=sorted(tasks))
    write_card(folder, "sounds", video=None, multi_label=True)
    write_card(folder, "bare", labels=None)
    return folder


def config(data_dir, model_dir, arch="vit_tiny", *, mode="train", steps=4, name="acts", **override):
    """Small clips; 8 frames of 32 x 32, or 0.8 s of sound as 8 or 32 mel bins."""
    convolved = arch.startswith(architectures.CONVOLUTIONAL)
    size = 32 if convolved else 16
    fused = architectures.KINDS[arch] == "fused"
    clip = {
        "name": name,
        "num_frames": 8,
        "frame_size": size,
        "min_resize": 18 if fused else size,
        "video_stride": 1,
        "audio_stride": 1,
        "sample_rate": SAMPLE_RATE,
        "mel_bins": 32 if convolved else 8,
        "batch_size": 4,
        "audio_seconds": 0.4 if fused else None,
    }
    base = {
        "train": {
            "input": clip | {"num_parallel_calls": 2},
            "iterations_per_loop": 2,
            "save_checkpoint_freq": 2,
            "max_checkpoints": 9,
            "optimizer": {
                "learning_rate": {
                    "learning_rate_base": 0.01,
                    "warmup_steps": 1,
                    "total_steps": steps,
                }
            },
        },
        "eval": {
            "input": clip | {"num_windows_test": 2},
            "poll_interval_s": 0.1,
            "timeout_s": 0,
        },
        "model_config": architectures.sizes(arch),
    }
    return configs.resolve(
        task="finetune",
        mode=mode,
        model_arch=arch,
        data_dir=str(data_dir),
        model_dir=str(model_dir),
        params_override=[base, override],
        strategy_type="one_device",
    )


def rows(folder, split):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


def values(folder, step):
    reader = open_checkpoint(CheckpointStore(folder).path(step))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@pytest.fixture(scope="module")
def trained(data_dir, tmp_path_factory):
    """A run of two checkpoints with averaged weights and mixed clips, both evaluated."""
    run = tmp_path_factory.mktemp("trained") / "run"
    executor.run(config(data_dir, run, mode="train_and_eval", **AVERAGED))
    return run


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.mark.parametrize("arch", EVERY)
def test_every_architecture_trains_and_is_evaluated(data_dir, tmp_path, arch):
    run = tmp_path / "run"
    audio = arch in configs.backbones.of_modality("audio")
    steps = [2, 4] if arch in FAST else [2]  # each evaluation traces its input anew
    name = "sounds" if audio else "acts"
    cfg = config(data_dir, run, arch, mode="train_and_eval", name=name, steps=steps[-1])
    assert executor.run(cfg, ["vatt"]) == 0
    assert CheckpointStore(run).steps() == steps
    facts = manifest_metadata(run / f"ckpt-{steps[-1]}")
    modality = "audio" if audio else "video"
    towers = {modality: {"": f"classifier/{modality}/"}}
    if architectures.KINDS[arch] == "fused":
        towers = {"video+audio": {"": "classifier/fused/"}}
    assert (facts["kind"], facts["architecture"]) == ("finetune", arch)
    assert facts["towers"] == towers
    assert [row["step"] for row in rows(run, "eval")] == steps
    final = json.loads((run / "metrics.json").read_text())
    names = ("sklearn_mAP", "sklearn_AUC", "sklearn_d-prime") if audio else ("top_1_accuracy",)
    assert all(name in final for name in names) and final["step"] == steps[-1]
    assert final["num_clips"] == TEST  # nothing dropped: the batch is 4
    with open(run / "predictions" / f"{name}-{steps[-1]}.csv") as file:
        assert len({row["index"] for row in csv.DictReader(file)}) == TEST
    assert name in (run / "report.html").read_text()
    assert (run / "labels.txt").read_text() == "zero\none\ntwo\n"
    last = rows(run, "train")[-1]["metrics"]
    assert np.isfinite([last["total_loss"], last["gradient_norm/backbone"]]).all()


@pytest.mark.slow
def test_resumed_run_ends_with_the_same_weights(data_dir, trained, run):
    for file in run.glob("ckpt-4*"):
        file.unlink()  # as if killed after step 2 was saved
    executor.run(config(data_dir, run, **AVERAGED))
    whole, parts = values(trained, 4), values(run, 4)
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(value, parts[name], err_msg=name)


@pytest.mark.slow
def test_evaluation_alone_gives_the_figures_of_training(data_dir, tmp_path):
    run = tmp_path / "run"
    executor.run(config(data_dir, run, mode="train_and_eval", train={"ema_decay": 0.5}))
    during = {row["step"]: row["metrics"] for row in rows(run, "eval")}
    (run / "evaluated.json").unlink()
    assert executor.run(config(data_dir, run, mode="eval")) == 0
    again = rows(run, "eval")[2:]
    assert [row["step"] for row in again] == [2, 4]
    for row in again:
        assert row["metrics"] == pytest.approx(during[row["step"]])
    cfg = config(data_dir, tmp_path / "once", mode="eval", eval={"input": {"batch_size": 3}})
    cfg.checkpoint_path = str(run / "ckpt-2")
    assert executor.run(cfg) == 0
    assert rows(tmp_path / "once", "eval")[0]["metrics"] == pytest.approx(during[2], rel=1e-5)


BATCHES = {}  # by architecture: the first of 'acts'


def trainer(cfg, strategy, tmp_path):
    """A recipe and its trainer, at step 0; the input of an architecture is made once."""
    import tensorflow as tf

    recipe = finetune.FinetuneRecipe(cfg, strategy)
    recipe.initialise(None)
    if cfg.model_arch not in BATCHES:
        first = recipe.batches(0, (0, 1)).take(4).as_numpy_iterator()
        BATCHES[cfg.model_arch] = tf.nest.map_structure(lambda *x: np.stack(x), *first)
    recipe.batches = lambda *_: tf.data.Dataset.from_tensor_slices(BATCHES[cfg.model_arch])
    made = Trainer(recipe, cfg.train, strategy, cfg.seed)
    made.start(0)
    return recipe, made


def one_device():
    import tensorflow as tf

    return tf.distribute.OneDeviceStrategy("CPU:0")


@pytest.mark.slow
def test_backbone_and_classifier_are_clipped_apart(data_dir, tmp_path):
    rate = {"type": "LearningRate", "learning_rate_base": 0.5}
    steps = {"gradient_clip_norm": 0.01, "optimizer": {"name": "SGD", "learning_rate": rate}}
    for clip_cls in (0.0, 0.02):
        cfg = config(data_dir, tmp_path, train={**steps, "gradient_clip_norm_cls": clip_cls})
        recipe, made = trainer(cfg, one_device(), tmp_path)
        before = [v.numpy() for v in recipe.model.trainable_variables]
        result = made.run(1)
        norms = made.norms(result)
        moved = {"backbone": 0.0, "classifier": 0.0}
        for variable, old in zip(recipe.model.trainable_variables, before, strict=True):
            group = "classifier" if "/classification/" in variable.path else "backbone"
            moved[group] += float(np.sum((variable.numpy() - old).astype(np.float64) ** 2))
        moved = {group: square**0.5 / 0.5 for group, square in moved.items()}
        assert norms["gradient_norm/backbone"] > 0.01
        assert moved["backbone"] == pytest.approx(0.01, rel=1e-3)
        limit = clip_cls or norms["gradient_norm/classifier"]
        assert norms["gradient_norm/classifier"] > 0.02
        assert moved["classifier"] == pytest.approx(limit, rel=1e-3)
        total = np.hypot(norms["gradient_norm/backbone"], norms["gradient_norm/classifier"])
        assert norms["gradient_norm"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("arch", ["vit_tiny", pytest.param("i3d", marks=pytest.mark.slow)])
def test_frozen_backbone_stays_as_it_was(data_dir, tmp_path, arch):
    """With its batch statistics, which the i3d has."""
    options = {"freeze_backbone": True, "cls_batch_norm": True}
    cfg = config(data_dir, tmp_path, arch, model_config=options)
    recipe, made = trainer(cfg, one_device(), tmp_path)
    before = {v.path: v.numpy() for v in recipe.model.variables}
    made.run(3)
    changed = {v.path for v in recipe.model.variables if (v.numpy() != before[v.path]).any()}
    norm = {"gamma", "beta", "moving_mean", "moving_variance"}
    names = {"classification/kernel", "classification/bias"}
    names |= {f"classification_norm/{name}" for name in norm}
    assert changed == {f"classifier/{name}" for name in names}


@pytest.mark.slow
def test_layers_learn_at_decaying_rates(data_dir, tmp_path):
    rate = {"type": "LearningRate", "learning_rate_base": 0.5}
    train = {"gradient_clip_norm": 0.0, "optimizer": {"name": "SGD", "learning_rate": rate}}
    moves = []
    for decay in (1.0, 0.5):
        cfg = config(data_dir, tmp_path, train={**train, "layer_decay": decay})
        cfg.model.num_layers = 2
        recipe, made = trainer(cfg, one_device(), tmp_path)
        before = {v.path: v.numpy() for v in recipe.model.trainable_variables}
        made.run(1)
        after = {v.path: v.numpy() for v in recipe.model.trainable_variables}
        moves.append({path: np.abs(after[path] - before[path]).max() for path in before})
    expected = {
        "patches/kernel": 1 / 8,
        "positions/temporal": 1 / 8,
        "aggregation/embedding": 1 / 8,
        "encoder/layer_0/attention/v/kernel": 1 / 4,
        "encoder/layer_1/feed_forward/wo/kernel": 1 / 2,
        "encoder/final_norm/gamma": 1 / 2,
    }
    for path, factor in expected.items():
        path = f"classifier/video/{path}"
        assert moves[1][path] == pytest.approx(factor * moves[0][path], rel=1e-3), path
    head = "classifier/classification/kernel"
    assert moves[1][head] == pytest.approx(moves[0][head], rel=1e-5)


def test_classifier_of_the_published_video_benchmarks(data_dir, tmp_path):
    """Batch norm belongs to the classifier, the backbone has a rate of its own, all decay."""
    options = {"cls_batch_norm": True, "cls_l2_norm": True, "cls_initializer": "orthogonal"}
    rate = {"type": "LearningRate", "learning_rate_base": 0.5}
    optimizer = {"name": "TorchSGD", "momentum": 0.0, "learning_rate": rate}
    moves = []
    for share, decay in ((1.0, 0.0), (0.1, 0.0), (1.0, 0.2)):
        train = {"gradient_clip_norm": 0.0, "backbone_rate": share}
        train["optimizer"] = optimizer | {"weight_decay": decay}
        recipe, made = trainer(
            config(data_dir, tmp_path, model_config=options, train=train), one_device(), tmp_path
        )
        before = {v.path: v.numpy() for v in recipe.model.trainable_variables}
        made.run(1)
        after = {v.path: v.numpy() for v in recipe.model.trainable_variables}
        moves.append({path: after[path] - before[path] for path in before})
    kernel, gamma = "classifier/video/patches/kernel", "classifier/classification_norm/gamma"
    for path, factor in ((kernel, 0.1), (gamma, 1.0)):
        assert np.abs(moves[0][path]).max() > 1e-6
        np.testing.assert_allclose(moves[1][path], factor * moves[0][path], rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(moves[2][gamma] - moves[0][gamma], -0.5 * 0.2, rtol=1e-4)
    groups = {group.name: {v.path for v in group.variables} for group in recipe.parameter_groups()}
    assert gamma in groups["classifier"] and gamma not in groups["backbone"]


def test_pooling_may_have_a_rate_of_its_own(data_dir, tmp_path):
    for own in (0.3, None):
        train = {"backbone_rate": 0.1, "pooling_rate": own}
        pooled = {"pooling_layers": 1, "pooling_heads": 3}
        cfg = config(data_dir, tmp_path, "r2plus1d_tiny", model_config=pooled, train=train)
        recipe, _ = trainer(cfg, one_device(), tmp_path)
        backbone, classifier = recipe.parameter_groups()
        rates = {True: set(), False: set()}
        for path, rate in backbone.rate_scales.items():
            rates[path.startswith("classifier/video/pooling/")].add(rate)
        assert rates == {True: {own or 0.1}, False: {0.1}}
        assert not classifier.rate_scales


@pytest.mark.slow
def test_averaged_weights_are_those_of_the_formula(data_dir, tmp_path):
    cfg = config(data_dir, tmp_path, train={"ema_decay": 0.3})
    recipe, made = trainer(cfg, one_device(), tmp_path)
    kernel = recipe.model.classification.kernel
    average = kernel.numpy().astype(np.float64)
    for step in range(4):
        made.run(1)
        decay = min(0.3, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * kernel.numpy()
    trained, named = kernel.numpy(), made.variables()
    held = named["model/classifier/classification/kernel"].numpy()
    np.testing.assert_allclose(held, average, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(
        named["trained/model/classifier/classification/kernel"].numpy(), trained
    )
    with made.weights_to_evaluate():
        np.testing.assert_array_equal(kernel.numpy(), held)
    np.testing.assert_array_equal(kernel.numpy(), trained)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["wat_tiny", "vit_tiny"])
def test_two_replicas_give_the_losses_of_one(data_dir, tmp_path, two_replicas, arch):
    histories, averages = [], []
    for strategy in (one_device(), two_replicas):
        folder = tmp_path / str(strategy.num_replicas_in_sync)
        name = "sounds" if arch == "wat_tiny" else "acts"
        options = {"train": {"ema_decay": 0.9}, "model_config": {"cls_batch_norm": True}}
        cfg = config(data_dir, folder, arch, steps=6, name=name, **options)
        cfg.train.log_every_steps, cfg.train.iterations_per_loop = 1, 1
        recipe = finetune.FinetuneRecipe(cfg, strategy)
        folder.mkdir()
        assert loop.train(recipe, cfg, strategy, RunDir(folder)) == 0
        histories.append([row["metrics"]["total_loss"] for row in rows(folder, "train")])
        averages.append(values(folder, 6))
    np.testing.assert_allclose(histories[0], histories[1], rtol=1e-5)
    for name, value in averages[0].items():
        np.testing.assert_allclose(value, averages[1][name], atol=2e-5, err_msg=name)


@pytest.mark.slow
def test_checkpoints_of_another_size_or_modality_are_refused(data_dir, tmp_path):
    sound = tmp_path / "sound"
    executor.run(config(data_dir, sound, "wat_tiny", name="sounds", steps=2))
    cfg = config(data_dir, tmp_path / "a", mode="train")
    cfg.checkpoint_path = str(sound)
    with pytest.raises(CheckpointError, match="nothing that fits the video backbone"):
        executor.run(cfg)
    wider = config(data_dir, tmp_path / "b", "wat_tiny", name="sounds")
    wider.model.d_ff = 40
    wider.checkpoint_path = str(sound)
    with pytest.raises(CheckpointError, match="feed_forward/wi"):
        executor.run(wider)
    assert not (tmp_path / "a" / "config.yaml").exists()  # nothing is claimed by a failed start


@pytest.mark.parametrize(
    ("name", "arch", "override", "message"),
    [
        ("bare", "vit_tiny", {}, "'bare' has no labels"),
        ("sounds", "vit_tiny", {}, "'sounds' has no video"),
        ("acts", "vit_tiny", {"model_config": {"num_classes": 7}}, "num_classes: 7.*3 classes"),
        ("actz", "vit_tiny", {}, "(?s)actz.*acts"),
        (
            "acts",
            "vit_tiny",
            {"model_config": {"num_test_samples": 5}, "mode": "train_and_eval"},
            "num_test_samples: 5",
        ),
    ],
)
def test_sets_that_do_not_fit_are_clear_errors(data_dir, tmp_path, name, arch, override, message):
    mode = override.pop("mode", "train") if override else "train"
    with pytest.raises((DataError, UserError), match=message):
        executor.run(config(data_dir, tmp_path / "run", arch, name=name, mode=mode, **override))


@pytest.mark.slow
def test_label_maps_that_differ_are_refused(run, tmp_path):
    other = tmp_path / "records"
    for name, labels in (("more", ["a", "b", "c", "d"]), ("renamed", ["zero", "two", "one"])):
        records = [corpus.example(i) for i in range(4)]
        corpus.write_set(other, name, records, split="test", sample_rate=SAMPLE_RATE, text=False)
        write_card(other, name, labels=labels, tasks=["video_classification"])
    for name, message in (("more", "has 4 classes"), ("renamed", "number 1 is 'two' instead")):
        cfg = config(other, run, mode="eval", name=name)
        with pytest.raises(DataError, match=message):
            executor.run(cfg)


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "multi_label"), [("vit_tiny", True), ("wat_tiny", False)])
def test_the_card_decides_how_many_labels_a_clip_has(data_dir, tmp_path, arch, multi_label):
    """Videos with any number of labels, sounds with one: losses, metrics and first values."""
    folder = tmp_path / "records"
    corpus.write_set(folder, "many", [corpus.example(i) for i in range(8)], text=False)
    splits = yaml.safe_load((folder / "many" / "card.yaml").read_text())["splits"]
    splits |= {"test": splits["train"]}
    tasks = ["video_classification", "audio_classification"]
    audio = {"sample_rate": SAMPLE_RATE}
    write_card(folder, "many", multi_label=multi_label, tasks=tasks, splits=splits, audio=audio)
    cfg = config(folder, tmp_path / "run", arch, mode="train_and_eval", name="many", steps=2)
    assert executor.run(cfg) == 0
    trained = rows(tmp_path / "run", "train")[-1]["metrics"]
    assert ("binary_cross_entropy" in trained) == multi_label
    assert ("top_1_accuracy" in trained) == (not multi_label)
    measured = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert ("sklearn_mAP" in measured) == multi_label
    assert ("top_1_accuracy" in measured) == (not multi_label)
    recipe = finetune.FinetuneRecipe(cfg, one_device())
    recipe.initialise(None)
    assert recipe.model.multi_label == multi_label
    bias = recipe.model.classification.bias.numpy()
    np.testing.assert_allclose(bias, -np.log(2) if multi_label else 0.0, rtol=1e-6)


@pytest.mark.slow
def test_pictures_become_clips_of_one_patch(tmp_path):
    folder = tmp_path / "records"
    pictures = [corpus.example(i, frames=1, sound=False) for i in range(8)]
    for split, part in (("train", pictures[:6]), ("test", pictures[6:])):
        corpus.write_set(folder, "stills", part, split=split, text=False, audio=False, shards=1)
    splits = {s: {"pattern": f"{s}-*.tfrecord", "num_shards": 1} for s in ("train", "test")}
    write_card(folder, "stills", splits=splits, tasks=["image_classification"])
    cfg = config(folder, tmp_path / "run", mode="train_and_eval", name="stills", steps=2)
    assert executor.run(cfg) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["num_clips"] == 2
    with pytest.raises(DataError, match="holds pictures"):
        executor.run(config(folder, tmp_path / "conv", "i3d", name="stills"))
