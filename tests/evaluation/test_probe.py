"""Probes against autodiff, brute force, scikit-learn's own estimators and what must hold."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from vatt.errors import DataError
from vatt.evaluation import logistic, metrics, probe, published_classifier
from vatt.evaluation.measures import published_names
from vatt.evaluation.probe_set import probe_set


def make(classes=4, train=80, test=40, windows=3, d=12, separation=1.5, seed=0):
    """Features around one centre per class and labels as one-hot rows."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, d)) * separation
    train_labels, test_labels = (rng.permutation(np.arange(n) % classes) for n in (train, test))
    rows = centres[train_labels] + rng.normal(size=(train, d))
    clips = centres[test_labels][:, None] + rng.normal(size=(test, windows, d))
    return rows, np.eye(classes)[train_labels], clips, np.eye(classes)[test_labels]


def make_multi(train=120, test=60, windows=2, classes=5, d=10, seed=1):
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(d, classes))
    rows, clips = rng.normal(size=(train, d)), rng.normal(size=(test, 1, d))
    clips = clips + 0.3 * rng.normal(size=(test, windows, d))
    labels = [(x @ directions > 1.5).astype(int) for x in (rows, clips.mean(axis=1))]
    return rows, labels[0], clips, labels[1]


QUICK = {"published_probe": lambda data: probe.published_probe(data, epochs=60)}


def run(name, data):
    return QUICK.get(name, probe.PROBES[name])(data)


# -- all probes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "infix"), [("linear", ""), ("published_probe", "published_probe_"), ("knn", "knn_")]
)
def test_separable_classes_are_told_apart_and_names_are_the_published_ones(name, infix):
    data = probe_set("set", *make(classes=6, separation=6.0))
    result = run(name, data)
    assert result.train == result.test == {f"top_{k}_accuracy": 1.0 for k in (1, 5)}
    found = probe.fold_measures(result, "hmdb51", "2", "video")
    assert published_names(found) == {
        f"hmdb51_2_{split}_{infix}top_{k}_accuracy": 1.0
        for split in ("train", "test")
        for k in (1, 5)
    } | {f"hmdb51_chance_top_{k}_accuracy": pytest.approx(k / 6) for k in (1, 5)}
    assert {(m.split, m.samples) for m in found} == {("train", 80), ("test", 40)}
    assert result.probabilities.shape == (40, 6)
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1.0, rtol=1e-5)
    assert result.chance["top_1_accuracy"] == pytest.approx(1 / 6)
    assert result.record["training_clips"] == 80 and result.record["windows"] == 3


@pytest.mark.parametrize("name", ["linear", "knn"])
def test_random_features_stay_near_chance(name):
    rng = np.random.default_rng(3)
    labels = np.eye(5)[rng.integers(0, 5, 700)]
    features = rng.normal(size=(700, 1, 16))
    data = probe_set("noise", features[:200], labels[:200], features[200:], labels[200:])
    accuracy = run(name, data).test["top_1_accuracy"]
    assert abs(accuracy - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 500)


@pytest.mark.parametrize("name", list(probe.PROBES))
def test_same_seed_same_figures_and_the_order_of_test_clips_does_not_matter(name):
    arrays = make(separation=0.5)
    result = run(name, probe_set("set", *arrays))
    again = run(name, probe_set("set", *arrays))
    np.testing.assert_array_equal(result.probabilities, again.probabilities)
    order = np.random.default_rng(0).permutation(40)
    rows, train_labels, clips, labels = arrays
    shuffled = run(name, probe_set("set", rows, train_labels, clips[order], labels[order]))
    np.testing.assert_allclose(shuffled.probabilities, result.probabilities[order], atol=1e-6)
    assert shuffled.test == pytest.approx(result.test)
    assert shuffled.train == pytest.approx(result.train)
    assert shuffled.record == result.record


@pytest.mark.parametrize("name", list(probe.PROBES))
def test_probabilities_are_averaged_over_windows(name, monkeypatch):
    rows, train_labels, clips, labels = make(separation=0.5)
    averaged = run(name, probe_set("set", rows, train_labels, clips, labels)).probabilities
    flat = probe_set(
        "set", rows, train_labels, clips.reshape(-1, 1, 12), np.repeat(labels, 3, axis=0)
    )
    by_window = run(name, flat).probabilities.reshape(40, 3, 4)
    np.testing.assert_allclose(averaged, by_window.mean(axis=1), atol=1e-6)
    monkeypatch.setattr(probe, "CLIPS_AT_ONCE", 7)
    monkeypatch.setattr(probe, "SIMILARITIES_AT_ONCE", 3 * 80)
    parts = run(name, probe_set("set", rows, train_labels, clips, labels)).probabilities
    np.testing.assert_allclose(parts, averaged, atol=1e-6)


@pytest.mark.parametrize("name", list(probe.PROBES))
def test_classes_absent_from_either_split_keep_their_place(name):
    rows, train_labels, clips, labels = make(classes=4, separation=6.0)
    wide = [np.insert(x, [1, 4], 0, axis=1) for x in (train_labels, labels)]  # 0 . 1 2 3 .
    wide[1][0] = np.eye(6)[5]  # a test clip of a class that nothing taught
    result = run(name, probe_set("gaps", rows, wide[0], clips, wide[1]))
    assert result.test["top_1_accuracy"] == pytest.approx(39 / 40)
    assert result.record["classes"] == 6 and result.record["classes_not_in_training"] == 2
    assert result.record["test_clips_of_those"] == 1
    few = np.flatnonzero(labels.argmax(axis=1) < 2)  # classes that are not in the test split
    fewer = run(name, probe_set("gaps", rows, train_labels, clips[few], labels[few]))
    assert list(fewer.test.values()) == [1.0, 1.0]


def test_averages_over_folds_are_of_the_test_figures():
    results = [
        probe.ProbeResult(
            "knn",
            train={"x": 9.0},
            test={"top_1_accuracy": value},
            chance={"top_1_accuracy": 0.25},
            record={"test_clips": 40},
            probabilities=np.zeros(0),
        )
        for value in (0.2, 0.3, 0.7)
    ]
    (mean,) = probe.mean_measures(results, "ucf101", "video")
    assert published_names([mean]) == {
        "ucf101_knn_top_1_accuracy": pytest.approx(0.4),
        "ucf101_knn_top_1_accuracy_std": pytest.approx(np.sqrt((0.04 + 0.01 + 0.09) / 2)),
        "ucf101_chance_top_1_accuracy": 0.25,
    }
    assert (mean.split, mean.fold, mean.samples) == ("", "", 120)
    assert probe.mean_measures([], "ucf101", "video") == []
    other = probe.ProbeResult("linear", {}, {}, {}, {}, np.zeros(0))
    with pytest.raises(ValueError, match="one probe"):
        probe.mean_measures([*results, other], "ucf101", "video")


def test_unusable_sets_are_named():
    rows, train_labels, clips, labels = make()

    def refused(match, *arrays, **options):
        with pytest.raises(DataError, match=match):
            probe_set("toy_actions", *arrays, **options)

    broken, endless, unlabelled = clips.copy(), rows.copy(), train_labels.copy()
    broken[[4, 9], 1, 3], endless[79], unlabelled[3] = np.nan, np.inf, 0
    refused("toy_actions: .* 2 of 40 test clips .* number 4", rows, train_labels, broken, labels)
    refused("1 of 80 training clips .* number 79", endless, train_labels, clips, labels)
    refused("1 of 80 training clips have no label, .* number 3", rows, unlabelled, clips, labels)
    one = np.eye(4)[np.zeros(80, int)]
    refused("clips of 1 class", rows, one, clips, labels)
    refused("the test split has no clip", rows, train_labels, clips[:0], labels[:0])
    refused("the training split has no clip", rows[:0], train_labels[:0], clips, labels)
    refused("40 of 40 test clips have several labels", rows, train_labels, clips, np.ones((40, 4)))
    refused("other than 0 and 1", rows, train_labels * 0.9, clips, labels)
    refused("one clip", rows, train_labels, clips, labels, groups=np.full(80, 7))
    with pytest.raises(ValueError, match=r"\[clips, classes\]"):
        probe_set("x", rows, train_labels, clips, labels[:, :3])
    with pytest.raises(ValueError, match=r"\[clips, windows, d\]"):
        probe_set("x", rows[:, :5], train_labels, clips, labels)


# -- linear ------------------------------------------------------------------------------------


def test_linear_probe_is_the_minimum_of_its_objective():
    """The gradient of the penalised loss, in float64, vanishes at what the probabilities imply."""
    data = probe_set("set", *make(separation=0.7))
    result = probe.linear_probe(data)
    strength = result.record["C"]
    scaled = (data.train - data.train.mean(axis=0)) / data.train.std(axis=0)
    model = logistic.LogisticRegression(4, False)
    model.fit(np.log10(strength), scaled.astype(np.float32), data.train_labels)
    weights = model._model.coef_.astype(np.float64)
    residual = model.predict(scaled) - np.eye(4)[data.train_labels]  # [rows, classes]
    slope = strength * residual.T @ scaled + weights
    assert np.abs(slope).max() < 1e-3 * np.abs(weights).max()
    assert np.abs(residual.mean(axis=0)).max() < 1e-4  # no penalty on the biases
    assert result.record["converged"] and result.record["folds"] == 5
    clips = (data.test - data.train.mean(axis=0)) / data.train.std(axis=0)
    expected = model.predict(clips.reshape(-1, 12)).reshape(40, 3, 4).mean(axis=1)
    np.testing.assert_allclose(result.probabilities, expected, atol=1e-4)


def test_c_is_the_best_of_a_grid_by_held_out_accuracy_of_the_training_split():
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    rows, train_labels, clips, labels = make(train=60, d=30, separation=0.35, seed=5)
    data = probe_set("set", rows, train_labels, clips, labels)
    chosen = probe.linear_probe(data)
    scaled = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    truth = data.train_labels

    def accuracy(strength):
        right = 0
        for train, held in StratifiedKFold(5, shuffle=True, random_state=1).split(scaled, truth):
            model = LogisticRegression(C=strength, tol=1e-8, max_iter=5000)
            right += (model.fit(scaled[train], truth[train]).predict(scaled[held]) ==
                      truth[held]).sum()  # fmt: skip
        return right / len(truth)

    one_clip = 1 / 60 + 1e-9  # on the border, which the precision of the solver decides
    coarse = [accuracy(10.0**exponent) for exponent in logistic.COARSE]
    assert chosen.record["held_out_score"] >= max(coarse) - one_clip > min(coarse) + one_clip
    assert abs(accuracy(chosen.record["C"]) - chosen.record["held_out_score"]) <= one_clip
    # Nothing of the test split has a say.
    other = probe.linear_probe(probe_set("set", rows, train_labels, -clips, labels[::-1]))
    assert other.record["C"] == chosen.record["C"]


def test_scale_and_offset_of_features_do_not_matter_and_constant_ones_are_ignored():
    rows, train_labels, clips, labels = make(separation=0.7)
    expected = probe.linear_probe(probe_set("set", rows, train_labels, clips, labels))
    factor, offset = np.geomspace(1e-2, 1e2, 12), np.linspace(-3, 3, 12)
    constant = [np.full((80, 1), 7.0), np.full((40, 3, 1), 7.0)]
    constant[1][0] = -1e4  # what was constant in training says nothing
    moved = probe_set(
        "set",
        np.concatenate([rows * factor + offset, constant[0]], axis=-1),
        train_labels,
        np.concatenate([clips * factor + offset, constant[1]], axis=-1),
        labels,
    )
    found = probe.linear_probe(moved)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=2e-3)
    assert found.record["C"] == expected.record["C"]


def test_folds_keep_the_augmentations_of_a_clip_together_and_hold_out_each_once():
    rows, train_labels, clips, labels = make(train=40)
    groups = np.repeat(np.arange(40) + 100, 3)
    repeated = [np.repeat(x, 3, axis=0) for x in (rows, train_labels)]
    data = probe_set("set", *repeated, clips, labels, groups=groups)
    folds = logistic.held_out_rows(data.train_labels, data.groups, multi_label=False, seed=1)
    assert len(folds) == 5
    np.testing.assert_array_equal(np.sum(folds, axis=0), 1)
    for held in folds:
        np.testing.assert_array_equal(held.reshape(40, 3).min(axis=1), held[::3])
        assert np.bincount(data.train_labels[held]).tolist() == [6, 6, 6, 6]
    assert probe.linear_probe(data).record["training_clips"] == 40


def test_small_classes_limit_the_folds():
    rows, train_labels, clips, labels = make(classes=3, train=30)
    truth = train_labels.argmax(axis=1)

    def record(*counts):
        kept = np.concatenate([np.flatnonzero(truth == c)[:n] for c, n in enumerate(counts)])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            data = probe_set("few", rows[kept], train_labels[kept], clips, labels)
            return probe.linear_probe(data).record

    assert record(10, 10, 3)["folds"] == 3
    assert record(10, 10, 1)["folds"] == 2  # the odd clip is in the one fold or in the other
    alone = record(1, 1, 1)
    assert (alone["folds"], alone["C"]) == (0, 1.0) and np.isnan(alone["held_out_score"])


def test_large_sets_hold_out_one_fold(monkeypatch):
    data = probe_set("set", *make())
    monkeypatch.setattr(probe, "CROSS_VALIDATED_SIZE", data.train.size * 4 - 1)
    result = probe.linear_probe(data)
    assert result.record["folds"] == 1 and result.record["converged"]


def test_a_probe_that_did_not_converge_says_so(monkeypatch, caplog):
    monkeypatch.setattr(logistic, "MOST_ITERATIONS", 2)
    data = probe_set("toy_actions", *make(separation=0.5))
    with warnings.catch_warnings(), caplog.at_level("WARNING", logger="absl"):
        warnings.simplefilter("error")
        result = probe.linear_probe(data)
    assert result.record["converged"] is False and result.record["iterations"] == 2
    assert "toy_actions: the linear probe did not converge in 2 iterations" in caplog.text


# -- several labels ----------------------------------------------------------------------------


def test_several_labels_are_one_regression_per_class():
    from sklearn.linear_model import LogisticRegression

    data = probe_set("tags", *make_multi(), multi_label=True)
    result = probe.linear_probe(data)
    scaled = (data.train - data.train.mean(axis=0)) / data.train.std(axis=0)
    clips = ((data.test - data.train.mean(axis=0)) / data.train.std(axis=0)).reshape(-1, 10)
    expected = np.stack(
        [
            LogisticRegression(C=result.record["C"], tol=1e-8, max_iter=5000)
            .fit(scaled, data.train_labels[:, column])
            .predict_proba(clips)[:, 1]
            for column in range(5)
        ],
        axis=1,
    )
    expected = expected.reshape(60, 2, 5).mean(axis=1)
    np.testing.assert_allclose(result.probabilities, expected, atol=2e-3)
    values = metrics.multilabel_metrics(result.probabilities, data.test_labels)
    for name in ("mAP", "AUC", "d-prime"):
        assert result.test[name] == values[name]
    assert result.test["mAP"] > 0.9 > 2 * result.chance["mAP"]
    names = published_names(probe.fold_measures(result, "tags", "1", "audio"))
    assert names.keys() >= {"tags_1_test_mAP", "tags_1_train_mAP"}


def test_several_labels_with_the_other_probes():
    data = probe_set("tags", *make_multi(), multi_label=True)
    with pytest.raises(DataError, match=r"tags: the published probe .* linear probe and k-NN"):
        probe.published_probe(data)
    result = probe.knn_probe(data)
    assert result.test["mAP"] > 1.5 * result.chance["mAP"]
    assert result.probabilities.min() >= 0 and result.probabilities.max() <= 1 + 1e-6


def test_clips_without_a_label_and_classes_without_a_clip_are_fine_with_several_labels():
    rows, train_labels, clips, labels = make_multi()
    train_labels[:7], train_labels[:, 2], labels[:, 4] = 0, 0, 0
    data = probe_set("tags", rows, train_labels, clips, labels, multi_label=True)
    for run_probe in (probe.linear_probe, probe.knn_probe):
        result = run_probe(data)
        assert result.record["classes_not_in_training"] == 1
        assert result.record["classes_left_out_of_test"] == 1
        assert not np.isnan([*result.train.values(), *result.test.values()]).any()


# -- published ---------------------------------------------------------------------------------


def test_published_probe_against_autodiff_and_the_adam_of_keras():
    import keras
    import tensorflow as tf

    data = probe_set("set", *make(train=70, classes=3))
    ours = published_classifier.train(
        data.train, data.train_labels, classes=3, random=np.random.default_rng(4), epochs=3
    )
    random = np.random.default_rng(4)
    kernels = [published_classifier.glorot_normal(shape, random) for shape in ((12, 128), (128, 3))]
    hidden = keras.layers.Dense(128)
    output = keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.1))
    hidden.build((None, 12)), output.build((None, 128))
    hidden.kernel.assign(kernels[0]), output.kernel.assign(kernels[1])
    optimizer = keras.optimizers.Adam(5e-4, epsilon=1e-7)
    variables = [hidden.kernel, hidden.bias, output.kernel, output.bias]
    for _ in range(3):
        order = random.permutation(70)
        for batch in (order[:64], order[64:]):
            kept = random.random((len(batch), 128), np.float32) >= 0.9
            with tf.GradientTape() as tape:
                z = hidden(data.train[batch]) * (kept * np.float32(10))
                loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(
                    data.train_labels[batch], output(z)
                )
                loss += tf.add_n(output.losses)
            slopes = tape.gradient(loss, [v.value for v in variables])
            optimizer.apply(slopes, variables)
    for name, variable in zip(("kernel_1", "bias_1", "kernel_2", "bias_2"), variables, strict=True):
        np.testing.assert_allclose(ours[name], variable.numpy(), atol=2e-6, err_msg=name)
        assert np.abs(ours[name]).max() > 1e-4


def test_glorot_normal_is_cut_off_and_has_its_variance():
    values = published_classifier.glorot_normal((400, 128), np.random.default_rng(0))
    deviation = np.sqrt(2 / 528)
    assert values.std() == pytest.approx(deviation, rel=0.02)
    assert np.abs(values).max() <= 2 * deviation / 0.8796


def test_seeds_of_the_published_probe_differ():
    data = probe_set("set", *make(separation=0.5))
    one, two = (probe.published_probe(data, seed=s, epochs=2).probabilities for s in (1, 2))
    assert np.abs(one - two).max() > 1e-3


# -- k-NN --------------------------------------------------------------------------------------


def test_knn_against_brute_force():
    rows, train_labels, clips, labels = make(train=25, test=9, windows=2, separation=0.4)
    data = probe_set("set", rows, train_labels, clips, labels)
    found = probe.knn_probe(data, neighbours=4, temperature=0.2).probabilities

    def shares(query):
        cosine = np.array([query @ r / np.linalg.norm(query) / np.linalg.norm(r) for r in rows])
        votes = np.zeros(4)
        for row in sorted(range(25), key=lambda row: -cosine[row])[:4]:
            votes[data.train_labels[row]] += np.exp(cosine[row] / 0.2)
        return votes / votes.sum()

    expected = [np.mean([shares(window) for window in clip], axis=0) for clip in clips]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_clip_does_not_vote_for_itself():
    rng = np.random.default_rng(0)
    clips = rng.normal(size=(30, 16))
    rows = np.repeat(clips, 2, axis=0)  # two augmentations that are equal
    labels = np.eye(3)[rng.integers(0, 3, 30)]
    data = probe_set(
        "set", rows, np.repeat(labels, 2, axis=0), clips, labels, groups=np.arange(60) // 2
    )
    result = probe.knn_probe(data, neighbours=1)
    assert result.test["top_1_accuracy"] == 1.0  # the test clips are the training clips
    assert result.train["top_1_accuracy"] < 0.8


def test_more_neighbours_than_clips():
    data = probe_set("set", *make(train=8, separation=6.0))
    result = probe.knn_probe(data, neighbours=500)
    assert result.record["neighbours"] == 8
    assert result.test["top_1_accuracy"] == 1.0
