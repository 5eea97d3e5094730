"""The folder of an export is whole or not there, and nothing else is ever replaced."""

from __future__ import annotations

import pytest

from vatt.errors import UserError
from vatt.export import places


def inside(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_appears_at_the_end(tmp_path):
    out = tmp_path / "new" / "out"
    with places.replacing(out, overwrite=False) as partial:
        (partial / places.MARK).write_text("{}")
        assert not out.exists()
    assert inside(out) == [places.MARK] and inside(out.parent) == ["out"]


def test_after_an_error_nothing_is_left_and_an_earlier_export_is_as_it_was(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(KeyError), places.replacing(out, overwrite=False) as partial:
        (partial / "model").touch()
        raise KeyError
    assert inside(tmp_path) == []
    out.mkdir()
    (out / places.MARK).write_text("old")
    with pytest.raises(KeyError), places.replacing(out, overwrite=True) as partial:
        (partial / places.MARK).write_text("new")
        raise KeyError
    assert (out / places.MARK).read_text() == "old" and inside(tmp_path) == ["out"]
    with places.replacing(out, overwrite=True) as partial:
        (partial / places.MARK).write_text("new")
    assert (out / places.MARK).read_text() == "new" and inside(tmp_path) == ["out"]


def test_only_an_earlier_export_is_replaced_and_only_when_asked_for(tmp_path):
    out = tmp_path / "out"
    places.check(out, overwrite=False)
    out.mkdir()
    places.check(out, overwrite=False)  # an empty folder
    (out / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"out: is there already\. Give another folder, or --over"):
        places.check(out, overwrite=False)
    with pytest.raises(UserError, match="holds no earlier export"):
        places.check(out, overwrite=True)
    (out / places.MARK).touch()
    places.check(out, overwrite=True)
    with pytest.raises(UserError, match=r"thesis\.tex: a file"):
        places.check(out / "thesis.tex", overwrite=True)
