"""Pretraining end to end on a few records: train, stop, resume, evaluate, report."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from vatt import configs
from vatt.data import pipeline
from vatt.errors import CheckpointError, DataError, UserError
from vatt.experiments import executor, pretrain
from vatt.experiments.pretrain_eval import Evaluator
from vatt.training import loop
from vatt.training.checkpoints import CheckpointStore, manifest_metadata
from vatt.training.rundir import RunDir

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
import corpus

CAPTIONS = ["a red circle moves left", "a circle", "zero one red"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    narrated = [corpus.example(i, captions=CAPTIONS) for i in range(12)]
    corpus.write_set(folder, "talk", narrated)
    corpus.write_set(folder, "sounds", [corpus.example(i) for i in range(20, 29)], text=False)
    tests = [corpus.example(i, captions=[f"a {w}"]) for i, w in enumerate(["red", "circle"] * 3)]
    corpus.write_set(folder, "search", tests[:5], split="test")
    card = folder / "search" / "card.yaml"
    card.write_text(card.read_text().replace("- pretrain", "- retrieval"))
    corpus.write_vocabulary(folder)
    return folder


def config(data_dir, model_dir, *, mode="train", steps=6, **kwargs):
    clip = {
        "num_frames": 8,
        "frame_size": 16,
        "min_resize": 18,
        "sample_rate": 1600,
        "vocabulary": str(data_dir / "words.txt"),
        "max_num_words": 6,
        "batch_size": 4,
        "video_stride": 1,
    }
    dropout = kwargs.pop("dropout_rate", 0.1)
    tower = {
        "d_model": 16,
        "d_ff": 32,
        "num_heads": 2,
        "d_kv": 8,
        "num_layers": 1,
        "dropout_rate": dropout,
    }
    vit = {
        "temporal_patch_size": 4,
        "spatial_patch_size": 8,
        "max_temporal_buckets": 2,
        "max_vertical_buckets": 2,
        "max_horizontal_buckets": 2,
    }
    wat = {"temporal_patch_size": 64, "temporal_patch_stride": 64, "max_temporal_buckets": 20}
    t5 = {"vocab_size": 16, "d_embedding": 8, "d_pre_proj": 16}
    override = {
        "train": {
            "input": clip
            | {"name": "talk+sounds", "max_context_sentences": 1, "num_parallel_calls": 2},
            "iterations_per_loop": 3,
            "save_checkpoint_freq": 3,
            "max_checkpoints": 9,
            "optimizer": {
                "learning_rate": {
                    "type": "CosineDecayLearningRate",
                    "total_steps": steps,
                    "warmup_steps": 1,
                    "learning_rate_base": 0.01,
                }
            },
        },
        "eval": {
            "input": clip | {"name": ["search"], "num_windows_test": 2},
            "poll_interval_s": 0.1,
            "timeout_s": 0,
        },
        "model_config": {
            "backbone_config": {
                "video_model_kwargs": tower | vit,
                "audio_model_kwargs": tower | wat,
                "text_model_kwargs": tower | t5,
            }
        },
    }
    return configs.resolve(
        task="pretrain",
        mode=mode,
        model_arch="tx_fac_tiny",
        data_dir=str(data_dir),
        model_dir=str(model_dir),
        params_override=[override, kwargs],
        strategy_type="one_device",
    )


def values(folder, step):
    from vatt.training.checkpoints import open_checkpoint

    reader = open_checkpoint(CheckpointStore(folder).path(step))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def rows(folder, split):
    """Rows of a log; the last one counts once its end is there, as a training may be writing it."""
    *lines, _ = (folder / "metrics.jsonl").read_text().split("\n")
    return [row for row in map(json.loads, lines) if row["split"] == split]


@pytest.fixture(scope="module")
def trained(data_dir, tmp_path_factory):
    """A run of two checkpoints, both evaluated; copied by the tests that go on from it."""
    run = tmp_path_factory.mktemp("trained") / "run"
    assert executor.run(config(data_dir, run, mode="train_and_eval"), ["vatt", "x"]) == 0
    return run


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run."""
    return shutil.copytree(trained, tmp_path / "run")


def test_train_and_eval_leaves_checkpoints_metrics_and_report(run):
    assert CheckpointStore(run).steps() == [3, 6]
    facts = manifest_metadata(run / "ckpt-6")
    assert (facts["kind"], facts["method"]) == ("pretrain", "vatt")
    assert facts["architecture"] == "tx_fac_tiny"
    name = "tx_mlp_fac_tiny"
    assert facts["towers"] == {m: {"": f"{name}/{m}/"} for m in ("video", "audio", "text")}
    assert [row["step"] for row in rows(run, "eval")] == [3, 6]
    final = json.loads((run / "metrics.json").read_text())
    assert final["step"] == 6 and final["search_num_clips"] == 5  # nothing dropped: batch is 4
    for name in ("txt2vid_embd_R10", "txt2vid_cosine_R1", "audio2vid_embd_MedianRank"):
        assert np.isfinite(final[f"search_{name}"])
    train = rows(run, "train")[-1]["metrics"]
    assert {"bridge_losses/asymmetric_nce/vidtxt_loss", "learning_rate", "update_norm"} <= set(
        train
    )
    launch = json.loads((run / "run.json").read_text())["launches"][0]
    assert launch["command"] == ["vatt", "x"] and "tensorflow" in launch["versions"]
    assert "search" in (run / "report.html").read_text()


@pytest.mark.slow
def test_resumed_run_ends_with_the_same_weights(data_dir, trained, run):
    for file in run.glob("ckpt-6*"):
        file.unlink()  # as if killed after step 3 was saved
    executor.run(config(data_dir, run))
    whole, parts = values(trained, 6), values(run, 6)
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(value, parts[name], err_msg=name)


@pytest.mark.slow
def test_eval_mode_takes_every_checkpoint_once_in_order(data_dir, run):
    for name in ("evaluated.json", "metrics.json", "metrics.jsonl"):
        (run / name).unlink()  # as if it had only been trained
    assert executor.run(config(data_dir, run, mode="eval")) == 0
    assert [row["step"] for row in rows(run, "eval")] == [3, 6]
    assert executor.run(config(data_dir, run, mode="eval")) == 0
    assert [row["step"] for row in rows(run, "eval")] == [3, 6]


@pytest.mark.slow
def test_eval_of_one_checkpoint_equals_the_one_made_while_training(data_dir, run, tmp_path):
    cfg = config(data_dir, tmp_path / "once", mode="eval")
    cfg.checkpoint_path = str(run / "ckpt-3")
    assert executor.run(cfg) == 0
    during = next(row for row in rows(run, "eval") if row["step"] == 3)["metrics"]
    assert rows(tmp_path / "once", "eval")[0]["metrics"] == pytest.approx(during)
    cfg.model_dir = str(run)
    assert executor.run(cfg) == 0
    assert json.loads((run / "metrics.json").read_text())["step"] == 6  # still the newest one's


@pytest.mark.slow
def test_another_configuration_is_refused_with_the_differing_keys(data_dir, run):
    changed = config(data_dir, run, seed=5)
    with pytest.raises(UserError, match=r"(?s)seed: 0 -> 5.*--allow_config_change"):
        executor.run(changed)
    assert executor.run(changed, fresh_start=True) == 0
    assert (run / "previous-1" / "ckpt-3.index").exists()
    assert values(run, 6).keys() == values(run / "previous-1", 6).keys()


def test_missing_data_and_checkpoints_are_clear_errors(data_dir, tmp_path):
    cfg = config(data_dir, tmp_path / "run")
    cfg.train.input.name = "talk+soundz"
    with pytest.raises(DataError, match=r"(?s)soundz.*sounds"):
        executor.run(cfg)
    cfg = config(data_dir, tmp_path / "run2")
    cfg.checkpoint_path = str(tmp_path / "ckpt-7")
    with pytest.raises(CheckpointError, match="ckpt-7"):
        executor.run(cfg)
    cfg = config(data_dir, tmp_path / "run3", mode="eval")
    cfg.eval.input.name = ("talk",)
    with pytest.raises(DataError, match="retrieval"):
        executor.run(cfg)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["asymmetric_nce", "symmetric_nce"])
def test_two_replicas_give_the_losses_of_one(data_dir, tmp_path, two_replicas, loss):
    import tensorflow as tf

    # Momentum: Adam turns the round-off of gradients that are exactly zero into whole steps
    override = {
        "model_config": {"loss_config": {"bridge": [{"name": loss}]}},
        "train": {"optimizer": {"name": "Momentum"}, "input": {"batch_size": 8}},
    }
    histories, weights = [], []
    for strategy in (tf.distribute.OneDeviceStrategy("CPU:0"), two_replicas):
        folder = tmp_path / str(strategy.num_replicas_in_sync)
        cfg = config(data_dir, folder, steps=10, **override)
        cfg.train.save_checkpoint_freq, cfg.train.log_every_steps = 12, 1
        cfg.train.optimizer.learning_rate.learning_rate_base = 1e-3
        recipe = pretrain.PretrainRecipe(cfg, strategy)
        folder.mkdir()
        assert loop.train(recipe, cfg, strategy, RunDir(folder)) == 0
        histories.append([row["metrics"]["total_loss"] for row in rows(folder, "train")])
        weights.append(recipe.model.trainable_variables)
    np.testing.assert_allclose(histories[0], histories[1], rtol=1e-5)
    for variable in weights[1]:
        first, second = two_replicas.experimental_local_results(variable.value)
        np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_evaluation_on_two_replicas_equals_one(data_dir, tmp_path, two_replicas):
    import tensorflow as tf

    results = []
    for strategy in (tf.distribute.OneDeviceStrategy("CPU:0"), two_replicas):
        cfg = config(data_dir, tmp_path)
        shapes = pipeline.clip_shapes(cfg.eval.input)
        model = pretrain.build_model(cfg, shapes, strategy)
        folder = tmp_path / str(strategy.num_replicas_in_sync)
        folder.mkdir()
        results.append(
            Evaluator(cfg, model, strategy, RunDir(folder)).evaluate(0, "random weights")
        )
    assert results[0] == pytest.approx(results[1])
