"""What is named on a command line: files, folders, pieces of files in manifests."""

from __future__ import annotations

import pytest

from vatt.api.inputs import Clip, named
from vatt.errors import DataError, UserError


@pytest.fixture
def folder(tmp_path):
    for name in ("a/x.mp4", "a/b/y.WAV", "a/.hidden/z.mp4", "a/notes.txt", "a/p.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_folders_stand_for_the_media_files_in_them(folder):
    inside = [Clip(str(folder / name)) for name in ("a/p.jpg", "a/x.mp4", "a/b/y.WAV")]
    assert named([str(folder / "a")]) == inside
    assert named([str(folder / "a")], ["audio"]) == inside[1:]
    given = [str(folder / "a" / "notes.txt"), str(folder / "a"), str(folder / "a" / "x.mp4")]
    assert named(given) == [Clip(given[0]), *inside]
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match="a folder without media files"):
        named([str(folder / "empty")])


def test_manifests_stand_for_their_rows(folder):
    scenes = folder / "scenes.csv"
    scenes.write_text(
        "path,start,end,split,label\na/x.mp4,1.5,0:03,train;test,dog\na/x.mp4,4,,train,\n"
        "a/b/y.WAV,,,,\n"
    )
    x, y = (str(folder / name) for name in ("a/x.mp4", "a/b/y.WAV"))
    found = [Clip(x, 1.5, 3.0), Clip(x, 4.0, None), Clip(y)]
    assert named([str(scenes)]) == found  # a row of two splits is one clip
    assert list(map(str, found)) == [f"{x} from 1.5 s to 3 s", f"{x} from 4 s to the end", y]
    (folder / "lists").mkdir()
    moved = folder / "lists" / "scenes.jsonl"
    moved.write_text('{"path": "x.mp4", "end": 2}\n')
    assert named([str(moved)], media_root=folder / "a") == [Clip(x, None, 2.0)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("../x.mp4,", "line 2: ../x.mp4: leads out of"),
        ("http://a/x.mp4,", "line 2: http://a/x.mp4: not a path of a local file"),
        (",f.npy", "line 2: path is empty, there are features only"),
    ],
)
def test_rows_that_name_no_media_file_are_counted(folder, row, message):
    (folder / "scenes.csv").write_text(f"path,feature/f\n{row}\na/x.mp4,\n")
    with pytest.raises(DataError, match="1 lines cannot be used") as caught:
        named([str(folder / "scenes.csv")])
    assert message in str(caught.value)
