"""A method that is not in the package goes all the way, with nothing in the package edited."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from vatt import methods
from vatt.configs import backbones
from vatt.data import records
from vatt.training.checkpoints import CheckpointStore, open_checkpoint

FOLDER = Path(__file__).resolve().parent
REPOSITORY = FOLDER.parents[1]
sys.path.insert(0, str(FOLDER.parent / "data"))
import corpus  # noqa: E402

STEPS, DEADLINE_S = 40, 240
CLIP = (
    "{{num_frames: 8, frame_size: 16, min_resize: 18, sample_rate: 1600, batch_size: 4, "
    "name: {name}, color_augment: false}}"
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    """Eight clips, each as loud as it is bright."""
    folder = tmp_path_factory.mktemp("records")
    corpus.write_set(folder, "clips", [record(level) for level in range(8)])
    corpus.write_set(folder, "found", [record(level) for level in range(5)], split="test")
    card = folder / "found" / "card.yaml"
    card.write_text(card.read_text().replace("- pretrain", "- retrieval"))
    for split in ("train", "test"):
        corpus.write_set(folder, "named", [record(level) for level in range(9)], split=split)
    card = folder / "named" / "card.yaml"
    text = card.read_text().replace("- pretrain", "- video_classification")
    split = "  train: {num_shards: 3, pattern: train-*-of-*.tfrecord, records: 9}\n"
    card.write_text(text.replace("splits:\n", f"splits:\n{split}"))
    return folder


def record(level: int) -> bytes:
    """A clip of one grey, of class `level` modulo 3."""
    grey = np.full((20, 24, 3), 28 * level, np.uint8)
    tone = np.sin(np.arange(12 * 160) / 3) * (level + 1) / 10
    return records.encode(
        records.ClipRecord(
            source=f"{level}.mp4",
            fps=10.0,
            sample_rate=1600,
            frames=[tf.io.encode_jpeg(grey).numpy()] * 12,
            waveform=tone.astype(np.float32),
            labels=["class"],
            label_indices=[level % 3],
        )
    )


def override(trained_on: str, evaluated_on: str, rate: str = "", evaluation: str = "") -> str:
    loop = "{iterations_per_loop: 4, save_checkpoint_freq: 8, max_checkpoints: 9"
    rate = f"{{learning_rate: {{total_steps: {STEPS}, learning_rate_base: 0.01{rate}}}}}"
    return (
        f"{{train: {loop}, optimizer: {rate}, input: {CLIP.format(name=trained_on)}}}, "
        f"eval: {{input: {CLIP.format(name=evaluated_on)}{evaluation}}}}}"
    )


PRETRAINING = override("clips", "[found, named]", evaluation=", zero_shot: false")
FINE_TUNING = override("named", "named", rate=", warmup_steps: 0")


def start(
    model_dir: Path, data_dir: Path, *flags: str, override: str = PRETRAINING
) -> subprocess.Popen:
    """Starts a run of the toy method, as a user of it does."""
    command = ["--import=toy_method", "--model_arch=toy", f"--params_override={override}", *flags]
    command += [f"--model_dir={model_dir}", f"--data_dir={data_dir}"]
    return subprocess.Popen(
        [sys.executable, "-m", "vatt.main", *command],
        env=os.environ | {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{FOLDER}"},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen, code: int = 0) -> str:
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == code, errors
    return errors


def weights(folder: Path) -> dict[str, np.ndarray]:
    reader = open_checkpoint(folder / f"ckpt-{STEPS}")
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@pytest.mark.slow
def test_the_toy_method_goes_all_the_way(tmp_path, data_dir):
    assert len((FOLDER / "toy_method.py").read_text().splitlines()) <= 120
    whole, run = tmp_path / "whole", tmp_path / "run"
    finish(start(whole, data_dir, "--mode=train"))

    killed = start(run, data_dir, "--mode=train_and_eval")
    end, store = time.monotonic() + DEADLINE_S, CheckpointStore(run)
    while not store.steps():
        assert killed.poll() is None and time.monotonic() < end, killed.stderr.read()
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    finish(start(run, data_dir, "--mode=train_and_eval"))
    undisturbed = weights(whole)
    for name, value in weights(run).items():
        np.testing.assert_array_equal(value, undisturbed[name], err_msg=name)

    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [row["metrics"]["total_loss"] for row in rows if row["split"] == "train"]
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.1
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["step"] == STEPS and 1 <= metrics["found_audio2vid_embd_MeanRank"] <= 5
    assert "named_knn_top_1_accuracy" in metrics and "named_top_1_accuracy" not in metrics
    manifest = json.loads((run / f"ckpt-{STEPS}.json").read_text())
    facts = {key: manifest[key] for key in ("method", "architecture", "kind")}
    assert facts == {"method": "toy", "architecture": "toy", "kind": "pretrain"}
    page = (run / "report.html").read_text()
    assert "found" in page and "named" in page and "toy" in page

    tuned = tmp_path / "tuned"
    finish(
        start(
            tuned,
            data_dir,
            "--task=finetune",
            "--mode=train_and_eval",
            "--model_arch=toy_video",
            f"--override_checkpoint={run}",
            override=FINE_TUNING,
        )
    )
    assert 0 <= json.loads((tuned / "metrics.json").read_text())["top_1_accuracy"] <= 1
    assert json.loads((tuned / f"ckpt-{STEPS}.json").read_text())["architecture"] == "toy_video"


def test_names_that_are_taken_are_refused(monkeypatch):
    list(methods.known())  # whose backbones stay; those of the toy method go with the test
    monkeypatch.setattr(methods, "MODULES", dict(methods.MODULES))
    monkeypatch.setattr(backbones, "BACKBONES", dict(backbones.BACKBONES))
    monkeypatch.syspath_prepend(str(FOLDER))
    methods.add("toy_method")
    assert methods.with_architecture("Toy").name == "toy"
    methods.add("toy_method")  # again: nothing changes
    import toy_method

    taken = methods.Method(**vars(toy_method.METHOD) | {"presets": {"tx_fac": toy_method.ToyRun}})
    monkeypatch.setattr(toy_method, "METHOD", taken)
    with pytest.raises(ValueError, match="'tx_fac' of toy_method: taken by method 'vatt'"):
        methods.add("toy_method")
