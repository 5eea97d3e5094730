from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import small_disk
from PIL import Image

from vatt import locks
from vatt.data.ingest.captions import read_captions
from vatt.data.media import read_clip
from vatt.data.toy import captions, sets
from vatt.data.toy.command import main
from vatt.data.toy.scene import COLOURS, FPS, MOTIONS, SHAPES, Scene, draw_scene, render
from vatt.data.toy.sound import RHYTHMS, SAMPLE_RATE, TIMBRES, synthesise
from vatt.files import sha256

ROOT = Path(__file__).resolve().parents[2]


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    arguments = [f"--output_dir={folder}", "--sets=all", "--scale=0.01", "--workers=1"]
    assert main(arguments) == 0
    return folder


def manifest(corpus: Path, name: str) -> list[dict[str, str]]:
    with (corpus / name / "manifest.csv").open() as file:
        return list(csv.DictReader(file))


def test_files_are_what_they_should_be(corpus):
    for name in sets.SETS:
        row = manifest(corpus, name)[0]
        with av.open(str(corpus / name / row["path"])) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
            assert (video.average_rate, audio.rate) == (25, 48000)
            assert float(video.duration * video.time_base) >= float(row["end"]) - 1e-6


@pytest.mark.slow
def test_same_bytes_for_any_number_of_workers_and_after_an_interruption(corpus, tmp_path):
    command = [sys.executable, "-m", "vatt.data.toy", f"--output_dir={tmp_path}", "--sets=all"]
    command += ["--scale=0.01", "--workers=2"]
    environment = os.environ | {"PYTHONHASHSEED": "5", "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, env=environment, cwd=ROOT, capture_output=True)
    assert files(tmp_path) == files(corpus)
    videos = sorted((tmp_path / "toy_howto" / "videos").iterdir())
    kept = videos[1].stat().st_mtime_ns
    videos[0].rename(videos[0].with_suffix(".partial"))
    subprocess.run(command, check=True, env=environment, cwd=ROOT, capture_output=True)
    assert files(tmp_path) == files(corpus)
    assert videos[1].stat().st_mtime_ns == kept


def test_other_settings_are_not_mixed(corpus, capsys):
    arguments = [f"--output_dir={corpus}", "--sets=toy_sounds", "--scale=0.01"]
    assert main([*arguments, "--seed=1"]) == 2
    assert "seed 0 -> 1" in capsys.readouterr().err
    assert main([f"--output_dir={corpus}", "--sets=toy_sonds"]) == 2
    assert "Did you mean 'toy_sounds'" in capsys.readouterr().err


def test_retrieval_has_distinct_descriptions_and_faithful_captions():
    plans = sets.plan("toy_retrieval")
    test = [plan for plan in plans if plan.splits == ("test",)]
    assert len(test) >= 256
    assert len({plan.labels for plan in test}) == len(test)
    assert len({plan.captions[0].text for plan in test}) == len(test)
    for plan in test:
        scene, text = plan.scenes[0], plan.captions[0].text
        words = text.split()
        assert 5 <= len(words) <= 14
        assert any(word in words for word in captions.SHAPE_WORDS[scene.shape])
        assert any(word in words for word in captions.COLOUR_WORDS[scene.colour])
        assert any(phrase in text for phrase in captions.MOTION_WORDS[scene.motion])


def test_synonyms_name_one_thing_only():
    tables = (captions.SHAPE_WORDS, captions.COLOUR_WORDS, captions.MOTION_WORDS)
    assert [set(t) for t in tables] == [set(SHAPES), set(COLOURS), set(MOTIONS)]
    words = [word for table in tables for choices in table.values() for word in choices]
    assert len(words) == len(set(words))
    for table in tables:
        assert (
            len({tuple(len(text.split()) for text in choices) for choices in table.values()}) == 1
        )


def test_narration_is_mostly_right_and_partly_not():
    right = total = clips = 0
    for plan in sets.plan("toy_howto", scale=0.1):
        assert len(plan.scenes) == sets.SCENES_PER_VIDEO
        begin = 0.0
        for scene in plan.scenes:
            end = begin + scene.duration
            near = [c.text for c in plan.captions if c.end > begin - 0.3 and c.start < end + 0.3]
            right += sum(_tells(scene, text) for text in near)
            total, clips = total + len(near), clips + 1
            begin = end
    assert 5 <= total / clips <= 7.5
    assert 1 <= 5 * (1 - right / total) <= 2.5  # of five candidates


def _tells(scene: Scene, text: str) -> bool:
    words = text.split()
    return (
        any(word in words for word in captions.SHAPE_WORDS[scene.shape])
        and any(word in words for word in captions.COLOUR_WORDS[scene.colour])
        and any(phrase in text for phrase in captions.MOTION_WORDS[scene.motion])
    )


def test_vocabulary_is_complete_and_small(corpus):
    known = set(captions.vocabulary())
    assert len(known) < 500
    said = [row["caption"] for row in manifest(corpus, "toy_retrieval")]
    for path in (corpus / "toy_howto" / "captions").iterdir():
        said += [text for _, _, text in read_captions(path)]
    assert said
    assert {word for text in said for word in re.findall(r"\S+", text)} <= known


@pytest.mark.parametrize(("name", "folds"), [("toy_actions", 3), ("toy_sounds", 5)])
def test_folds(name, folds):
    plans = sets.plan(name)
    classes = {plan.labels[0] for plan in plans}
    assert classes == set(MOTIONS if name == "toy_actions" else TIMBRES.values())
    for fold in range(1, folds + 1):
        test = [plan for plan in plans if f"test_{fold}" in plan.splits]
        train = [plan for plan in plans if f"train_{fold}" in plan.splits]
        assert len(test) + len(train) == len(plans)
        assert len(test) == pytest.approx(len(plans) / folds, abs=8)
        counts = np.unique([plan.labels[0] for plan in test], return_counts=True)[1]
        assert counts.min() == counts.max()
        assert not {p.name for p in test} & {p.name for p in train}


def test_audioset_labels_are_the_sounds():
    for plan in sets.plan("toy_audioset", scale=0.02):
        scene = plan.scenes[0]
        assert plan.labels == (TIMBRES[scene.shape], RHYTHMS[scene.motion])
        assert plan.captions == ()


def test_sound_does_not_depend_on_the_colour():
    sounds = [
        synthesise(Scene("star", colour, "blink", 2.4, 0.5, 0.3), np.random.default_rng(3))
        for colour in COLOURS
    ]
    assert all(np.array_equal(sound, sounds[0]) for sound in sounds)
    assert np.isfinite(sounds[0]).all()
    assert np.abs(sounds[0]).max() <= 0.95
    for shape in SHAPES:
        sound = synthesise(draw_scene(np.random.default_rng(0), shape, "red", "circle", 2.4),
                           np.random.default_rng(0))  # fmt: skip
        power = np.abs(np.fft.rfft(sound)) ** 2
        high = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE) > 7000
        assert power[high].sum() < 0.02 * power.sum()


def test_picture_and_sound_keep_the_same_time(tmp_path, corpus):
    """What blinks is heard while it is seen."""
    scene = Scene("star", "yellow", "blink", 2.4, 0.5, 0.3)
    frames = render(scene, np.random.default_rng(1)).astype(int)
    yellow = (frames[..., 0] - frames[..., 2] > 80).mean(axis=(1, 2)) > 0.03
    sound = synthesise(scene, np.random.default_rng(1))
    level = np.abs(sound).reshape(scene.num_frames, SAMPLE_RATE // FPS).mean(axis=1)
    assert np.corrcoef(yellow, level)[0, 1] > 0.85


def test_shapes_are_different_and_large():
    masks = {}
    for shape in SHAPES:
        scene = Scene(shape, "white", "circle", 0.04, 0.9, 0.0)
        frame = render(scene, np.random.default_rng(0))[0].astype(int)
        masks[shape] = frame.min(axis=-1) > 190
        assert 150 < masks[shape].sum() < 1000  # of 72 x 80 pixels
    for first in SHAPES:
        for second in SHAPES:
            if first != second:
                either = (masks[first] | masks[second]).sum()
                assert (masks[first] & masks[second]).sum() / either < 0.9


@pytest.mark.parametrize("motion", MOTIONS)
def test_motions_show_within_any_window(motion):
    """Between the frames of any window of 1.6 s (10 fps) the object changes clearly."""
    frames = render(Scene("disc", "white", motion, 2.8, *_timing(motion)), np.random.default_rng(2))
    seen = (frames[2::2].astype(int).min(axis=-1) > 190).astype(int)
    for start in range(0, len(seen) - 20):
        window = seen[start : start + 20]
        assert (window.max(axis=0) - window.min(axis=0)).sum() > 150


def _timing(motion: str) -> tuple[float, float]:
    scene = draw_scene(np.random.default_rng(0), "disc", "white", motion, 2.8)
    return scene.period, scene.phase


def _correlation(values: np.ndarray, classes: np.ndarray) -> float:
    """Share of the variance of `values` that the classes explain, less what chance would."""
    groups = [values[classes == name] for name in np.unique(classes)]
    between = sum(len(group) * (group.mean() - values.mean()) ** 2 for group in groups)
    share = between / max(((values - values.mean()) ** 2).sum(), 1e-12)
    return share - (len(groups) - 1) / (len(values) - 1)


def test_nothing_outside_the_content_tells_a_label():
    plans = sets.plan("toy_audioset", scale=0.5) + sets.plan("toy_retrieval")
    for kind in ("shape", "colour", "motion"):
        classes = np.array([getattr(plan.scenes[0], kind) for plan in plans])
        lengths = np.array([plan.scenes[0].num_frames for plan in plans], float)
        assert _correlation(lengths, classes) < 0.03
        told = np.array([len(p.captions[0].text.split()) if p.captions else -1 for p in plans])
        assert _correlation(told[told > 0].astype(float), classes[told > 0]) < 0.06


@pytest.mark.slow
def test_neither_file_size_nor_a_single_pixel_tells_a_label(tmp_path):
    arguments = [f"--output_dir={tmp_path}", "--sets=toy_actions,toy_sounds", "--scale=0.5"]
    assert main(arguments) == 0
    for name, kind in (("toy_actions", "motion"), ("toy_sounds", "shape")):
        rows = manifest(tmp_path, name)
        sizes = [(tmp_path / name / row["path"]).stat().st_size for row in rows]
        classes = np.array([row["label"] for row in rows])
        assert _correlation(np.array(sizes, float), classes) < 0.08
        first = [
            read_clip(tmp_path / name / row["path"], 0, 0.1, fps=10, min_side=72, sample_rate=16000)
            for row in rows
        ]
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(c.frames[0]))) for c in first])
        colours = pixels.reshape(len(rows), -1, 3)[:, ::7].astype(float)
        best = max(_nearest_mean_accuracy(colours[:, k], classes) for k in range(colours.shape[1]))
        assert best < 0.4, f"{kind} can be read from one pixel"  # chance is 0.125


def _nearest_mean_accuracy(values: np.ndarray, classes: np.ndarray) -> float:
    """Accuracy on the second half of the nearest class mean of the first."""
    names, half = np.unique(classes), len(classes) // 2
    means = np.stack([values[:half][classes[:half] == name].mean(axis=0) for name in names])
    distance = ((values[half:, None] - means) ** 2).sum(axis=-1)
    return float((names[distance.argmin(axis=1)] == classes[half:]).mean())


def test_a_second_rendering_into_one_folder_is_refused(tmp_path, capsys):
    folder = tmp_path / "toy_actions"
    folder.mkdir()
    half = folder / "videos" / ".a.mp4.1.partial"
    half.parent.mkdir()
    half.write_text("of the first")
    with locks.held(folder / ".render.lock", "another rendering"):
        assert main([f"--output_dir={tmp_path}", "--sets=toy_actions", "--scale=0.01"]) == 2
    assert f"error: {folder}: another rendering is at work there (" in capsys.readouterr().err
    assert half.exists()


def test_a_full_disk_is_named_with_what_is_free(tmp_path, capsys):
    arguments = [f"--output_dir={tmp_path}", "--sets=toy_actions", "--scale=0.01", "--workers=1"]
    with small_disk.files_of_at_most(20_000):
        assert main(arguments) == 3
    told = capsys.readouterr().err
    assert re.search(
        r"error: .*toy_actions/videos/\S+mp4: cannot be written \(.*MiB are free", told
    )
    assert not list(tmp_path.rglob("*.partial"))
