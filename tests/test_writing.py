"""Files are there whole or not at all, and what cannot be written is named, with the space left."""

from __future__ import annotations

import re

import pytest
import small_disk

from vatt.errors import EXIT_DATA, WriteError
from vatt.files import cannot_write, make_folder, replace_text


def test_a_file_that_does_not_fit_leaves_the_older_one(tmp_path):
    file = tmp_path / "file"
    replace_text(file, "older")
    with small_disk.files_of_at_most(1000), pytest.raises(WriteError) as caught:
        replace_text(file, "x" * 100_000)
    assert caught.value.exit_code == EXIT_DATA
    told = str(caught.value)
    assert told.startswith(f"{file}: cannot be written (File too large); ")
    assert re.search(r"[1-9]\d* MiB are free there$", told)
    assert file.read_text() == "older" and [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_told_with_the_space_on_it(tmp_path):
    with small_disk.mounted(tmp_path / "disk", "size=64k"):
        with pytest.raises(WriteError, match=r"left on device\); 0 MiB are free there\. Make room"):
            replace_text(tmp_path / "disk" / "file", "x" * 100_000)
        assert list((tmp_path / "disk").iterdir()) == []


def test_what_other_programs_say_of_the_disk_is_cut_to_the_reason(tmp_path):
    long = "{{function_node __wrapped__SaveV2}} /a/b.tmp; No space left on device [Op:SaveV2]\nmore"
    told = str(cannot_write(tmp_path / "x", RuntimeError(long)))
    assert re.fullmatch(r"\S+/x: cannot be written \(No space left on device\); \d.*", told)
    assert "(a reason)" in str(cannot_write(tmp_path, RuntimeError("a reason\nof two lines")))
    assert "(RuntimeError)" in str(cannot_write(tmp_path, RuntimeError()))


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "file").write_text("")
    for make in (make_folder, lambda path: replace_text(path, "")):
        with pytest.raises(WriteError, match=r"file/x: cannot be written \(Not a directory\)"):
            make(tmp_path / "file" / "x")
    with pytest.raises(WriteError, match=r"file: cannot be written \(File exists\)"):
        make_folder(tmp_path / "file")


def test_a_read_only_disk(tmp_path):
    with small_disk.mounted(tmp_path / "disk", "ro"):
        for make in (make_folder, lambda path: replace_text(path, "")):
            with pytest.raises(WriteError, match=r"\(Read-only file system\)"):
                make(tmp_path / "disk" / "x")
