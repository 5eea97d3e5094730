"""What is said at the end of a run that has learned nothing, and that nothing is said otherwise."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vatt.evaluation import artefacts
from vatt.evaluation.measures import Measure
from vatt.experiments import labelled, remarks


@pytest.fixture
def run(tmp_path):
    """Writes what a run has logged and returns the remarks on it."""

    def write(losses=(3.0, 2.0, 1.5, 1.0), measures=(), clips=(3, 4)):
        lines = [
            {"step": 25 * n, "split": "train", "metrics": {"total_loss": loss}}
            for n, loss in enumerate(losses, 1)
        ]
        found = [measure.as_dict() for measure in measures]
        lines.append({"step": 100, "split": "eval", "metrics": {}, "measures": found})
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / "metrics.jsonl").write_text(text)
        names = np.array([f"class{n}" for n in range(len(clips))])
        arrays = {"classes/name": names, "classes/clips": np.array(clips)}
        artefacts.save(tmp_path / "eval" / "mine-100.npz", arrays)
        return remarks.of_run(tmp_path)

    return write


def accuracy(value, chance=1 / 6, samples=80, task="classification", name="top_1_accuracy"):
    fields = dict(split="test", target="audio", chance=chance, samples=samples)
    return Measure("mine", task, name, value, **fields)


def rank(value, clips=60):
    fields = dict(query="audio", target="video", variant="embd", split="test", samples=clips)
    return Measure("mine", "retrieval", "MeanRank", value, chance=(clips + 1) / 2, **fields)


def test_nothing_is_said_of_a_run_that_learned(run, tmp_path):
    assert remarks.of_run(tmp_path / "nowhere") == []
    assert run(measures=[accuracy(0.74), rank(12.0), accuracy(0.5, None)]) == []
    assert run(losses=[1.0]) == [] == run(losses=[2.0, 1.9])


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([0.0, 0.0], "the loss never moved: total_loss is 0 from step 25 to step 50"),
        ([1.79, 1.81, 1.78, 1.795], "the loss did not fall: total_loss 1.79 became 1.795"),
        ([2.0, 1.0, 1.5, 2.1], "the loss did not fall: total_loss 2 became 2.1"),
    ],
)
def test_a_loss_that_did_not_fall(run, losses, said):
    (line,) = run(losses=losses)
    assert line.startswith(said)


def test_figures_that_guessing_reaches_are_named_in_one_line(run):
    # Of 80 clips guessing one of six gives 16.7 % with a deviation of 4.2 %.
    found = [accuracy(0.20), rank(29.0), accuracy(0.9, 0.9, name="top_5_accuracy")]
    (line,) = run(measures=found)
    assert line == (
        "not clearly better than chance at step 100: top_1_accuracy 20.0 % (chance 16.7 %), "
        "mine_audio2vid_embd_MeanRank 29.0 (chance 30.5)"
    )
    assert run(measures=[accuracy(0.26)]) == []  # more than two deviations above
    # A mean rank of 60 deviates by 2.2.
    assert run(measures=[rank(25.5)]) == []
    assert len(run(measures=[rank(33.0), accuracy(0.2, task="linear")])) == 1


def test_classes_without_a_clip_are_named(run):
    (line,) = run(measures=[accuracy(0.9)], clips=(4, 0, 3, 0))
    assert line.startswith("mine, split test: no clip of class class1, class3: ")


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (["pan_left", "zoom", "pan_right"], ["pan_left", "pan_right"]),
        (
            ["Turn clockwise", "turn counter-clockwise"],
            ["Turn clockwise", "turn counter-clockwise"],
        ),
        (["left2", "right2"], ["left2", "right2"]),
        (["leftovers", "rightovers", "bright", "blight"], []),
        (["left", "up"], []),
    ],
)
def test_classes_that_a_mirror_exchanges(labels, found):
    assert labelled.mirrored(labels) == found
