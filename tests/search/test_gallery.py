"""The windows of an index, ranked: against a whole table of products, ties, damage."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from vatt.api import index
from vatt.errors import DataError, UserError
from vatt.search.gallery import Gallery, clock


def write(path, vectors, file, names=None, **more):
    file = np.asarray(file)
    count = int(file.max(initial=-1)) + 1
    starts = np.arange(len(file)) * 2.0
    arrays = {
        "recipe": np.array(json.dumps({"model": "m", "step": 3})),
        "files": np.array(names or [f"/f/{n}.mp4" for n in range(count)], dtype=np.str_),
        "versions": np.zeros((count, 2), np.int64),
        "failures": np.array([], dtype=np.str_).reshape(0, 2),
        "notices": np.array([], dtype=np.str_).reshape(0, 2),
        "video/file": file,
        "video/starts": starts,
        "video/ends": starts + 1,
        "video/s": vectors,
    }
    np.savez(path, **arrays | more)
    return Gallery(path)


@pytest.fixture
def random():
    return np.random.default_rng(5)


def test_a_name_that_is_none_is_told_with_the_nearest(tmp_path, random):
    write(tmp_path / "talks.npz", random.normal(size=(2, 3)).astype("f4"), [0, 0])
    with pytest.raises(DataError) as error:
        Gallery(tmp_path / "talk.npz")
    said = f"{tmp_path / 'talk.npz'}: no index of embeddings (No such file or directory)."
    assert str(error.value) == f"{said} Did you mean '{tmp_path / 'talks.npz'}'?"


@pytest.mark.parametrize("shuffled", [False, True])
def test_hits_are_those_of_the_whole_table(tmp_path, random, shuffled):
    vectors = random.standard_normal((500, 16)).astype(np.float32) * random.uniform(1, 9, (500, 1))
    file = np.sort(random.integers(0, 90, 500))
    if shuffled:
        file = random.permutation(file)
    gallery = write(tmp_path / "a.npz", vectors.astype(np.float32), file)
    query = random.standard_normal(16)
    query /= np.linalg.norm(query)
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1)
    every = np.argsort(-cosines)
    hits = gallery.find("video", "s", query, 20, every=True)
    assert [hit.start for hit in hits] == (every[:20] * 2.0).tolist()
    np.testing.assert_allclose([hit.score for hit in hits], cosines[every[:20]], atol=2e-7)
    best = list(dict.fromkeys(file[every].tolist()))[:20]
    hits = gallery.find("video", "s", query, 20)
    assert [hit.number for hit in hits] == best
    assert [hit.file for hit in hits] == [f"/f/{n}.mp4" for n in best]
    for hit in hits:
        assert hit.score == pytest.approx(cosines[file == hit.number].max(), abs=2e-7)
        assert (hit.start, hit.end) == (2.0 * np.argmax(np.where(file == hit.number, cosines, -9)),
                                        hit.start + 1)  # fmt: skip
    assert len(gallery.find("video", "s", query, 1000)) == len(set(file.tolist()))


def test_equal_windows_stand_in_the_order_of_the_index(tmp_path, random):
    vectors = np.repeat(random.standard_normal((1, 33)), 40, axis=0).astype(np.float32)
    gallery = write(tmp_path / "a.npz", vectors, np.arange(40))
    hits = gallery.find("video", "s", vectors[0] / np.linalg.norm(vectors[0]), 5)
    assert [hit.number for hit in hits] == [0, 1, 2, 3, 4]


def test_what_is_not_finite_is_never_found(tmp_path):
    vectors = np.eye(4, dtype=np.float32)
    vectors[1] = np.nan
    vectors[2] = 0.0
    gallery = write(tmp_path / "a.npz", vectors, [0, 0, 1, 2])
    hits = gallery.find("video", "s", np.array([1.0, 0, 0, 0]), 9, every=True)
    assert [(hit.number, hit.score) for hit in hits] == [(0, 1.0), (1, 0.0), (2, 0.0)]


@pytest.mark.parametrize(
    "more",
    [
        {"video/s": np.zeros((3, 4), np.float32)},
        {"video/s": np.zeros((2, 4), np.int32)},
        {"video/s": np.zeros(2, np.float32)},
        {"video/ends": np.zeros(5)},
        {"versions": np.zeros((9, 2), np.int64)},
        {"files": np.arange(2)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, more):
    with pytest.raises(DataError, match=r"a\.npz: no index of embeddings"):
        write(tmp_path / "a.npz", np.eye(2, 4, dtype=np.float32), [0, 1], **more)


def test_rows_of_files_that_are_not_there_are_refused(tmp_path):
    gallery = write(tmp_path / "a.npz", np.eye(2, 4, dtype=np.float32), [0, 1], ["/only/one"],
                    versions=np.zeros((1, 2), np.int64))  # fmt: skip
    with pytest.raises(DataError, match="names files that are not there"):
        gallery.find("video", "s", np.ones(4))


def test_other_files_are_no_index(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        Gallery(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(DataError, match="no index of embeddings"):
        Gallery(tmp_path / "text.npz")
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(DataError, match="no index of embeddings"):
        Gallery(tmp_path / "a.npz")


def test_an_index_that_changes_meanwhile_is_told(tmp_path):
    gallery = write(tmp_path / "a.npz", np.eye(2, 4, dtype=np.float32), [0, 1])
    os.utime(tmp_path / "a.npz", ns=(1, 1))
    with pytest.raises(DataError, match="has changed since it was opened"):
        gallery.find("video", "s", np.ones(4))


def test_what_became_of_files_is_told(indexed, finder, tmp_path):
    gallery = finder.gallery
    assert gallery.folder == str(indexed / "media") and gallery.made_with == "runs/toy, step 7"
    assert [gallery.changed(number) for number in range(5)] == [""] * 5
    names = [str(tmp_path / name) for name in ("gone", "changed")]
    (tmp_path / "changed").write_text("x")
    other = write(tmp_path / "a.npz", np.eye(2, 4, dtype=np.float32), [0, 1], names)
    assert other.changed(0) == "the file is no longer there"
    assert "has changed since it was indexed" in other.changed(1)
    with pytest.raises(UserError, match=r"modality: 'audio'; .* has video"):
        other.check_modality("audio")


def test_times_are_shown_as_a_clock_does():
    assert [clock(s) for s in (0, 59.96, 75.25, 3723.04)] == [
        "0:00.0", "1:00.0", "1:15.2", "1:02:03.0"]  # fmt: skip


DAMAGED = {
    "files in a table": {"files": np.array([["/f/a.mp4"], ["/f/b.mp4"]])},
    "one name": {"files": np.array("/f/a.mp4")},
    "pieces in a row": {"pieces": np.zeros(2)},
    "versions that are no whole numbers": {"versions": np.full((2, 2), np.nan)},
    "a notice without a reason": {"notices": np.array(["a", "b"])},
    "failures that are one": {"failures": np.array("a")},
    "windows of another modality": {"videm/s": np.zeros((2, 3), "f4")},
    "a window of a file that is not there": {"video/file": np.array([0, 7])},
    "more windows than files of them": {"video/s": np.zeros((5, 3), "f4")},
    "times that are none": {"video/starts": np.array([np.nan, 0.0])},
    "records in words": {"recipe": np.array(json.dumps({"records": [1]}))},
}


@pytest.mark.parametrize("name", DAMAGED)
def test_arrays_that_do_not_fit_together_are_refused(tmp_path, name):
    """Found by fuzzing, where each ended in an error of Python or NumPy."""
    path = tmp_path / "a.npz"
    with pytest.raises(DataError, match=r"a\.npz"):
        gallery = write(path, np.ones((2, 3), np.float32), [0, 1], **DAMAGED[name])
        with index.Writer(path, gallery.recipe) as writer:
            writer.rows()
        gallery.find("video", "s", np.ones(3), 2)
