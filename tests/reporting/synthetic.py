"""Made-up run folders with everything a report can show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from vatt.evaluation import artefacts, attention, geometry, probe
from vatt.evaluation.classification import Classification, ClassificationResult
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
        "text_toaud": near(count, 32),
        "audio_totxt": near(count, 4, 32),
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


def make_pretraining_run(folder: Path, *, clips: int = 48, points: int = 300) -> Path:
    """Adds everything else that a pretraining run is evaluated by to `make_run`."""
    make_run(folder, every=40, clips=clips)
    rng = np.random.default_rng(0)
    lines = []
    for step in (800, 1600, 2400, 3200, 4000):
        skill = 1 - np.exp(-step / 1500)
        values = probe_metrics(skill, rng) | geometry_metrics("toy_retrieval", skill, rng)
        lines.append(line(step, "eval", values))
    with open(folder / "metrics.jsonl", "a") as file:
        file.write("\n".join(lines) + "\n")
    for modality, names in (("video", list(MOTIONS)), ("audio", [f"sound {i}" for i in range(14)])):
        save_projection(folder, f"toy_{modality}", modality, 4000, names, points)
    save_attention(folder, "toy_retrieval", 4000)
    return folder


def probe_metrics(skill: float, rng: np.random.Generator) -> dict[str, float]:
    """Probes and zero-shot classification of three sets, the last one with several labels."""
    values = {}
    for data, folds, classes in (("toy_actions", 3, 8), ("toy_actions@audio", 3, 8)):
        values |= {f"{data}_chance_top_{k}_accuracy": k / classes for k in (1, 5)}
        for kind, better in (("", 0.8), ("knn_", 0.65), ("published_probe_", 0.7)):
            best = better * (0.6 if "@" in data else 1.0)
            results = []
            for fold in range(1, folds + 1):
                top_1 = 0.125 + (best - 0.125) * skill + 0.03 * rng.normal()
                metrics = {
                    f"train_{kind}top_1_accuracy": min(1.0, top_1 + 0.15),
                    f"train_{kind}top_5_accuracy": 1.0,
                    f"test_{kind}top_1_accuracy": top_1,
                    f"test_{kind}top_5_accuracy": 0.7 + 0.3 * skill,
                }
                result = probe.ProbeResult(kind, metrics, {}, np.zeros(0))
                values |= probe.metric_names(data, fold, result)
                results.append(result)
            values |= probe.average_over_splits(data, results)
        for variant in ("embd", "cosine"):
            values[f"{data}_zero_shot_{variant}_top_1_accuracy"] = 0.125 + 0.3 * skill
            values[f"{data}_zero_shot_{variant}_top_5_accuracy"] = 0.625 + 0.2 * skill
        values |= {f"{data}_zero_shot_chance_top_{k}_accuracy": k / classes for k in (1, 5)}
    values["toy_sounds_chance_mAP"] = 0.11
    for kind in ("", "knn_"):
        metrics = {
            f"{split}_{kind}{name}": value * skill
            for split in ("train", "test")
            for name, value in (("mAP", 0.5), ("AUC", 0.95), ("d-prime", 2.2))
        }
        result = probe.ProbeResult(kind, metrics, {}, np.zeros(0))
        values |= probe.metric_names("toy_sounds", 0, result)
        values |= probe.average_over_splits("toy_sounds", [result])
    for variant in ("embd", "cosine"):
        values[f"toy_sounds_zero_shot_{variant}_mAP"] = 0.11 + 0.2 * skill
        values[f"toy_sounds_zero_shot_{variant}_AUC"] = 0.5 + 0.3 * skill
        values[f"toy_sounds_zero_shot_{variant}_d-prime"] = 1.2 * skill
    values["toy_sounds_zero_shot_chance_mAP"] = 0.11
    return values


def geometry_metrics(data: str, skill: float, rng: np.random.Generator) -> dict[str, float]:
    """Figures of three pairs whose modalities lie apart, the less the more `skill`."""
    values = {}
    for left, right in (("video", "text"), ("video", "audio"), ("audio", "text")):
        one = rng.normal(size=(64, 16))
        other = skill * one + rng.normal(size=(64, 16)) + 2 * (1 - skill)
        found = geometry.pair_geometry(one, other)
        found[f"uniformity_{left}"] = found.pop("uniformity_left")
        found[f"uniformity_{right}"] = found.pop("uniformity_right")
        values |= {f"{data}_geometry_{left}_{right}_{name}": v for name, v in found.items()}
    return values


def save_projection(
    folder: Path, data: str, modality: str, step: int, names: list[str], count: int
) -> Path:
    """Clouds of unequal size, one per class, and some clips without label."""
    rng = np.random.default_rng(3)
    share = np.arange(len(names), 0, -1.0)
    label = rng.choice(len(names), count, p=share / share.sum())
    centre = 4 * rng.normal(size=(len(names), 2))
    points = centre[label] + rng.normal(size=(count, 2))
    label[rng.random(count) < 0.03] = -1
    arrays = {
        "dataset": np.array(data),
        "modality": np.array(modality),
        "step": np.int64(step),
        "rows": 2 * np.arange(count),
        "label": label,
        "classes": np.array(names),
        "pca": points.astype(np.float32),
        "pca_explained": np.array([0.31, 0.118], np.float32),
        "tsne": (points * [3, 2] + rng.normal(size=(count, 2))).astype(np.float32),
    }
    return artefacts.save(folder / "eval" / "projections" / f"{data}-{modality}-{step}.npz", arrays)


def save_attention(folder: Path, data: str, step: int, clips: int = 4) -> Path:
    """Clips whose moving shape and loud moments are attended to."""
    labels = clip_labels(clips)
    frames = thumbnails(labels).repeat(2, axis=1)  # uint8 [clips, 6, 64, 64, 3]
    salient = np.ptp(frames.astype(np.float64), axis=-1) + 90 * (frames[..., 0] > 200)
    by_patch = salient.reshape(clips, 6, 4, 16, 4, 16).mean(axis=(3, 5)) + 5  # [clips, 6, 4, 4]
    time = np.linspace(0, 1, 16000)
    wave = np.abs(np.sin(9 * time)) ** 8 * np.sin(900 * time)
    loud = np.abs(wave).reshape(40, 400).mean(axis=1) + 0.05

    def attend(modality: str, rows: np.ndarray) -> np.ndarray:
        found = by_patch if modality == "video" else np.tile(loud, (len(rows), 1))
        return found / found.reshape(len(rows), -1).sum(1).reshape(-1, *(1,) * (found.ndim - 1))

    batch = {
        "valid": np.ones(clips),
        "video": frames[:, None].repeat(2, axis=3).repeat(2, axis=4) / 255.0,
        "audio": np.tile(wave[None, None, :, None], (clips, 1, 1, 1)),
        "caption": np.array([f"A {c} {s} {m} & <b>on</b>".encode() for c, s, m in labels], object),
        "label_text": np.array([b""] * clips, object),
        "source": np.array([f"video_{i:04}.mp4".encode() for i in range(clips)], object),
    }
    examples = attention.Examples(data)
    examples.add(batch, attend, zero_centred=False)
    return examples.save(folder, step)


def classifier(
    names: list[str],
    count: int,
    skill: float,
    *,
    modality: str = "video",
    several: bool = False,
    mel: bool = False,
) -> ClassificationResult:
    """Scores of a classifier that mixes up neighbouring classes; more `skill`, fewer mistakes."""
    classes, rng = len(names), np.random.default_rng(7)
    truth = rng.integers(0, classes, count)
    labels = np.eye(classes, dtype=np.float32)[truth]
    if several:
        labels[np.arange(count), (truth + rng.integers(0, classes, count)) % classes] = 1
    near = np.roll(labels, 1, axis=1)
    logits = skill * labels + 0.6 * skill * near + 1.6 * rng.normal(size=labels.shape)
    if modality == "audio":
        logits = 1.5 * logits - skill
    sources = [f"folder/clip_{i:05}.mp4".encode() for i in range(count)]
    batch = {"label": labels, "source": np.array(sources, object)}
    if modality == "video":
        batch["thumbnail"] = thumbnails(clip_labels(count))
    else:
        batch["audio"] = sounds(truth, rng, mel)
        batch["audio_mask"] = (rng.random(count) > 0.05).astype(np.float32)
    scores = Classification("toy_set", labels=names, modality=modality, multi_label=several)
    scores.add(batch, logits.astype(np.float32))
    return scores.result()


def sounds(pitches: np.ndarray, rng: np.random.Generator, mel: bool = False) -> np.ndarray:
    """Tones that rise with `pitches`: [clips, 1, 16000, 1], or as mel [clips, 1, 150, 80, 1]."""
    if mel:
        time, band = np.mgrid[:150, :80]
        ridge = [np.exp(-(((band - 10 - 7 * p - 8 * np.sin(time / 9)) / 3) ** 2)) for p in pitches]
        return (np.stack(ridge) + 0.2 * rng.random((len(pitches), 150, 80)))[:, None, ..., None]
    time = np.arange(16000) / 16000
    beat = np.abs(np.sin(2 * np.pi * 3 * time)) ** 6
    tones = [
        beat * np.sin(2 * np.pi * 180 * 1.3**p * time * (1 + 0.1 * time)) * rng.uniform(0.3, 1)
        for p in pitches
    ]
    noise = 0.01 * rng.normal(size=(len(pitches), 16000))
    return (np.stack(tones) + noise).astype(np.float32)[:, None, :, None]


def finetune_line(step: int, rng: np.random.Generator, modality: str) -> str:
    fall = np.exp(-step / 300)
    metrics = {
        "model_loss": 0.4 + 2 * fall + 0.1 * rng.normal(),
        "regularization_loss": 0.0,
        "learning_rate": 5e-3 * min(step / 100, 0.5 + 0.5 * np.cos(np.pi * step / 1000)),
        "gradient_norm/backbone": 1.5 * fall + 0.2 + 0.1 * abs(rng.normal()),
        "gradient_norm/classifier": 4 * fall + 0.1 + 0.1 * abs(rng.normal()),
        "parameter_norm": 60 + 5 * (1 - fall),
        "update_norm": 0.08 * fall + 0.02,
        "clips_per_second": 90 + 6 * rng.normal(),
        "data_wait_share": 0.02,
        "model_flops_per_second": 8.4e10,
    }
    metrics["total_loss"] = metrics["model_loss"]
    metrics["gradient_norm"] = np.hypot(
        metrics["gradient_norm/backbone"], metrics["gradient_norm/classifier"]
    )
    if modality == "video":
        metrics["top_1_accuracy"] = min(1.0, 0.95 - 0.8 * fall + 0.05 * rng.normal())
        metrics["top_5_accuracy"] = min(1.0, 1.0 - 0.4 * fall)
    else:
        metrics["binary_cross_entropy"] = 0.1 + 0.5 * fall
    return line(step, "train", metrics)


def make_finetune_run(folder: Path, names: list[str], count: int = 120, **kind) -> Path:
    """Writes a fine-tuning run of 1,000 steps; `kind` as in `classifier`."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, modality = np.random.default_rng(0), kind.get("modality", "video")
    lines = [finetune_line(step, rng, modality) for step in range(10, 1001, 10)]
    for step, skill in zip((250, 500, 750, 1000), (0.5, 1.5, 3.0, 3.4), strict=True):
        result = classifier(names, count, skill, **kind)
        result.save(folder, step)
        lines.append(line(step, "eval", result.metrics))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "config.yaml").write_text(
        "task: Finetune\nmode: train_and_eval\nmodel_arch: vit_tiny\n"
        "checkpoint_path: runs/toy\ntrain:\n  input:\n    name: toy_set\n"
        "    batch_size: 32\n  optimizer:\n    learning_rate:\n      total_steps: 1000\n"
        "eval:\n  input:\n    name: toy_set\n"
    )
    return folder
