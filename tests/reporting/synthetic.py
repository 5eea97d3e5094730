"""A made-up run folder with everything a report can show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from vatt.evaluation.retrieval import Retrieval

COLOURS = {
    "red": (214, 60, 50),
    "green": (60, 160, 80),
    "blue": (60, 100, 210),
    "white": (235,) * 3,
}
SHAPES = ("ball", "box", "ring")
MOTIONS = ("rises", "falls", "circles", "shakes")


def clip_labels(count: int) -> list[tuple[str, str, str]]:
    names = list(COLOURS)
    return [(names[i % 4], SHAPES[(i // 4) % 3], MOTIONS[(i // 12 + i) % 4]) for i in range(count)]


def thumbnails(labels, size: int = 64) -> np.ndarray:
    """uint8 [clips, 3, size, size, 3]: a coloured shape that moves over a grey texture."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:size, :size]
    frames = np.zeros((len(labels), 3, size, size, 3), np.uint8)
    paths = {"rises": (0, -16), "falls": (0, 16), "circles": (14, 10), "shakes": (10, 0)}
    for clip, (colour, shape, motion) in enumerate(labels):
        ground = 90 + 25 * np.sin(x * rng.uniform(0.1, 0.4) + y * rng.uniform(0.1, 0.4))
        for frame in range(3):
            picture = np.repeat(ground[..., None], 3, axis=2)
            dx, dy = (part * (frame - 1) for part in paths[motion])
            u, v = x - size / 2 - dx, y - size / 2 - dy
            inside = np.hypot(u, v) < 12
            if shape == "box":
                inside = np.maximum(abs(u), abs(v)) < 11
            elif shape == "ring":
                inside &= np.hypot(u, v) > 6
            picture[inside] = COLOURS[colour]
            frames[clip, frame] = np.clip(picture, 0, 255)
    return frames


def retrieval(count: int, noise: float, pictures: bool = True) -> Retrieval:
    """A filled accumulator whose embeddings agree up to `noise`."""
    rng = np.random.default_rng(count)
    labels = clip_labels(count)
    code = rng.normal(size=(11, 32))
    truth = 0.5 * rng.normal(size=(count, 32))
    for clip, (colour, shape, motion) in enumerate(labels):
        for weight, values, offset, value in (
            (1.6, list(COLOURS), 0, colour),
            (0.9, SHAPES, 4, shape),
            (0.7, MOTIONS, 7, motion),
        ):
            truth[clip] += weight * code[offset + values.index(value)]

    def near(*shape):
        return truth.reshape(count, *(1,) * (len(shape) - 2), 32) + noise * rng.normal(size=shape)

    outputs = {
        "text_tovid": near(count, 32),
        "video_totxt": near(count, 4, 32),
        "audio_tovid": near(count, 4, 32),
        "video_toaud": near(count, 4, 32),
    }
    time = np.linspace(0, 1, 8000)
    beats = [np.abs(np.sin(time * 3 * (2 + MOTIONS.index(m)))) ** 8 for _, _, m in labels]
    captions = [f"A {c} {s} slowly {m} over a grey field" for c, s, m in labels]
    captions[0] = "<script>alert('caption')</script> & a red ball"
    batch = {
        "valid": np.ones(count),
        "caption": np.array([c.encode() for c in captions], object),
        "label_text": np.array(
            [f"colour={c}|shape={s}|motion={m}".encode() for c, s, m in labels], object
        ),
        "source": np.array([f"video_{i:04}.mp4".encode() for i in range(count)], object),
        "audio": np.stack(
            [np.tile((b * rng.uniform(-1, 1, 8000))[None, :, None], (4, 1, 1)) for b in beats]
        ),
    }
    if pictures:
        batch["thumbnail"] = thumbnails(labels)
    result = Retrieval("toy_retrieval")
    result.add(batch, outputs)
    return result


def line(step: int, split: str, metrics: dict, time: float = 1_777_890_030.0) -> str:
    return json.dumps({"step": step, "split": split, "time": time + step / 5, "metrics": metrics})


def train_line(step: int, rng: np.random.Generator) -> str:
    fall = np.exp(-step / 1500)
    text, audio = 2.2 + 4 * fall + 0.3 * rng.normal(), 2.8 + 3.5 * fall + 0.3 * rng.normal()
    metrics = {
        "total_loss": text + audio,
        "bridge_losses/asymmetric_nce/vidtxt_loss": text,
        "bridge_losses/asymmetric_nce/vidaud_loss": audio,
        "bridge_losses/asymmetric_nce/audtxt_loss": 0.0,
        "learning_rate": 1e-3 * min(step / 400, 0.5 + 0.5 * np.cos(np.pi * step / 4000)),
        "gradient_norm": float(np.exp(1.5 * fall + 0.3 * rng.normal()))
        * (30 if step == 1500 else 1),
        "parameter_norm": 60 + 20 * (1 - fall),
        "update_norm": 0.08 * fall + 0.02 + 0.005 * rng.normal(),
        "clips_per_second": 20 if step <= 10 else 168 + 6 * rng.normal(),
        "data_wait_share": abs(0.02 + 0.01 * rng.normal()),
        "model_flops_per_second": 3e9 if step <= 10 else 8.4e10 + 2e9 * rng.normal(),
    }
    return line(step, "train", metrics)


def make_run(folder: Path, *, every: int = 10, steps: int = 4000, clips: int = 48) -> Path:
    """Writes metrics.jsonl, eval/, config.yaml and run.json of a run that never happened."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    lines = [train_line(step, rng) for step in range(every, steps + 1, every)]
    noises = np.linspace(5, 2.2, 5)
    for step, noise in zip(np.linspace(steps / 5, steps, 5).astype(int), noises, strict=True):
        result = retrieval(clips, noise, pictures=step == steps).result()
        result.save(folder, int(step))
        lines.append(line(int(step), "eval", result.metrics))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "config.yaml").write_text(
        "task: Pretrain\nmodel_arch: tx_fac_tiny\nmodel_config:\n"
        "  model_name: tx_mlp_fac\ntrain:\n  input:\n"
        "    name: [toy_howto, toy_audioset]\n    batch_size: 32\n  optimizer:\n"
        "    name: Adam\n    learning_rate:\n      total_steps: 4000\neval:\n  input:\n"
        "    name: [toy_retrieval]\n"
    )
    launch = {
        "command": ["python", "-m", "vatt.main", "--task=pretrain"],
        "git_commit": "0123abcd",
        "started": "2026-05-04T10:20:30+00:00",
        "mode": "train",
        "machine": "x86_64, 2 cores",
        "versions": {"python": "3.12.4", "tensorflow": "2.21.0", "keras": "3.15.0"},
    }
    (folder / "run.json").write_text(json.dumps({"launches": [launch]}))
    return folder
