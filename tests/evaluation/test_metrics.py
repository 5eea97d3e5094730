"""Ranking metrics against brute force and against the golden numbers of the published code."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tests.golden.checks import Note
from tests.golden.vatt.evaluation import metrics_file
from vatt.evaluation import metrics


@pytest.fixture(scope="module")
def golden(shared_dir):
    with np.load(shared_dir / "conformance" / "metrics.npz", allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def brute_force_rank(row: np.ndarray, target: int) -> int:
    order = sorted(range(len(row)), key=lambda column: (-row[column], column))
    return order.index(target) + 1


@pytest.mark.parametrize("seed", range(3))
def test_ranks_equal_a_stable_sort_even_with_many_ties(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, size=(13, 17)).astype(np.float32)
    targets = rng.integers(0, 17, size=13)
    expected = [brute_force_rank(row, target) for row, target in zip(scores, targets, strict=True)]
    np.testing.assert_array_equal(metrics.ranks(scores, targets), expected)
    top = metrics.top_columns(scores, 5)
    assert [(t in row) for t, row in zip(targets, top, strict=True)] == [e <= 5 for e in expected]


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_top_k_takes_the_end_of_an_ascending_sort(k):
    rng = np.random.default_rng(k)
    scores = rng.integers(0, 3, size=(40, 7)).astype(np.float32)
    labels = rng.integers(0, 7, size=(40, 1))
    best = np.argsort(scores, axis=1, kind="stable")[:, -k:]
    expected = np.mean((best == labels).any(axis=1))
    assert metrics.top_k_accuracy(scores, labels, k) == pytest.approx(expected)


def test_a_collapsed_model_is_at_chance():
    assert metrics.retrieval_metrics(np.zeros((50, 50))) == metrics.chance_metrics(50)


def test_nan_scores_give_nan_metrics_not_perfect_ones():
    scores = np.eye(6)
    scores[2, 4] = np.nan
    assert all(np.isnan(value) for value in metrics.retrieval_metrics(scores).values())
    assert np.isnan(metrics.top_k_accuracy(scores, np.arange(6), 1))
    assert np.isnan(metrics.attribute_top1(scores, {"a": ["x"] * 6})["a"])
    assert np.isnan(metrics.recall_at_k(np.zeros(0), 1))
    assert np.isnan(metrics.median_rank(np.zeros(0)))


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        metrics.ranks(np.zeros(3))
    with pytest.raises(ValueError, match="below 2"):
        metrics.ranks(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="'dot'"):
        metrics.similarity(np.zeros((2, 3)), np.zeros((2, 3)), "dot")
    with pytest.raises(ValueError, match="common space"):
        metrics.similarity(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="3 clips"):
        metrics.attribute_top1(np.zeros((3, 3)), {"shape": ["a", "b"]})


def test_windowed_queries_average_over_all_pairs_of_windows():
    rng = np.random.default_rng(0)
    queries, clips = rng.normal(size=(3, 2, 5)), rng.normal(size=(4, 6, 5))
    expected = np.zeros((3, 4))
    for i in range(3):
        for j in range(4):
            for a in queries[i]:
                for b in clips[j]:
                    expected[i, j] += a @ b / np.linalg.norm(a) / np.linalg.norm(b) / 12
    np.testing.assert_allclose(metrics.similarity(queries, clips, "cosine"), expected, atol=1e-6)


def test_one_window_is_normalised_unless_the_published_behaviour_is_asked_for():
    rng = np.random.default_rng(1)
    queries, clips = rng.normal(size=(3, 5)), rng.normal(size=(3, 1, 5))
    ours = metrics.similarity(queries, clips, "embd")
    np.testing.assert_allclose(ours, metrics.similarity(queries, clips, "cosine"), atol=1e-6)
    published = metrics.similarity(queries, clips, "embd", published_single_window=True)
    np.testing.assert_allclose(published, queries @ clips[:, 0].T, atol=1e-5)


@pytest.mark.parametrize("variant", ["embd", "cosine"])
def test_window_means_multiply_to_similarities(variant):
    rng = np.random.default_rng(2)
    queries, clips = rng.normal(size=(5, 2, 6)), rng.normal(size=(7, 3, 6))
    product = metrics.window_mean(queries, variant) @ metrics.window_mean(clips, variant).T
    np.testing.assert_array_equal(product, metrics.similarity(queries, clips, variant))
    with pytest.raises(ValueError, match="'dot'"):
        metrics.window_mean(queries, "dot")


def test_rank_metrics():
    values = metrics.rank_metrics(np.array([1, 1, 4, 10, 34.0]))
    assert values == {"R1": 0.4, "R5": 0.6, "R10": 0.8, "MedianRank": 4.0, "MeanRank": 10.0}
    assert np.isnan(metrics.mean_rank(np.zeros(0)))


def test_zero_vectors_stay_zero():
    assert not metrics.similarity(np.zeros((2, 3)), np.ones((2, 3))).any()


def test_attribute_top1_counts_the_best_match_only():
    scores = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0.0]])
    attributes = {
        "colour": ["red", "red", "blue", "green"],  # matches 1, 0, 3, 2
        "shape": ["ring", "box", None, "box"],  # query 2 does not count, match None is wrong
    }
    assert metrics.attribute_top1(scores, attributes) == {"colour": 0.5, "shape": 0.0}
    chance = metrics.attribute_chance(attributes)
    assert chance["colour"] == pytest.approx((4 + 1 + 1) / 16)
    assert chance["shape"] == pytest.approx((1 + 2 + 2) / 12)


def average_precision(scores, labels):
    """Mean over positives of the precision among everything scored at least as high."""
    return np.mean([labels[scores >= s].mean() for s in scores[labels == 1]])


def area_under_roc(scores, labels):
    """Share of (positive, negative) pairs in the right order; ties count half."""
    pairs = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    return np.mean((pairs > 0) + 0.5 * (pairs == 0))


@pytest.fixture
def ranking():
    """Scores with ties, 6 classes; class 1 has no positives and class 4 no negatives."""
    rng = np.random.default_rng(4)
    labels = (rng.uniform(size=(30, 6)) < 0.3).astype(np.float64)
    labels[:, 1], labels[:, 4] = 0, 1
    labels[0], labels[1] = [1, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 0]
    scores = np.round(rng.uniform(size=(30, 6)) + 0.3 * labels, 1).astype(np.float32)
    return scores, labels


def test_ranking_of_each_class_and_the_means(ranking):
    scores, labels = ranking
    by_class, means = metrics.multilabel_scores(*ranking), metrics.multilabel_metrics(*ranking)
    kept = [0, 2, 3, 5]
    expected = {
        "AP": [average_precision(scores[:, c], labels[:, c]) for c in kept],
        "AUC": [area_under_roc(scores[:, c], labels[:, c]) for c in kept],
    }
    expected["d-prime"] = 2**0.5 * stats.norm.ppf(expected["AUC"])
    for name, values in expected.items():
        np.testing.assert_allclose(by_class[name][kept], values, rtol=1e-12)
        assert np.isnan(by_class[name][[1, 4]]).all()
        mean = means["mAP" if name == "AP" else name]
        assert mean == pytest.approx(np.mean(values), rel=1e-12)
    assert means["classes_left_out"] == 2
    assert all(type(value) is float for value in means.values())


def test_perfect_and_perfectly_wrong_order(ranking):
    labels = ranking[1][:, [0, 2]]
    best, worst = (
        metrics.multilabel_metrics(labels, labels),
        metrics.multilabel_metrics(-labels, labels),
    )
    assert best == {"mAP": 1.0, "AUC": 1.0, "d-prime": np.inf, "classes_left_out": 0.0}
    assert (worst["AUC"], worst["d-prime"]) == (0.0, -np.inf)
    both = metrics.multilabel_metrics(labels * [1, -1], labels)
    assert both["AUC"] == 0.5 and np.isnan(both["d-prime"])


def test_d_prime_against_scipy():
    areas = np.array([[0.5, 0.9, 1e-9], [1 - 1e-9, 0.3, np.nan]])
    expected = np.sqrt(2) * stats.norm.ppf(areas)
    np.testing.assert_allclose(metrics.d_prime(areas), expected, rtol=1e-12, atol=1e-15)


def test_broken_scores_and_sets_without_ranking(ranking):
    scores, labels = ranking
    scores[3, 2] = np.nan
    by_class, means = (
        metrics.multilabel_scores(scores, labels),
        metrics.multilabel_metrics(scores, labels),
    )
    assert np.isnan(by_class["AP"]).tolist() == [False, True, True, False, True, False]
    assert np.isnan([means[name] for name in ("mAP", "AUC", "d-prime")]).all()
    assert means["classes_left_out"] == 2
    scores[3, 1] = scores[3, 2]
    scores[3, 2] = 0.0  # a NaN in a class that does not count
    assert np.isfinite(metrics.multilabel_metrics(scores, labels)["mAP"])
    nothing = metrics.multilabel_metrics(np.zeros((3, 2)), np.zeros((3, 2)))
    assert np.isnan(nothing["mAP"]) and nothing["classes_left_out"] == 2
    with pytest.raises(ValueError, match="other than 0 and 1"):
        metrics.multilabel_metrics(np.zeros((3, 2)), np.full((3, 2), 0.1))
    with pytest.raises(ValueError, match=r"\(3, 2\) and labels \(3, 1\)"):
        metrics.multilabel_metrics(np.zeros((3, 2)), np.zeros((3, 1)))


def test_golden_file(golden):
    checks = list(metrics_file(golden))
    assert [check for check in checks if not check.passed] == []
    assert {check.name for check in checks} == {name for name in golden if "/out:" in name}


def test_wrong_and_unknown_numbers_are_noticed(golden):
    outputs = [name for name in golden if "/out:" in name]
    wrong = {**golden, **{name: golden[name] + 1e-3 for name in outputs}}
    assert not [check.name for check in metrics_file(wrong) if check.passed]
    unknown = {"ret_9/out:p_R1": golden["ret_9/out:p_R1"], "new/out:x": np.zeros(())}
    unknown |= {"ret_9/in:similarity": golden["ret_9/in:similarity"]}
    assert [c.name for c in metrics_file(unknown) if not c.passed] == [
        "new/out:x: nothing recomputes it"
    ]


def test_published_nan_is_a_note_only_where_a_class_cannot_be_ranked(ranking):
    scores, labels = ranking
    arrays = {"ml/in:pred": scores, "ml/in:gt": labels, "ml/out:sklearn_mAP": np.array(np.nan)}
    check, note = metrics_file(arrays)
    assert check.passed and isinstance(note, Note) and "2 classes" in note.text
    kept = [0, 2, 3, 5]
    arrays |= {"ml/in:pred": scores[:, kept], "ml/in:gt": labels[:, kept]}
    assert [check.passed for check in metrics_file(arrays)] == [False]


@pytest.mark.parametrize("case", ["ret_9", "ret_30"])
def test_golden_retrieval(golden, case):
    ours = metrics.retrieval_metrics(golden[f"{case}/in:similarity"])
    assert ours.pop("MeanRank") == np.mean(metrics.ranks(golden[f"{case}/in:similarity"]))
    for name, value in ours.items():
        assert value == golden[f"{case}/out:p_{name}"]


@pytest.mark.parametrize("case", ["acc_12", "acc_4"])
@pytest.mark.parametrize("k", [1, 5])
def test_golden_top_k_accuracy(golden, case, k):
    ours = metrics.top_k_accuracy(golden[f"{case}/in:pred"], golden[f"{case}/in:gt"], k)
    assert ours == pytest.approx(float(golden[f"{case}/out:test_top{k}"]), abs=1e-12)


@pytest.mark.parametrize("norm", [0, 1])
@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("single", "embd"),
        ("single_avgsim_flags", "cosine"),
        ("avg_sim", "cosine"),
        ("avg_emb", "embd"),
    ],
)
def test_golden_similarity(golden, name, variant, norm):
    single = name.startswith("single")
    clips = golden["sim/in:video_1" if single else "sim/in:video_W"]
    clips = clips.reshape(7, -1, clips.shape[-1])  # windows of a clip are neighbours
    ours = metrics.similarity(
        golden["sim/in:embd"], clips, variant, normalized=bool(norm), published_single_window=True
    )
    np.testing.assert_allclose(ours, golden[f"sim/out:{name}_norm{norm}"], rtol=0, atol=2e-6)
