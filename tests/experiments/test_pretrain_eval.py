"""Evaluation of pretraining checkpoints: probes, zero-shot classes, cached features, attention."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from vatt.data import cards, pipeline
from vatt.errors import DataError, UserError
from vatt.evaluation import artefacts
from vatt.evaluation.measures import Measure, published_names
from vatt.evaluators import features
from vatt.experiments import executor, pretrain
from vatt.training.checkpoints import fingerprint
from vatt.training.rundir import RunDir

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
import corpus
import test_pretrain

COUNT = 12  # clips of each training split


def write_labelled(folder, name, folds, tasks, multi_label=False):
    splits = {}
    for fold in range(folds):
        parts = {"train": range(COUNT), "test": range(40 + 7 * fold, 47 + 7 * fold)}
        for part, numbers in parts.items():
            split = f"{part}_{fold + 1}" if folds > 1 else part
            records = [corpus.example(i) for i in numbers]
            corpus.write_set(folder, name, records, split=split, shards=2, text=False)
            card = yaml.safe_load((folder / name / "card.yaml").read_text())
            splits |= card["splits"]
    card |= {"splits": splits, "tasks": tasks, "multi_label": multi_label}
    card["labels"] = ["red", "circle", "left"]
    (folder / name / "card.yaml").write_text(yaml.safe_dump(card))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    narrated = [corpus.example(i, captions=test_pretrain.CAPTIONS) for i in range(12)]
    corpus.write_set(folder, "talk", narrated)
    corpus.write_set(folder, "sounds", [corpus.example(i) for i in range(20, 29)], text=False)
    found = [corpus.example(i, captions=["a red circle"]) for i in range(5)]
    corpus.write_set(folder, "search", found, split="test")
    card = folder / "search" / "card.yaml"
    card.write_text(card.read_text().replace("- pretrain", "- retrieval"))
    corpus.write_vocabulary(folder)
    write_labelled(folder, "acts", 2, ["video_classification", "audio_classification"])
    write_labelled(folder, "events", 1, ["audio_classification"], multi_label=True)
    return folder


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    """A run of two checkpoints, without evaluation."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    executor.run(test_pretrain.config(data_dir, folder))
    return folder


def config(data_dir, folder, run, names, **changes):
    cfg = test_pretrain.config(data_dir, folder, mode="eval", **changes)
    cfg.eval.input.name = tuple(names)
    cfg.checkpoint_path = str(run)
    return cfg


def evaluate(cfg):
    assert executor.run(cfg) == 0
    return json.loads((Path(cfg.model_dir) / "metrics.json").read_text())


def test_every_kind_of_set_is_evaluated(data_dir, run, tmp_path):
    cfg = config(data_dir, tmp_path / "out", run, ["search", "acts", "events"])
    metrics = evaluate(cfg)
    for name in ("acts", "acts@audio"):
        folds = [metrics[f"{name}_{fold}_test_top_1_accuracy"] for fold in (1, 2)]
        assert metrics[f"{name}_top_1_accuracy"] == pytest.approx(np.mean(folds))
        assert f"{name}_knn_top_1_accuracy" in metrics
        assert metrics[f"{name}_chance_top_1_accuracy"] == pytest.approx(1 / 3)
        assert 0 <= metrics[f"{name}_zero_shot_embd_top_1_accuracy"] <= 1
    assert {"events_0_test_mAP", "events_mAP", "events_knn_mAP"} <= metrics.keys()
    for direction in ("txt2vid", "vid2txt", "audio2vid", "vid2audio"):
        assert metrics[f"search_{direction}_embd_MeanRank"] >= 1
    assert np.isfinite(metrics["search_geometry_video_text_modality_gap"])
    folder = tmp_path / "out" / "eval"
    shown = artefacts.load(folder / "attention" / "search-6.npz")
    assert shown["video/attention"].shape == (5, 2, 2, 2)
    sums = shown["audio/attention"].astype(np.float64).reshape(5, -1).sum(axis=1)
    np.testing.assert_allclose(sums, 1, atol=1e-2)
    for name in ("acts-video", "acts-audio", "events-audio"):
        points = artefacts.load(folder / "projections" / f"{name}-6.npz")
        assert points["pca"].shape == (7, 2) and len(points["label"]) == 7
    assert "acts" in (tmp_path / "out" / "report.html").read_text()
    rows = map(json.loads, (tmp_path / "out" / "metrics.jsonl").read_text().splitlines())
    (row,) = [row for row in rows if row["split"] == "eval"]
    assert row["metrics"] | {"step": 6} == metrics
    found = [Measure.from_dict(fields) for fields in row["measures"]]
    assert {m.task for m in found} == {"retrieval", "geometry", "linear", "knn", "zero_shot"}
    names = published_names(found)
    assert names.keys() == row["metrics"].keys()
    for name, value in row["metrics"].items():
        assert names[name] == value or (value is None and np.isnan(names[name]))


def test_evaluators_by_name(data_dir, run, tmp_path):
    options = {"evaluators": ["knn"]}
    cfg = config(data_dir, tmp_path / "out", run, ["search", "acts"], eval=options)
    metrics = evaluate(cfg)
    assert "acts_knn_top_1_accuracy" in metrics and "acts_top_1_accuracy" not in metrics
    assert not any(name.startswith("search") or "zero_shot" in name for name in metrics)
    assert not (tmp_path / "out" / "eval" / "projections").exists()


def test_features_are_those_of_the_model_and_made_once(data_dir, run, tmp_path, monkeypatch):
    cfg = config(data_dir, tmp_path / "out", run, ["acts"], eval={"probes": ["knn"]})
    first = evaluate(cfg)
    kept = artefacts.load(tmp_path / "out" / "features" / "acts-video-test.npz")
    assert kept["pooled"].shape[:2] == (14, 2) and sorted(kept["index"]) == list(range(14))

    strategy = executor.strategies.build(cfg.strategy_config)
    model = pretrain.Pretrain.model(cfg, strategy)
    pretrain.transfer.load(run / "ckpt-6", model)
    batches = pipeline.evaluation_batches(cfg.eval.input, "acts", "test_2", data_dir=data_dir)
    batch = next(iter(batches.as_numpy_iterator()))
    windows = batch["video"].reshape(-1, *batch["video"].shape[2:])
    expected = model.video(windows, training=False)["features_pooled"].numpy()
    found = kept["pooled"][[kept["index"].tolist().index(7 + k) for k in batch["index"]]]
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-5)

    def fail(*args, **kwargs):
        raise AssertionError("features were made again")

    with monkeypatch.context() as patch:
        patch.setattr(features, "collect", fail)
        assert evaluate(cfg) == first
    other = config(
        data_dir, tmp_path / "out", run, ["acts"], eval={"input": {"num_windows_test": 3}}
    )
    evaluate(other)
    place = tmp_path / "out" / "evaluations" / "acts"  # another evaluation than the first one
    made = artefacts.load(place / "features" / "acts-video-test.npz")
    assert made["pooled"].shape[1] == 3


def test_augmentations_of_a_clip_are_one_group(data_dir, run, tmp_path):
    options = {"probes": ["linear"], "input": {"num_augmentation": 3}}
    evaluate(config(data_dir, tmp_path / "out", run, ["acts"], eval=options))
    kept = artefacts.load(tmp_path / "out" / "features" / "acts-video-train.npz")
    assert len(kept["index"]) == 3 * 2 * COUNT  # augmentations, folds
    joined = features.Features(
        **{name: kept[name] for name in ("pooled", "embedded", "labels", "index")}
    )
    for part in features.apart(joined, [np.arange(COUNT), COUNT + np.arange(COUNT)]):
        assert np.bincount(part.index).tolist() == [3] * COUNT
        labels = part.labels.argmax(axis=1)
        of_clip = [set(labels[part.index == clip]) for clip in range(COUNT)]
        assert sorted(map(list, of_clip)) == [[0]] * 4 + [[1]] * 4 + [[2]] * 4


def test_shards_that_splits_share_are_read_once(data_dir, run, tmp_path):
    folder = data_dir / "shared"
    shutil.copytree(data_dir / "acts", folder)
    card = cards.read(folder / "card.yaml")
    parts = {name: f"{name}-*" for name in ("train_1", "train_2", "test_1")}
    card.name = "shared"
    card.splits = {
        "train_1": cards.Split(pattern=[parts["train_2"], parts["test_1"]]),
        "test_1": cards.Split(pattern=parts["train_1"]),
        "train_2": cards.Split(pattern=[parts["train_1"], parts["test_1"]]),
        "test_2": cards.Split(pattern=parts["train_2"]),
    }
    cards.write(card, folder)
    cfg = config(data_dir, tmp_path / "out", run, ["shared"], eval={"probes": ["knn"]})
    evaluate(cfg)
    kept = artefacts.load(tmp_path / "out" / "features" / "shared-video-train.npz")
    assert sorted(kept["index"]) == list(range(2 * COUNT + 7))
    joined = features.Features(
        **{name: kept[name] for name in ("pooled", "embedded", "labels", "index")}
    )
    splits = ["train_1", "train_2"]
    parted = features.apart(joined, pipeline.split_rows(card, splits))
    for split, part in zip(splits, parted, strict=True):
        alone = list(
            pipeline.probe_batches(
                cfg.eval.input, "shared", split, "video", data_dir=data_dir
            ).as_numpy_iterator()
        )
        valid = np.concatenate([batch["valid"] for batch in alone]) > 0.5
        index, labels = (np.concatenate([b[k] for b in alone])[valid] for k in ("index", "label"))
        order, own = np.argsort(index), np.argsort(part.index)
        np.testing.assert_array_equal(part.index[own], index[order])
        np.testing.assert_array_equal(part.labels[own], labels[order])


@pytest.mark.slow
def test_features_on_two_replicas_are_those_on_one(data_dir, run, tmp_path, two_replicas):
    import tensorflow as tf

    found = []
    for strategy in (tf.distribute.OneDeviceStrategy("CPU:0"), two_replicas):
        folder = tmp_path / str(strategy.num_replicas_in_sync)
        cfg = config(data_dir, folder, run, ["acts", "events"], eval={"probes": ["knn"]})
        model = pretrain.Pretrain.model(cfg, strategy)
        pretrain.transfer.load(run / "ckpt-6", model)
        folder.mkdir()
        job = pretrain.Pretrain.evaluator(cfg, model, strategy, RunDir(folder))
        metrics = job.evaluate(6, "one and the same")
        kept = {path.name: artefacts.load(path) for path in (folder / "features").iterdir()}
        found.append((metrics, kept))
    (metrics, kept), (other_metrics, other) = found
    assert metrics == pytest.approx(other_metrics, nan_ok=True)
    assert kept.keys() == other.keys() and len(kept) == 6  # acts: both modalities
    for name, arrays in kept.items():
        folds = 2 if name.startswith("acts") else 1
        count = folds * (COUNT if name.endswith("train.npz") else 7)
        for both in (arrays, other[name]):  # 7 and 14 clips do not fill the last batch of 4
            assert sorted(both["index"]) == list(range(count))
        np.testing.assert_allclose(arrays["pooled"], other[name]["pooled"], atol=1e-5)


@pytest.mark.slow
def test_batch_size_and_published_probe(data_dir, run, tmp_path):
    results = []
    for size in (4, 3):
        options = {"probes": ["published_probe", "knn"], "input": {"batch_size": size}}
        cfg = config(data_dir, tmp_path / str(size), run, ["acts", "events"], eval=options)
        results.append(evaluate(cfg))
    undefined = [{name for name, x in found.items() if x is None} for found in results]
    assert undefined[0] == undefined[1]  # d-prime of a class in perfect order
    numbers = [{n: x for n, x in found.items() if x is not None} for found in results]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-5)
    assert "acts_1_test_published_probe_top_1_accuracy" in results[0]
    assert not any("events" in name and "published" in name for name in results[0])


def test_a_set_that_offers_nothing_is_refused(data_dir, run, tmp_path):
    with pytest.raises(DataError, match=r"'talk' serves.*retrieval, video_classification"):
        evaluate(config(data_dir, tmp_path / "out", run, ["talk"]))


# Where figures go ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_another_set_or_checkpoint_never_touches_the_figures_of_the_run(data_dir, run, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(run, own)
    cfg = test_pretrain.config(data_dir, own, mode="eval")
    first = evaluate(cfg)
    kept = {p: p.read_bytes() for p in own.glob("metrics.json*")} | {
        own / "report.html": (own / "report.html").read_bytes()
    }
    (record,) = [m for m in measures_of(own, 6) if m.name == "R10" and m.variant == "embd"][:1]
    assert (record.set, record.split, record.samples, record.gallery) == ("search", "test", 5, 5)
    assert record.checkpoint == fingerprint(own / "ckpt-6")

    other = config(data_dir, own, own / "ckpt-6", ["acts"], eval={"probes": ["knn"]})
    assert executor.run(other) == 0
    there = own / "evaluations" / "acts"
    assert "acts_knn_top_1_accuracy" in json.loads((there / "metrics.json").read_text())
    assert "acts" in (there / "report.html").read_text()
    assert yaml.safe_load((there / "config.yaml").read_text())["eval"]["input"]["name"] == ["acts"]
    windows = {"input": {"num_windows_test": 3}}
    assert executor.run(test_pretrain.config(data_dir, own, mode="eval", eval=windows)) == 0
    assert [m.samples for m in measures_of(own / "evaluations" / "search", 6)]
    elsewhere = config(data_dir, own, run, ["search"])
    assert executor.run(elsewhere) == 0
    assert (own / "evaluations" / "search-2" / "metrics.json").exists()
    assert {p: p.read_bytes() for p in kept} == kept
    assert executor.run(elsewhere) == 0 and not (own / "evaluations" / "search-3").exists()
    assert json.loads((own / "metrics.json").read_text()) == first


def measures_of(folder, step):
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    found = [row for row in rows if row["split"] == "eval" and row["step"] == step]
    return [Measure.from_dict(fields) for row in found for fields in row["measures"]]


# Vocabularies -------------------------------------------------------------------------------------


def test_a_model_is_only_evaluated_with_its_own_words(data_dir, run, tmp_path):
    words = (data_dir / "words.txt").read_text().split()
    assert (run / "vocabulary.txt").read_text().split() == words
    (tmp_path / "turned.txt").write_text("\n".join(words[:4] + words[:3:-1]))
    (tmp_path / "same.txt").write_text("".join(f"{n} {word}\n" for n, word in enumerate(words)))

    def given(name):
        clip = {"vocabulary": str(tmp_path / name)}
        return config(data_dir, tmp_path / "out", run, ["search"], eval={"input": clip})

    with pytest.raises(DataError, match=r"eval\.input\.vocabulary: .*turned\.txt \(\d+ words\)"):
        executor.run(given("turned.txt"))
    assert not (tmp_path / "out" / "metrics.json").exists()
    evaluate(given("same.txt"))
    alone = tmp_path / "alone"  # a checkpoint taken out of its run
    alone.mkdir()
    for file in run.glob("ckpt-6*"):
        shutil.copy(file, alone)
    cfg = given("turned.txt")
    cfg.checkpoint_path = str(alone / "ckpt-6")
    with pytest.raises(DataError, match="was trained with"):
        executor.run(cfg)
    (alone / "ckpt-6.json").unlink()  # a run from before: its config.yaml names the vocabulary
    manifest = json.loads((run / "ckpt-6.json").read_text())
    del manifest["vocabulary"]
    (alone / "ckpt-6.json").write_text(json.dumps(manifest))
    shutil.copy(run / "config.yaml", alone)
    with pytest.raises(DataError, match=r"words\.txt, \d+ words"):
        executor.run(cfg)


def test_a_run_moved_to_where_its_vocabulary_is_not_brings_it(data_dir, run, tmp_path):
    clip = {"vocabulary": str(tmp_path / "gone.txt")}
    cfg = config(data_dir, tmp_path / "out", run, ["search"], eval={"input": clip})
    assert evaluate(cfg)["search_num_clips"] == 5
    assert cfg.eval.input.vocabulary == str(run / "vocabulary.txt")


def test_training_goes_on_and_is_evaluated_with_the_same_words_only(data_dir, run, tmp_path):
    words = (data_dir / "words.txt").read_text().split()
    (tmp_path / "turned.txt").write_text("\n".join(words[:4] + words[:3:-1]))
    turned = {"input": {"vocabulary": str(tmp_path / "turned.txt")}}
    cfg = test_pretrain.config(data_dir, tmp_path / "new", mode="train_and_eval", eval=turned)
    with pytest.raises(DataError, match=r"train\.input, .*words\.txt"):
        executor.run(cfg)
    shutil.copytree(run, tmp_path / "copy")
    cfg = test_pretrain.config(data_dir, tmp_path / "copy", train=turned)
    with pytest.raises(UserError, match=r"vocabulary\.txt: differs"):
        executor.run(cfg, allow_config_change=True)
