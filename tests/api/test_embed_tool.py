"""python -m vatt.tools.embed: folders, restart, recipe, files that cannot be used."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from vatt.api import index
from vatt.tools import embed


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["x.mp4", "--model=nowhere", "--output=a.npz"], 5),
        (["x.mp4", "--model=tx_fac_tiny", "--output=a.csv"], 2),
        (["x.mp4", "--model=tx_fac_tiny", "--output=a.npz", "--modalities=text"], 2),
    ],
)
def test_wrong_arguments_end_before_tensorflow_starts(tmp_path, monkeypatch, arguments, code):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vatt.quiet.import_tensorflow_quietly", lambda: pytest.fail("started"))
    try:
        assert embed.main(arguments) == code
    except SystemExit as ended:
        assert ended.code == code


def run(place, output, *more):
    model = f"--model={place / 'runs' / 'tiny'}"
    return embed.main([str(place / "some"), model, f"--output={output}", *more])


@pytest.fixture
def some(place):
    """A folder of two files that can be used and one that cannot."""
    folder = place / "some"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ("clip0.mkv", "clip1.mkv"):
        shutil.copy(place / "media" / name, folder)
    (folder / "broken.mp4").write_bytes(b"nothing")
    return folder


@pytest.mark.slow
def test_embeddings_and_their_recipe_are_kept(place, model, some, tmp_path, capsys):
    output = tmp_path / "embeddings.npz"
    assert run(place, output) == 3
    assert "broken.mp4: not a media file" in capsys.readouterr().err
    recipe, arrays = index.read(output)
    assert recipe["checkpoint"] == model.checkpoint and recipe["stride"] is None
    assert (recipe["window_seconds"], recipe["frame_rate"]) == (0.8, 10.0)
    assert recipe["layer"] == "features_pooled" and recipe["modalities"] == ["video", "audio"]
    assert [name.rsplit("/", 1)[1] for name in arrays["files"]] == ["clip0.mkv", "clip1.mkv"]
    assert arrays["failures"].shape == (1, 2)
    for number, name in enumerate(arrays["files"].tolist()):
        expected = model.embed_video(name)
        rows = arrays["video/file"] == number
        np.testing.assert_allclose(
            arrays["video/video_totxt"][rows], expected.in_space(), atol=1e-5
        )
        np.testing.assert_array_equal(arrays["video/starts"][rows], expected.starts)
    assert len(arrays["audio/file"]) == 4 and not output.with_name(f"{output.name}.parts").exists()


@pytest.mark.slow
def test_the_same_command_goes_on(place, some, tmp_path, monkeypatch):
    output, asked = tmp_path / "embeddings.npz", []
    embed_files = building_model().embed_files

    def counting(self, paths, *others, **more):
        paths = list(paths)
        asked.append([Path(clip.path).name for clip in paths])
        for number, found in enumerate(embed_files(self, paths, *others, **more)):
            if len(asked) == 1 and number == 2:
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(building_model(), "embed_files", counting)
    monkeypatch.setattr(index, "SAVED_S", 0.0)
    assert run(place, output) == 130
    assert not output.exists() and len(list(tmp_path.glob("*.parts/*.npz"))) == 2
    assert run(place, output) == 3
    assert asked[1] == ["broken.mp4", "clip1.mkv"]  # failures are tried again
    (some / "broken.mp4").unlink()
    shutil.copy(some / "clip0.mkv", some / "clip2.mkv")
    (some / "clip1.mkv").write_bytes((some / "clip0.mkv").read_bytes())  # changed
    assert run(place, output) == 0
    assert asked[2] == ["clip1.mkv", "clip2.mkv"]
    _, arrays = index.read(output)
    names = [name.rsplit("/", 1)[1] for name in arrays["files"]]
    assert sorted(names) == ["clip0.mkv", "clip1.mkv", "clip2.mkv"]
    by_name = {
        n: arrays["audio/audio_tovid"][arrays["audio/file"] == names.index(n)] for n in names
    }
    np.testing.assert_allclose(by_name["clip1.mkv"], by_name["clip0.mkv"], atol=1e-6)
    assert len(arrays["audio/file"]) == 6


def building_model():
    from vatt.api.model import Model

    return Model


@pytest.mark.slow
def test_a_manifest_names_pieces_of_files(place, model, tmp_path):
    scenes, output = place / "media" / "scenes.csv", tmp_path / "scenes.npz"
    scenes.write_text("path,start,end\nclip0.mkv,0.2,1.1\nclip1.mkv,,\nclip0.mkv,0.4,\n")
    arguments = [str(scenes), f"--model={place / 'runs' / 'tiny'}", f"--output={output}"]
    assert embed.main(arguments) == 0
    _, arrays = index.read(output)
    clips = index.clips(arrays)
    assert [(Path(c.path).name, c.start, c.end) for c in clips] == [
        ("clip0.mkv", 0.2, 1.1), ("clip1.mkv", None, None), ("clip0.mkv", 0.4, None)
    ]  # fmt: skip
    for number, (path, start, end) in enumerate(clips):
        expected = model.embed_video(path, start=start, end=end)
        rows = arrays["video/file"] == number
        found = arrays["video/video_totxt"][rows]
        np.testing.assert_allclose(found, expected.in_space(), atol=1e-5)
        np.testing.assert_array_equal(arrays["video/starts"][rows], expected.starts)
        assert expected.starts[0] == (start or 0.0)  # in the file, not in the piece


@pytest.mark.slow
def test_embeddings_that_were_made_otherwise_are_not_mixed(place, some, tmp_path, capsys):
    output = tmp_path / "embeddings.npz"
    assert run(place, output, "--modalities=audio") == 3
    before = output.read_bytes()
    assert run(place, output, "--modalities=audio", "--stride=0.3") == 2
    assert "made otherwise: stride." in capsys.readouterr().err
    assert output.read_bytes() == before
    output.write_bytes(b"something else")
    assert run(place, output) == 3
    assert output.read_bytes() == b"something else"


@pytest.mark.slow
def test_the_lines_of_the_readme_run(place, tmp_path, monkeypatch, capsys):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (lines,) = re.findall(r"```python\n(import vatt\n.*?)```", readme, re.DOTALL)
    videos = tmp_path / "runs" / "toy_corpus" / "media" / "toy_retrieval" / "videos"
    videos.mkdir(parents=True)
    for number in range(5):
        target = videos / f"retrieval_{number:05d}.mp4"
        shutil.copy(place / "media" / f"clip{number}.mkv", target)
    monkeypatch.chdir(tmp_path)
    exec(lines, {})
    shown = capsys.readouterr().out
    assert len(re.findall(r"-?\d\.\d+", shown)) == 10
    assert len([line for line in lines.splitlines() if line]) == 5
