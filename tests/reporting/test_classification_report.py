"""The report page of fine-tuning runs: every kind of classifier, hostile names, damaged files."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from pages import between, page_of, pictures
from PIL import Image

from vatt.evaluation import artefacts
from vatt.evaluation.classification import Classification
from vatt.evaluation.measures import Measure
from vatt.reporting import classification, matrices

ACTIONS = ["rises", "falls", "circles", "shakes", "zigzags", "grows", "turns", "stands still"]
HOSTILE = ["<script>alert(1)</script>", "x" * 300, 'ünïcödé & "quotes"', "走る", "", "a|b"]


def run_of(folder: Path, synthetic, batch, logits, **arguments) -> str:
    """Page of a run with one evaluation and no training."""
    scores = Classification("set", **{"modality": "video"} | arguments)
    scores.add(batch, logits)
    result = scores.result()
    result.save(folder, 5)
    (folder / "metrics.jsonl").write_text(synthetic.eval_line(5, result.measures) + "\n")
    return page_of(folder)


@pytest.fixture(scope="module")
def video_run(tmp_path_factory, synthetic) -> Path:
    return synthetic.make_finetune_run(tmp_path_factory.mktemp("runs") / "video", ACTIONS)


def test_video_run(video_run):
    page = page_of(video_run)
    kept = artefacts.load(video_run / "eval" / "toy_set-1000.npz")
    for text in (
        "Fine-tuning run",
        "Initialised from",
        "runs/toy",
        "Top-1 accuracy",
        "Chance: always answering the largest class",
        "All evaluations",
        "Each class",
        "most often taken for",
        "Confusion matrix",
        "Most frequent confusions",
        "Most confident wrong answers",
        "nats; the same, not drawn: model_loss; 0 throughout, not drawn: regularization",
        "Accuracy in training",
        "backbone",
        "folder/clip_0",
    ):
        assert text in page, text
    for absent in ("Zero-shot", "<b>Losses</b>", "Other me", 'class="missing">No'):
        assert absent not in page, absent
    # Every cell of the matrix that is not empty is drawn, with its count.
    matrix = page[page.index('<svg class="matrix"') :]
    matrix = matrix[: matrix.index("</svg>")]
    cells = int(np.count_nonzero(kept["confusion"]))
    counts = re.findall(r'<text class="count[^>]*>([^<]+)</text>', matrix)
    assert counts == [str(count) for count in kept["confusion"][kept["confusion"] > 0]]
    assert matrix.count("<rect") == cells + len(matrices.LEGEND)
    assert [image.size for image in pictures(page, "jpeg")] == [(192, 64)] * 12
    # The class table goes from worst to best.
    table = page[page.index("Each class") : page.index("Confusion matrix")]
    order = re.findall(r'<th scope="row" class="name">([^<]*)</th>', table)
    by_accuracy = dict(zip(ACTIONS, kept["classes/accuracy"], strict=True))
    assert sorted(order) == sorted(ACTIONS)
    assert [by_accuracy[name] for name in order] == sorted(by_accuracy.values())


def test_sounds_with_several_labels(synthetic, tmp_path):
    synthetic.make_finetune_run(tmp_path, ACTIONS, 60, modality="audio", several=True)
    page = page_of(tmp_path)
    for text in (
        "mAP and AUC",
        "d′",  # noqa: RUF001
        "Most probable classes that are not labels",
        "Least probable labels",
        "waveform",
        "Cross-entropy in training",
        "Chance of mAP",
        "those of a clip do not add up to 100",
    ):
        assert text in page, text
    for absent in ("Confusion matrix", "Top-1 accuracy", "answered wrongly", "not finite"):
        assert absent not in page, absent
    kept = artefacts.load(tmp_path / "eval" / "toy_set-1000.npz")
    silent = int(kept["mistakes/silent"].sum())
    assert page.count("this record has no sound") == silent
    images = pictures(page, "png")
    assert len(images) == len(kept["mistakes/kind"]) - silent == page.count('class="wave"')
    assert 0 < silent < 24


def test_spectrograms_are_upright(synthetic, tmp_path):
    """The brightest row of each picture is that of the tone, counted from the bottom."""
    synthetic.make_finetune_run(tmp_path, ACTIONS, 60, modality="audio", mel=True)
    page = page_of(tmp_path)
    assert "Confusion matrix" in page and "Top-1 accuracy" in page
    kept = artefacts.load(tmp_path / "eval" / "toy_set-1000.npz")
    shown = np.flatnonzero(~kept["mistakes/silent"])
    for image, row in zip(pictures(page, "png"), shown, strict=True):
        assert image.size == (150, 80)
        light = np.asarray(image.convert("L"), np.float64).mean(axis=1)
        sound = kept["mistakes/spectrogram"][row].astype(np.float64).mean(axis=1)
        assert abs(79 - light.argmax() - sound.argmax()) <= 2


def test_palette_gets_lighter_all_the_way():
    ramp = np.arange(256, dtype=np.uint8)[None]
    image = Image.open(io.BytesIO(classification.spectrogram_png(ramp)))
    red, green, blue = np.asarray(image.convert("RGB"), np.float64)[0].T
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    assert (np.diff(light) > -0.8).all() and light[0] < 20 and light[-1] > 240


def test_many_classes_are_folded_and_the_matrix_is_that_of_the_confused(synthetic, tmp_path):
    names = [f"kind of action {i}" for i in range(400)]
    synthetic.make_finetune_run(tmp_path, names, 300)
    page = page_of(tmp_path)
    assert "380 more classes" in page and "the classes most often confused of 400" in page
    assert matrices.OTHERS in page
    table = between(page, "<h2>Classes</h2>", "<h2>Mistakes</h2>")
    assert table.count('<th scope="row" class="name">') == 400
    kept = artefacts.load(tmp_path / "eval" / "toy_set-1000.npz")
    chosen = matrices.most_confused(kept["confusion"])
    assert len(chosen) <= matrices.CONFUSED_CLASSES
    assert len(page) < 600_000


def test_most_confused_classes():
    confusion = 50 * np.eye(60, dtype=np.int32)
    confusion[7, 40], confusion[40, 9], confusion[1, 2], confusion[50, 51] = 9, 8, 7, 6
    assert matrices.most_confused(confusion, 5).tolist() == [1, 2, 7, 9, 40]
    assert matrices.most_confused(confusion, 6).tolist() == [1, 2, 7, 9, 40]  # a pair does not fit
    assert matrices.confusions(confusion)[:2] == [(7, 40, 9), (40, 9, 8)]
    assert matrices.svg(50 * np.eye(60, dtype=np.int32), [str(i) for i in range(60)]) == ""
    picture = matrices.svg(confusion, [f"c{i}" for i in range(60)])
    rows = re.findall(r'text-anchor="end">(c\d+)<', picture)
    assert rows == ["c1", "c2", "c7", "c9", "c40", "c50", "c51"]
    assert "true: c40\npredicted: c9\n8 of 58 clips, 13.8 %" in picture


@pytest.mark.parametrize(
    ("names", "count"), [(["yes", "no"], 30), (["only", "other"], 1), (["single"], 3)]
)
def test_few_classes_and_clips(synthetic, tmp_path, names, count):
    page = page_of(synthetic.make_finetune_run(tmp_path, names, count))
    assert "Confusion matrix" in page
    assert f"step 1,000, {count} clip{'s' * (count > 1)}<" in page


def test_no_mistake(synthetic, tmp_path):
    page = run_of(tmp_path, synthetic, {"label": np.eye(3)}, np.eye(3))
    assert "No clip was answered wrongly." in page and "No class is taken for another." in page
    assert "100.0 %" in page and 'class="matrix"' in page


def test_logits_that_are_not_finite(synthetic, tmp_path):
    page = run_of(tmp_path, synthetic, {"label": np.eye(3)}, np.full((3, 3), np.nan))
    assert "The logits of 3 clips are not finite" in page
    assert "There is no clip with a label and an answer." in page
    assert page.count("not finite") >= 4
    logits = np.eye(3)
    logits[0] = np.nan
    page = run_of(tmp_path, synthetic, {"label": np.eye(3)}, logits)
    assert "The logits of 1 clip are not finite" in page and 'class="matrix"' in page


def test_clips_without_label_are_mentioned(synthetic, tmp_path):
    labels = np.eye(3)
    labels[2] = 0
    page = run_of(tmp_path, synthetic, {"label": labels}, np.eye(3))
    assert "Clips without label, not part of the accuracies: 1." in page


@pytest.mark.parametrize("several", [False, True], ids=["one label", "several labels"])
def test_hostile_names_are_escaped(synthetic, tmp_path, several):
    kind = {"modality": "audio", "several": True} if several else {}
    synthetic.make_finetune_run(tmp_path, HOSTILE, 60, **kind)
    page = page_of(tmp_path)
    assert "&lt;script&gt;alert(1)" in page
    assert "ünïcödé &amp; &#34;quotes&#34;" in page and "走る" in page
    assert "class 4" in page  # for the empty name


def test_hostile_sources_are_escaped(synthetic, tmp_path):
    batch = {"label": np.eye(2), "source": np.array([b'"><script>', b"\xff\xfe"], object)}
    page = run_of(tmp_path, synthetic, batch, 1 - np.eye(2))
    assert "&#34;&gt;&lt;script&gt; (record 0)" in page


def test_damaged_and_missing_artefacts_are_named(synthetic, tmp_path, video_run):
    metrics = (video_run / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(metrics)
    page = page_of(tmp_path)
    assert "no classes and mistakes to show" in page and "Zero-shot" not in page
    (tmp_path / "eval").mkdir()
    good = (video_run / "eval" / "toy_set-1000.npz").read_bytes()
    (tmp_path / "eval" / "toy_set-1000.npz").write_bytes(good[:100])
    assert "No classes and mistakes from toy_set-1000.npz" in page_of(tmp_path)
    arrays = artefacts.load(video_run / "eval" / "toy_set-1000.npz")
    del arrays["classes/clips"]
    artefacts.save(tmp_path / "eval" / "toy_set-1000.npz", arrays)
    assert "No classes and mistakes from toy_set-1000.npz" in page_of(tmp_path)


def test_before_the_first_evaluation(synthetic, tmp_path):
    (tmp_path / "metrics.jsonl").write_text(synthetic.line(10, "train", {"total_loss": 2.0}) + "\n")
    (tmp_path / "config.yaml").write_text("task: Finetune\nmode: train\n")
    page = page_of(tmp_path)
    assert "No evaluation has been logged yet" in page and "Zero-shot" not in page
    assert "scratch" in page


def test_both_kinds_in_one_run(synthetic, tmp_path):
    """A pretraining run with a classifier's artefact beside its retrieval keeps its sections."""
    synthetic.make_run(tmp_path, every=400, steps=400, clips=12)
    synthetic.classifier(ACTIONS, 40, 3.0).save(tmp_path, 400)
    page = page_of(tmp_path)
    for text in (
        "Zero-shot retrieval",
        "Retrieval examples",
        "Confusion matrix",
        "VATT, pretraining run",
    ):
        assert text in page, text


def test_regularization_is_drawn_where_there_is_any(synthetic, tmp_path):
    lines = [
        synthetic.line(
            step,
            "train",
            {"total_loss": 2.5, "model_loss": 2.0, "regularization_loss": 0.5, "top_1_accuracy": 1},
        )
        for step in (1, 2)
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    page = page_of(tmp_path)
    assert "</i>regularization" in page and "not drawn" not in page
    assert "<b>Losses</b>" not in page


def test_folds_stand_under_their_mean_and_spread(synthetic, tmp_path):
    def measure(value, fold="", **fields):
        split = f"test_{fold}" if fold else ""
        return Measure(
            "acts", "classification", "top_1_accuracy", value, split, fold, target="video", **fields
        )

    found = [measure(0.75, spread=0.125, samples=81, chance=0.25)]
    found += [measure(0.625, "1", samples=40), measure(0.875, "2", samples=41)]
    (tmp_path / "metrics.jsonl").write_text(synthetic.eval_line(30, found) + "\n")
    page = page_of(tmp_path)
    card = between(page, '<section class="card">', "</section>")
    assert "<h3>acts<" in card and "mean over folds, 81 clips" in card
    assert "75.0 ± 12.5 %" in card and "chance 25.0\xa0%" in card
    table = between(page, "<h2>Folds</h2>", "</table>")
    shown = re.findall(r"<td>([^<]*%)</td>", table)
    assert shown == ["75.0 ± 12.5 %", "62.5 %", "87.5 %"]
    assert table.index("test_1") < table.index("test_2") and page.count('class="card"') == 1


def test_the_fold_that_was_evaluated_and_a_set_too_small_are_said(synthetic, tmp_path):
    few = {"split": "test_3", "fold": "3", "target": "video", "samples": 7}
    found = [Measure("acts", "classification", "top_1_accuracy", 1.0, **few)]
    (tmp_path / "metrics.jsonl").write_text(synthetic.eval_line(30, found) + "\n")
    card = between(page_of(tmp_path), '<section class="card">', "</section>")
    assert "step 30, fold 3 (test_3), 7 clips" in card
    assert "7 clips are too few to tell models apart, one of them is 14 % of all." in card
