"""The evaluator of reconstructions: which clips it takes, and what it leaves for the report."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from test_evaluators import AUDIO, TEXT, VIDEO, Model, card, subject

from vatt import configs
from vatt.evaluation import artefacts, reconstructions
from vatt.evaluators import reconstructions as evaluator
from vatt.experiments import pretrain_eval

sys.path.insert(0, str(Path(__file__).parents[1] / "methods" / "av_mae"))
import small

ROWS, WINDOWS = 7, 3


def batch():
    random = np.random.default_rng(3)
    found = {
        m: random.uniform(-1, 1, size=(ROWS, WINDOWS, *shape)).astype("f4")
        for m, shape in small.SHAPES.items()
    }
    there = {"valid": np.ones(ROWS), "audio_mask": np.ones(ROWS)}
    there["valid"][1] = there["audio_mask"][2] = 0  # cannot be used; has no sound
    texts = {"source": np.array([f"clip {row}".encode() for row in range(ROWS)])}
    return found | there | texts | {"label_text": np.array([b"a|b"] * ROWS)}


def evaluated(folder, cfg, step, sets=(VIDEO, AUDIO)):
    """Returns the artefact of a small model with weights of its own; None where there is none."""
    functions = pretrain_eval.Functions(small.built(cfg), None, tf.distribute.get_strategy())
    run = configs.resolve(model_arch="av_mae_tiny")
    facts = dict(zip(("video", "audio"), sets, strict=True))
    made = subject(folder, card(**facts), model=functions, batch=batch(), step=step)
    given = dataclasses.replace(made, cfg=run, input=run.eval.input)
    assert list(evaluator.evaluate(given)) == []  # there is nothing to measure
    path = folder / "eval" / reconstructions.FOLDER / f"set-{step}.npz"
    return artefacts.load(path) if path.exists() else None


def test_the_first_whole_clips_are_kept_masked_alike_at_every_checkpoint(tmp_path):
    cfg = small.config()
    first = evaluated(tmp_path, cfg, 10)
    later = evaluated(tmp_path, cfg, 20)
    assert first["clips/source"].tolist() == ["clip 0", "clip 3", "clip 4", "clip 5"]
    assert (int(first["step"]), int(later["step"])) == (10, 20)
    given = batch()
    rows, middle = [0, 3, 4, 5], WINDOWS // 2
    heard = given["audio"][rows, middle, ..., 0]
    np.testing.assert_allclose(first["audio/given"], heard, atol=1e-3)
    seen = (given["video"][rows, middle, 1::2] + 1) / 2 * 255
    np.testing.assert_allclose(first["video/given"], seen, atol=0.51)
    for modality in ("video", "audio"):
        for name in ("given", "seen", "masked"):
            key = f"{modality}/{name}"
            np.testing.assert_array_equal(first[key], later[key])
        assert first[f"{modality}/seen"].dtype == bool
        key = f"{modality}/predicted"
        assert np.abs(first[key].astype("f4") - later[key].astype("f4")).max() > 0


def test_one_modality(tmp_path):
    found = evaluated(tmp_path, small.config(modalities=("audio",)), 10, sets=(None, AUDIO))
    assert "video/given" not in found and found["audio/seen"].shape == (4, 24, 8)


def test_sets_without_a_modality_are_passed_over(tmp_path, caplog):
    with caplog.at_level("INFO", logger="absl"):
        assert evaluated(tmp_path, small.config(), 10, sets=(VIDEO, None)) is None
    assert "set: no reconstructions, it has no audio" in caplog.text


def test_models_that_predict_nothing_leave_nothing(tmp_path):
    class Silent(Model):
        modalities = ("video", "audio")
        reconstruction_notes = ()

        def reconstruct(self, inputs, seed):
            return {}

    made = subject(tmp_path, card(video=VIDEO, audio=AUDIO, text=TEXT), model=Silent())
    made.batch["source"] = np.array([b"x"] * 12)
    assert list(evaluator.evaluate(made)) == []
    assert not (tmp_path / "eval").exists()


def test_large_pictures_are_kept_smaller(tmp_path):
    size = (2, 16, 224, 200)
    found = {"given": np.ones((*size, 3)), "predicted": np.zeros((*size, 3))}
    found |= {"seen": np.ones((*size, 1)), "masked": np.zeros((*size, 1))}
    texts = {name: ["", ""] for name in evaluator.TEXTS}
    path = reconstructions.save(
        tmp_path, "set", 3, {"video": found}, texts, (), lambda x: (255 * x).astype(np.uint8)
    )
    arrays = artefacts.load(path)
    assert arrays["video/given"].shape == (2, 8, 112, 100, 3)
    assert arrays["video/masked"].shape == (2, 8, 112, 100)
    assert arrays["video/given"].min() == 255 and arrays["video/predicted"].max() == 0
