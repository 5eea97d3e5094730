"""python -m vatt.tools.search: arguments, the model that an index names, from files to results."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from vatt import search
from vatt.api import index
from vatt.api.inputs import Clip
from vatt.api.results import Embedding
from vatt.errors import UserError
from vatt.tools import embed
from vatt.tools import search as tool


@pytest.fixture
def foreign(tmp_path):
    """An index of a model that is not here."""
    recipe = {"model": "runs/other", "weights": "ckpt-7", "step": 7, "checkpoint": "1"}
    (tmp_path / "a.mp4").write_text("x")
    one = Embedding("video", "a", np.zeros(1), np.ones(1), {"v": np.ones((1, 3), np.float32)}, "1")
    with index.Writer(tmp_path / "e.npz", recipe) as writer:
        writer.add(Clip(str(tmp_path / "a.mp4")), {"video": one})
    return str(tmp_path / "e.npz")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ([], 2, "nothing is asked: give TEXT, --video or --audio, or --serve"),
        (["x", "--serve"], 2, "--serve: the page asks"),
        (["x", "--port=1"], 2, "--port: of --serve only"),
        (["x", "--html=a.txt"], 2, "must end with .html"),
        (["x", "--top=0"], 2, "0 is not a whole number from 1 to 1000"),
        (["x", "--modality=audio"], 2, "modality: 'audio'; "),
        (["--video=gone.mp4"], 3, "gone.mp4: there is no such file"),
        (["x"], 5, "e.npz was made with the model runs/other: 'runs/other' is no run, checkpoint"),
        (["x", "--model=nowhere"], 5, "'nowhere' is no run, checkpoint or preset"),
        (["x", "--index=none.npz"], 3, "none.npz: no index of embeddings"),
    ],
)
def test_what_is_wrong_is_told_before_tensorflow_starts(
    foreign, tmp_path, monkeypatch, capsys, arguments, code, told
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vatt.search.loading.import_tensorflow_quietly", lambda: pytest.fail("tf"))
    try:
        assert tool.main([f"--index={foreign}", *arguments]) == code
    except SystemExit as ended:
        assert ended.code == code
    assert told in capsys.readouterr().err


@pytest.fixture(scope="module")
def embedded(place):
    """An index of three files, made with runs/tiny."""
    files = [str(place / "media" / f"clip{number}.mkv") for number in range(3)]
    output, run = place / "searched.npz", place / "runs" / "tiny"
    assert embed.main([*files, f"--model={run}", f"--output={output}"]) == 0
    return output


@pytest.mark.slow
def test_from_files_to_results(place, model, embedded, tmp_path, capsys):
    page = tmp_path / "results.html"
    asked = ["a", "red", "circle", "juggles", "--top=2", "--json"]
    assert tool.main([f"--index={embedded}", *asked, f"--html={page}"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["asked"] == [{"text": "a red circle juggles"}] and found["space"] == "video_totxt"
    assert found["notices"] == ["the model does not know juggles"]
    files = [place / "media" / f"clip{number}.mkv" for number in range(3)]
    # The best window of each file, by what vatt.load says.
    text = model.embed_text("a red circle juggles")
    best = [model.similarity(text, one.windows()).max() for one in model.embed_video(files)]
    order = np.argsort(best)[::-1][:2]
    assert [hit["file"] for hit in found["results"]] == [str(files[number]) for number in order]
    scores = [hit["score"] for hit in found["results"]]
    np.testing.assert_allclose(scores, np.array(best)[order], atol=1e-5)
    assert page.read_text().count("data:video/mp4") == 2
    # A file finds itself first.
    assert tool.main([f"--index={embedded}", f"--audio={files[1]}", "--modality=audio"]) == 0
    first = capsys.readouterr().out.splitlines()[1]
    assert first.split()[0] == "1" and first.endswith("clip1.mkv")


@pytest.mark.slow
def test_spaces_are_those_that_the_model_compares_in(place, model, embedded):
    """Whatever pair the model compares, both lie in one of its spaces; of text they are one."""
    text = model.embed_text("a red circle")
    np.testing.assert_array_equal(text.spaces["text_toaud"], text.spaces["text_tovid"])
    video = model.embed_video(place / "media" / "clip0.mkv")
    sound = model.embed_audio(place / "media" / "clip0.mkv")
    keys = {"text": text.spaces, "video": video.spaces, "audio": sound.spaces}
    for space in model.spaces:
        assert all(key in keys[modality] for modality, key in space.items())
    finder = search.load(embedded)
    both = finder.search("a red circle", audio=place / "media" / "clip0.mkv")
    expected = sum(one.vector(key) for one, key in ((text, "text_tovid"), (sound, "audio_totxt")))
    expected = expected / np.linalg.norm(expected)
    best = both.hits[0]
    rows = video_rows(embedded, best.file) @ expected
    assert best.score == pytest.approx(rows.max(), abs=1e-5)


def video_rows(path, file):
    _, arrays = index.read(path)
    rows = arrays["video/video_totxt"][arrays["video/file"] == arrays["files"].tolist().index(file)]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.slow
def test_of_a_run_the_checkpoint_of_the_index_is_taken(place, embedded, tmp_path):
    run = tmp_path / "tiny"
    shutil.copytree(place / "runs" / "tiny", run)
    (step,) = (path.stem for path in run.glob("ckpt-*.index"))
    # It has been trained on meanwhile.
    for suffix in (".index", ".json", ".data-00000-of-00001"):
        content = (run / f"{step}{suffix}").read_bytes()
        (run / f"ckpt-99{suffix}").write_bytes(content + (b"x" if suffix == ".index" else b""))
    gallery = search.loading.Gallery(embedded)
    named = search.loading.find_model(gallery, run)
    assert named.checkpoint.name == step
    (run / f"{step}.index").unlink()
    with pytest.raises(UserError, match="was made with other weights than those of"):
        search.loading.find_model(gallery, run)
