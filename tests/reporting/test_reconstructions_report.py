"""The report section of reconstructions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pages import between, page_of, pictures

from vatt.evaluation import artefacts, reconstructions
from vatt.evaluation.measures import LINEAR, Measure
from vatt.reporting.reconstructions import HIDDEN

HEADING = "<h2>Reconstructions</h2>"
NOTE = "Predictions are shown with the mean of the <true> patch."


def clips(modality: str, skill: float, count: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    """Clips of which the left half is seen; predictions are noisy without skill."""
    random = np.random.default_rng(seed)
    shape = (count, 4, 32, 32, 3) if modality == "video" else (count, 40, 16, 1)
    given = random.uniform(size=shape)
    noise = random.normal(size=shape)
    seen = np.ones((*shape[:-1], 1))
    seen[..., 16:, :] = 0.0  # columns of frames
    if modality == "audio":
        seen[:] = 1.0
        seen[:, 20:] = 0.0  # times
    predicted = given + (1 - skill) * noise
    return {"given": given, "predicted": predicted, "seen": seen, "masked": 1 - seen}


def save(folder: Path, step: int, skill: float, modalities=("video", "audio"), **options) -> Path:
    found = {m: clips(m, skill, **options) for m in modalities}
    texts = {
        "source": ["a.mp4", "b.mp4"],
        "caption": ["", "red & round"],
        "label_text": ["x|y", ""],
    }
    return reconstructions.save(
        folder, "toy", step, found, texts, [NOTE],
        lambda x: np.clip(np.round(255 * x), 0, 255).astype(np.uint8),
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path, synthetic) -> Path:
    line = synthetic.eval_line(5, [Measure("toy", LINEAR, "top_1_accuracy", 0.5)])
    (tmp_path / "metrics.jsonl").write_text(line + "\n")
    return tmp_path


def section(folder: Path) -> str:
    return between(page_of(folder), HEADING, "<h2>")


def test_every_clip_over_the_first_a_middle_and_the_newest_checkpoint(folder):
    for step, skill in ((100, 0.0), (200, 0.4), (300, 0.6), (400, 0.8), (1500, 0.9)):
        save(folder, step, skill)
    page = section(folder)
    assert page.count('<figure class="restored"') == 2
    shown = ["predicted, step 100", "predicted, step 300", "predicted, step 1,500"]
    assert [page.count(label) for label in shown] == [2, 2, 2] and "step 200" not in page
    assert page.count("error, step 1,500") == 2
    assert "&lt;true&gt; patch" in page and "x, y" in page and "red &amp; round" in page
    # Input, what is seen, three predictions and errors, of each clip.
    assert len(pictures(page, "jpeg")) == len(pictures(page, "png")) == 2 * 6
    rows = between(page, "root of the mean squared error", "</table>")
    assert [rows.count(f">{step}</th>") for step in ("100", "300", "1,500")] == [1, 1, 1]


def test_pictures_show_what_they_say(folder):
    save(folder, 10, 1.0)
    save(folder, 20, 0.5)
    page = section(folder)
    given, seen, first, last, off = (
        np.asarray(picture.convert("RGB")).astype(int) for picture in pictures(page, "png")[:5]
    )
    assert given.shape == (16, 40, 3)  # low bands below, times from left to right
    heard = clips("audio", 1.0)["given"][0, ..., 0]
    loud = np.unravel_index(heard.argmax(), heard.shape)
    assert given[15 - loud[1], loud[0], 0] == 255
    assert (seen[:, 20:] == HIDDEN).all() and (seen[:, :20] == given[:, :20]).all()
    np.testing.assert_allclose(first, given, atol=1)  # float16
    assert (last[:, :20] == given[:, :20]).all() and np.abs(last - given)[:, 20:].mean() > 20
    assert (off[:, :20] == 0).all() and off[:, 20:].mean() > 40 and off.max() == 255


@pytest.mark.parametrize(("modality", "kind"), [("video", "jpeg"), ("audio", "png")])
def test_one_modality(folder, modality, kind):
    save(folder, 10, 0.5, (modality,))
    page = section(folder)
    assert len(pictures(page, kind)) == 2 * 4
    assert len(pictures(page, {"jpeg": "png", "png": "jpeg"}[kind])) == 0


def test_checkpoints_with_other_clips_are_not_compared(folder):
    save(folder, 10, 0.5, seed=1)
    broken = save(folder, 20, 0.5)
    broken.write_bytes(broken.read_bytes()[:100])
    save(folder, 30, 0.5)
    page = section(folder)
    assert "step 10" not in page and "step 20" not in page
    assert page.count("predicted, step 30") == 2


def test_a_damaged_artefact_is_a_sentence(folder):
    path = save(folder, 10, 0.5)
    arrays = artefacts.load(path)
    del arrays["audio/masked"]
    artefacts.save(path, arrays)
    page = section(folder)
    assert "No reconstructions from toy-10.npz: it has no" in page and "audio/masked" in page


def test_numbers_that_are_not_finite_break_nothing(folder):
    path = save(folder, 10, 0.5)
    arrays = artefacts.load(path)
    arrays["audio/predicted"][:] = np.nan
    artefacts.save(path, arrays)
    page = section(folder)
    assert "not finite" in page and page.count('<figure class="restored"') == 2
