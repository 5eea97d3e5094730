"""What is compared, and what is said of differences; without running anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vatt.export import verification
from vatt.export.samples import Call


def compared(monkeypatch, results):
    calls = [
        Call("video", {}, {"a": np.ones((1, 2)), "b": np.full((1, 2), 50.0)}),
        Call("video", {}, {"a": np.zeros((3, 2)), "b": np.zeros((3, 2))}),
    ]
    monkeypatch.setattr(verification, "_results", lambda *arguments: results)
    return verification.errors("onnx", Path("out"), calls)


def given(**changes):
    same = {"0/video/a": np.ones((1, 2)), "0/video/b": np.full((1, 2), 50.0)}
    same |= {"1/video/a": np.zeros((3, 2)), "1/video/b": np.zeros((3, 2))}
    return same | {key.replace("_", "/"): value for key, value in changes.items()}


def test_the_largest_error_of_each_output_counts_of_large_values_its_share(monkeypatch):
    off = given(**{"1_video_a": np.full((3, 2), 5e-5), "0_video_b": np.full((1, 2), 50.004)})
    found = compared(monkeypatch, off)
    assert found == pytest.approx({"video/a": 5e-5, "video/b": 0.004 / 50}, rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"1_video_a": np.full((3, 2), 2e-4)}, r"by more than 0\.0001: video/a 2\.0e-04\. Nothing"),
        ({"1_video_a": np.full((3, 2), np.nan)}, r"video/a nan"),
        ({"1_video_a": np.zeros((2, 2))}, r"video/a: \[2, 2\] instead of \[3, 2\]"),
        ({"1_video_a": None}, r"video/a: None instead of \[3, 2\]"),
    ],
)
def test_differences_are_refused(monkeypatch, changes, told):
    with pytest.raises(verification.UnequalError, match=told):
        compared(monkeypatch, given(**changes))


def test_what_cannot_be_run_is_told_by_its_last_line(tmp_path):
    with pytest.raises(verification.UnequalError, match="cannot be run: KeyError: 'tensorrt'"):
        verification.errors("tensorrt", tmp_path, [])


def test_weights_that_give_no_numbers_are_not_taken_for_a_fault_of_the_format():
    call = Call("video", {}, {"a": np.array([[0.0, np.nan]])})
    with pytest.raises(verification.UnequalError, match="video/a: the model itself, before it is"):
        verification.errors("onnx", Path("out"), [call])
