"""Ranking metrics against brute force and against the golden numbers of the published code."""

from __future__ import annotations

import numpy as np
import pytest

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


def test_a_collapsed_model_is_at_chance():
    assert metrics.retrieval_metrics(np.zeros((50, 50))) == metrics.chance_metrics(50)


def test_nan_scores_give_nan_metrics_not_perfect_ones():
    scores = np.eye(6)
    scores[2, 4] = np.nan
    assert all(np.isnan(value) for value in metrics.retrieval_metrics(scores).values())
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


@pytest.mark.parametrize("case", ["ret_9", "ret_30"])
def test_golden_retrieval(golden, case):
    ours = metrics.retrieval_metrics(golden[f"{case}/in:similarity"])
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
