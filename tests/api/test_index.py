"""Embeddings of many files in one file: kept as they come, joined, never mixed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vatt.api import index
from vatt.api.inputs import Clip
from vatt.api.results import Embedding
from vatt.errors import DataError, UserError

RECIPE = {"checkpoint": "1", "records": {"fps": 1.0, "told_by": "x"}}


@pytest.fixture
def names(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "SAVED_S", 0.0)
    for name in "abc":
        (tmp_path / name).write_text(name)
    return [Clip(str(tmp_path / name)) for name in "abc"]


def embedding(modality, windows, value, gaps=()):
    times = np.arange(windows, dtype=float)
    spaces = {"space": np.full((windows, 3), value, np.float32)}
    return Embedding(modality, "x", times, times + 1, spaces, "1", (f"note {value}",), gaps)


def fill(path, names):
    """An interrupted command, and the one that goes on after it."""
    with pytest.raises(KeyboardInterrupt), index.Writer(path, RECIPE) as writer:
        assert writer.missing(names) == names
        writer.add(names[0], {"video": embedding("video", 2, 1), "audio": embedding("audio", 3, 1)})
        writer.add(names[1], DataError("bad"))
        raise KeyboardInterrupt
    assert not path.exists()
    with index.Writer(path, RECIPE) as writer:
        assert writer.missing(names) == names[1:] and writer.failures == [(names[1].path, "bad")]
        writer.add(names[1], {"video": embedding("video", 1, 2, ("from 3 s on: cut off",))})
        writer.add(names[2], {"audio": embedding("audio", 1, 3)})
    return writer


def test_what_an_interruption_left_is_joined_with_what_follows(tmp_path, names):
    path = tmp_path / "index.npz"
    writer = fill(path, names)
    assert writer.rows() == {"video": 3, "audio": 4}
    recipe, arrays = index.read(path)
    assert recipe == RECIPE and index.clips(arrays) == names
    assert arrays["failures"].tolist() == [[names[1].path, "from 3 s on: cut off"]]
    assert [note for _, note in arrays["notices"].tolist()] == ["note 1", "note 2", "note 3"]
    assert arrays["video/file"].tolist() == [0, 0, 1] and arrays["audio/file"].tolist() == [
        0,
        0,
        0,
        2,
    ]
    assert arrays["video/space"][:, 0].tolist() == [1, 1, 2]
    assert arrays["audio/starts"].tolist() == [0, 1, 2, 0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c", "index.npz"]


def test_a_file_that_has_changed_is_embedded_again(tmp_path, names):
    path = tmp_path / "index.npz"
    fill(path, names)
    (tmp_path / "a").write_text("another")
    with index.Writer(path, RECIPE) as writer:
        assert writer.missing(names) == names[:1]
        writer.add(names[0], {"video": embedding("video", 1, 9)})
    _, arrays = index.read(path)
    assert index.clips(arrays) == [*names[1:], names[0]]
    assert arrays["video/file"].tolist() == [0, 2] and arrays["audio/file"].tolist() == [1]
    assert arrays["video/space"][:, 0].tolist() == [2, 9]


def test_other_recipes_and_other_processes_are_refused(tmp_path, names):
    path = tmp_path / "index.npz"
    fill(path, names)
    with (
        pytest.raises(UserError, match="made otherwise: checkpoint"),
        index.Writer(path, RECIPE | {"checkpoint": "2"}),
    ):
        pass
    with (
        index.Writer(path, RECIPE),
        pytest.raises(UserError, match="another command is at work"),
        index.Writer(path, RECIPE),
    ):
        pass


def test_what_is_no_index_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with pytest.raises(DataError, match="no index of embeddings"):
        index.read(tmp_path / "x.npz")
    a = {"checkpoint": "1", "model": "runs/a", "records": {"fps": 1.0, "told_by": "x"}}
    b = json.loads(json.dumps(a)) | {"model": "runs/b"}
    b["records"]["told_by"] = "y"
    assert index.same(a, b) == []
    assert index.same(a, b | {"checkpoint": "2"}) == ["checkpoint"]


def test_pieces_of_a_file_stand_beside_each_other(tmp_path, names):
    path, (a, b, _) = tmp_path / "index.npz", names
    early, late = a._replace(end=2.0), a._replace(start=2.0, end=3.5)
    with index.Writer(path, RECIPE) as writer:
        writer.add(early, {"video": embedding("video", 1, 1)})
        writer.add(late, DataError("cut off"))
        writer.add(a, {"video": embedding("video", 2, 2)})
    with index.Writer(path, RECIPE) as writer:
        assert writer.missing([early, late, a, b]) == [late, b]
        assert writer.failures == [(f"{a.path} from 2 s to 3.5 s", "cut off")]
        writer.add(late, {"video": embedding("video", 3, 3)})
    _, arrays = index.read(path)
    assert index.clips(arrays) == [early, a, late] and not len(arrays["failures"])
    assert arrays["video/file"].tolist() == [0, 1, 1, 2, 2, 2]
    assert arrays["video/space"][:, 0].tolist() == [1, 2, 2, 3, 3, 3]


def test_an_index_of_before_has_whole_files(tmp_path, names):
    fill(tmp_path / "index.npz", names)
    with np.load(tmp_path / "index.npz") as archive:
        arrays = {key: archive[key] for key in archive.files if key != "pieces"}
    np.savez(tmp_path / "before.npz", **arrays)
    with index.Writer(tmp_path / "before.npz", RECIPE) as writer:
        assert writer.missing(names) == []
