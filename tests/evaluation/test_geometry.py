"""Geometry of embeddings against direct sums, known arrangements and sklearn."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from vatt.evaluation import geometry, metrics


def test_pair_geometry_against_sums_over_clips_and_pairs():
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(20, 3, 7)), 1 + rng.normal(size=(20, 7))
    values = geometry.pair_geometry(left, right)
    a = [x / np.linalg.norm(x) for x in left.mean(axis=1)]
    b = [x / np.linalg.norm(x) for x in right]
    gap = np.linalg.norm(sum(a) / 20 - sum(b) / 20)
    assert values["modality_gap"] == pytest.approx(gap, rel=1e-5)
    alignment = np.mean([np.linalg.norm(x - y) ** 2 for x, y in zip(a, b, strict=True)])
    assert values["alignment"] == pytest.approx(alignment, rel=1e-5)
    for name, x in (("left", a), ("right", b)):
        pairs = [np.exp(-2 * np.sum((x[i] - x[j]) ** 2)) for i in range(20) for j in range(i)]
        assert values[f"uniformity_{name}"] == pytest.approx(np.log(np.mean(pairs)), rel=1e-5)


def test_known_arrangements():
    one = np.tile([3.0, 0, 0], (9, 1))
    collapsed = geometry.pair_geometry(one, one)
    assert collapsed == {
        "modality_gap": 0.0, "alignment": 0.0, "uniformity_left": 0.0, "uniformity_right": 0.0,
    }  # fmt: skip
    opposite = geometry.pair_geometry(one, -one)
    assert (opposite["modality_gap"], opposite["alignment"]) == (2.0, 4.0)
    rng = np.random.default_rng(1)
    spread = rng.normal(size=(500, 512))
    values = geometry.pair_geometry(spread, rng.permutation(spread))
    assert values["modality_gap"] == pytest.approx(0, abs=1e-6)  # the same points, other partners
    assert values["alignment"] == pytest.approx(2, abs=0.05)
    assert -4.05 < values["uniformity_left"] < -3.9


def test_large_sets_are_sampled_and_broken_ones_are_nan(monkeypatch):
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(600, 16))
    exact = geometry.pair_geometry(vectors, vectors)["uniformity_left"]
    monkeypatch.setattr(geometry, "UNIFORMITY_ROWS", 200)
    sampled = geometry.pair_geometry(vectors, vectors)
    assert sampled["uniformity_left"] == pytest.approx(exact, abs=0.1)
    assert sampled["uniformity_left"] != exact
    assert sampled == geometry.pair_geometry(vectors, vectors)
    vectors[:] = np.nan
    assert np.isnan(list(geometry.pair_geometry(vectors, vectors).values())).all()
    assert np.isnan(list(geometry.pair_geometry(vectors[:0], vectors[:0]).values())).all()
    with pytest.raises(ValueError, match=r"\(600, 16\) and \(5, 16\)"):
        geometry.pair_geometry(vectors, vectors[:5])


def test_pca_is_that_of_the_covariance():
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(100, 6)) * [5, 3, 1, 1, 1, 1]
    view = geometry.project(vectors)
    unit = metrics.normalize(vectors)
    values, axes = np.linalg.eigh(np.cov(unit.T))
    expected = (unit - unit.mean(axis=0)) @ axes[:, ::-1][:, :2]
    np.testing.assert_allclose(np.abs(view.points), np.abs(expected), atol=1e-5)
    np.testing.assert_allclose(view.explained, values[::-1][:2] / values.sum(), rtol=1e-4)
    assert view.rows.tolist() == list(range(100))


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_projections_keep_classes_together_and_depend_on_the_seed_alone(method):
    rng = np.random.default_rng(4)
    labels = np.arange(90) % 3
    vectors = np.eye(3, 20)[labels][:, None] + 0.1 * rng.normal(size=(90, 2, 20))
    view = geometry.project(vectors, method, seed=5, most=60)
    again = geometry.project(vectors, method, seed=5, most=60)
    np.testing.assert_array_equal(view.points, again.points)
    assert view.points.shape == (60, 2) and (np.diff(view.rows) > 0).all()
    chosen = labels[view.rows]
    distances = np.linalg.norm(view.points[:, None] - view.points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (chosen[distances.argmin(axis=1)] == chosen).all()
    assert np.isnan(view.explained).all() == (method == "tsne")
    assert (geometry.project(vectors, method, seed=6, most=60).rows != view.rows).any()


def test_small_and_degenerate_sets():
    for method in ("pca", "tsne"):
        small = geometry.project(np.random.default_rng(0).normal(size=(4, 3)), method)
        assert small.points.shape == (4, 2) and np.isfinite(small.points).all()
        collapsed = geometry.project(np.ones((10, 5)), method)  # sklearn's t-SNE crashes on that
        np.testing.assert_allclose(collapsed.points, 0, atol=1e-6)
        twins = geometry.project(np.eye(5)[np.arange(20) % 2], method)
        assert np.isfinite(twins.points).all()
        with pytest.raises(ValueError, match="3 embeddings"):
            geometry.project(np.ones((3, 5)), method)
    assert geometry.project(np.linspace(-1, 1, 8)[:, None]).points.shape == (8, 2)
    with pytest.raises(ValueError, match="not finite"):
        geometry.project(np.full((9, 2), np.nan))
    with pytest.raises(ValueError, match="'umap'"):
        geometry.project(np.ones((9, 2)), "umap")


def test_large_sets_are_never_held_in_float64(monkeypatch):
    monkeypatch.setattr(geometry, "BLOCK_ROWS", 100)
    monkeypatch.setattr(geometry, "UNIFORMITY_ROWS", 50)
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((2, 40_000, 16), np.float32)
    tracemalloc.start()
    found = geometry.pair_geometry(left, right)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < left.nbytes
    unit = [x / np.linalg.norm(x.astype(float), axis=1)[:, None] for x in (left, right)]
    gap = np.linalg.norm(unit[0].mean(axis=0) - unit[1].mean(axis=0))
    alignment = np.square(unit[0] - unit[1]).sum(axis=1).mean()
    assert found["modality_gap"] == pytest.approx(gap, rel=1e-5)
    assert found["alignment"] == pytest.approx(alignment, rel=1e-5)
