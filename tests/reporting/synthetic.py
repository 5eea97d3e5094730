"""Made-up run folders with everything a report can show."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vatt.data import views
from vatt.evaluation import artefacts, attention, geometry
from vatt.evaluation.classification import Classification, ClassificationResult
from vatt.evaluation.measures import (
    GEOMETRY,
    KNN,
    LINEAR,
    PUBLISHED_PROBE,
    RETRIEVAL,
    ZERO_SHOT,
    Measure,
    published_names,
)

PAIRS = (("text", "video"), ("audio", "video"), ("text", "audio"))

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


@dataclasses.dataclass(frozen=True)
class Retrieved:
    """Measures of a retrieval evaluation, and what it keeps to be shown."""

    measures: list[Measure]
    artefact: dict[str, np.ndarray]

    def save(self, folder: Path, step: int) -> Path:
        path = folder / "eval" / f"{self.artefact['dataset']}-{step}.npz"
        return artefacts.save(path, self.artefact | {"step": np.int64(step)})


def retrieval(
    count: int, noise: float, pictures: bool = True, pairs: tuple[tuple[str, str], ...] = PAIRS
) -> Retrieved:
    """Searches among clips whose embeddings agree up to `noise`, both directions of each pair."""
    rng, labels = np.random.default_rng(count), clip_labels(count)
    words = sorted({word for label in labels for word in label})
    code = rng.normal(size=(len(words), 32))
    truth = 0.5 * rng.normal(size=(count, 32))
    for clip, label in enumerate(labels):
        for weight, word in zip((1.6, 0.9, 0.7), label, strict=True):
            truth[clip] += weight * code[words.index(word)]
    measures, arrays, shown = [], {}, set()
    for query, target in (direction for pair in pairs for direction in (pair, pair[::-1])):
        found = truth + noise * rng.normal(size=(count, 32))
        scores = (truth + noise * rng.normal(size=(count, 32))) @ found.T  # [queries, clips]
        best = np.argsort(-scores, axis=1)
        rank = 1 + np.argmax(best == np.arange(count)[:, None], axis=1)
        for variant in ("cosine", "embd"):
            figures = ranking(rank, count) | attributes(best[:, 0], labels, variant == "embd")
            measures += [
                Measure("toy_retrieval", RETRIEVAL, name, value, "test", query=query,
                        target=target, variant=variant, chance=chance, samples=count)
                for name, (value, chance) in figures.items()
            ]  # fmt: skip
        kind, asked = f"{query}_{target}", np.arange(0, count, max(1, count // 6))
        top = best[asked, :5]
        arrays |= {
            f"{kind}/query": asked,
            f"{kind}/top": top,
            f"{kind}/score": np.take_along_axis(scores[asked], top, axis=1).astype(np.float32),
            f"{kind}/hit": top == asked[:, None],
            f"{kind}/rank": rank[asked].astype(np.float64),
        }
        shown |= {*asked.tolist(), *top.ravel().tolist()}
    clips = np.array(sorted(shown))
    return Retrieved(measures, clips_of(clips, labels, pictures) | arrays | {
        "dataset": np.array("toy_retrieval"), "num_clips": np.int64(count)
    })  # fmt: skip


def ranking(rank: np.ndarray, count: int) -> dict[str, tuple[float, float]]:
    """Recalls and ranks with their chance."""
    recalls = {f"R{k}": (float(np.mean(rank <= k)), min(1.0, k / count)) for k in (1, 5, 10)}
    middle = (count + 1) / 2
    return recalls | {
        "MedianRank": (float(np.median(rank)), middle),
        "MeanRank": (float(np.mean(rank)), middle),
    }


def attributes(best: np.ndarray, labels: list, wanted: bool) -> dict[str, tuple[float, float]]:
    """How often the best match has the attributes of the query."""
    names = ("colour", "shape", "motion") if wanted else ()
    same = [[labels[b][i] == labels[q][i] for q, b in enumerate(best)] for i in range(len(names))]
    return {f"top1_{n}": (float(np.mean(s)), 0.3) for n, s in zip(names, same, strict=True)}


def clips_of(clips: np.ndarray, labels: list, pictures: bool) -> dict[str, np.ndarray]:
    """The clips that an artefact shows: texts, sounds and, with `pictures`, frames."""
    labels = [labels[clip] for clip in clips]
    captions = [f"A {c} {s} slowly {m} over a grey field" for c, s, m in labels]
    captions[0] = "<script>alert('caption')</script> & a red ball"
    time, rng = np.linspace(0, 1, 8000), np.random.default_rng(2)
    beats = [np.abs(np.sin(time * 3 * (2 + MOTIONS.index(m)))) ** 8 for _, _, m in labels]
    sounds_ = [artefacts.envelope((b * rng.uniform(-1, 1, 8000))[:, None]) for b in beats]
    arrays = {
        "clips/index": clips,
        "clips/caption": np.array(captions),
        "clips/label_text": np.array([f"colour={c}|shape={s}|motion={m}" for c, s, m in labels]),
        "clips/source": np.array([f"video_{clip:04}.mp4" for clip in clips]),
        "clips/envelope": np.stack(sounds_),
    }
    if pictures:
        jpegs = [artefacts.strip_jpeg(strip) for strip in thumbnails(labels)]
        arrays["clips/jpeg"] = np.frombuffer(b"".join(jpegs), np.uint8)
        arrays["clips/jpeg_offsets"] = np.cumsum([0, *map(len, jpegs)]).astype(np.int64)
    return arrays


def line(step: int, split: str, metrics: dict, time: float = 1_777_890_030.0) -> str:
    """A line of metrics.jsonl as training writes it, and earlier versions did for evaluations."""
    return json.dumps({"step": step, "split": split, "time": time + step / 5, "metrics": metrics})


def eval_line(step: int, measures: Iterable[Measure]) -> str:
    """A line of metrics.jsonl as an evaluation writes it: measures, and the same by name."""
    measures = list(measures)
    entry = json.loads(line(step, "eval", published_names(measures)))
    return json.dumps(entry | {"measures": [measure.as_dict() for measure in measures]})


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
        result = retrieval(clips, noise, pictures=step == steps)
        result.save(folder, int(step))
        lines.append(eval_line(int(step), result.measures))
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
    manifest = {"kind": "pretrain", "method": "vatt", "architecture": "tx_fac_tiny"}
    (folder / f"ckpt-{steps}.json").write_text(json.dumps(manifest))
    return folder


def make_pretraining_run(folder: Path, *, clips: int = 48, points: int = 300) -> Path:
    """Adds everything else that a pretraining run is evaluated by to `make_run`."""
    make_run(folder, every=40, clips=clips)
    rng = np.random.default_rng(0)
    lines = []
    for step in (800, 1600, 2400, 3200, 4000):
        skill = 1 - np.exp(-step / 1500)
        measures = probe_measures(skill, rng) + geometry_measures("toy_retrieval", skill, rng)
        lines.append(eval_line(step, measures))
    with open(folder / "metrics.jsonl", "a") as file:
        file.write("\n".join(lines) + "\n")
    for modality, names in (("video", list(MOTIONS)), ("audio", [f"sound {i}" for i in range(14)])):
        save_projection(folder, f"toy_{modality}", modality, 4000, names, points)
    save_attention(folder, "toy_retrieval", 4000)
    return folder


def probe_measures(skill: float, rng: np.random.Generator) -> list[Measure]:
    """Probes and zero-shot classification of three sets, the last one with several labels."""
    measures = []
    for target, share in (("video", 1.0), ("audio", 0.6)):
        for kind, better in ((LINEAR, 0.8), (KNN, 0.65), (PUBLISHED_PROBE, 0.7)):
            folds = []
            for fold in ("1", "2", "3"):
                top_1 = 0.125 + (better * share - 0.125) * skill + 0.03 * rng.normal()
                folds.append((top_1, 0.7 + 0.3 * skill))
                measures += accuracies(kind, target, min(1.0, top_1 + 0.15), 1.0, "train", fold)
                measures += accuracies(kind, target, *folds[-1], "test", fold)
            measures += accuracies(kind, target, *np.mean(folds, axis=0).tolist())
        for variant in ("embd", "cosine"):
            found = accuracies(ZERO_SHOT, target, 0.125 + 0.3 * skill, 0.625 + 0.2 * skill)
            measures += [dataclasses.replace(measure, variant=variant) for measure in found]
    several = {"mAP": (0.5, 0.11), "AUC": (0.95, None), "d-prime": (2.2, None)}
    for name, (value, chance) in several.items():
        like = Measure("toy_sounds", LINEAR, name, value * skill, target="audio", chance=chance)
        for kind in (LINEAR, KNN):
            for split, fold in (("train", "0"), ("test", "0"), ("", "")):
                measures.append(dataclasses.replace(like, task=kind, split=split, fold=fold))
        for variant in ("embd", "cosine"):
            measures.append(dataclasses.replace(like, task=ZERO_SHOT, variant=variant))
    return measures


def accuracies(
    task: str, target: str, top_1: float, top_5: float, split: str = "", fold: str = ""
) -> list[Measure]:
    """Both accuracies of one of eight classes."""
    return [
        Measure("toy_actions", task, f"top_{k}_accuracy", value, split, fold, target=target,
                chance=k / 8)
        for k, value in ((1, top_1), (5, top_5))
    ]  # fmt: skip


def geometry_measures(data: str, skill: float, rng: np.random.Generator) -> list[Measure]:
    """Figures of three pairs whose modalities lie apart, the less the more `skill`."""
    measures = []
    for left, right in (("video", "text"), ("video", "audio"), ("audio", "text")):
        one = rng.normal(size=(64, 16))
        other = skill * one + rng.normal(size=(64, 16)) + 2 * (1 - skill)
        found = geometry.pair_geometry(one, other)
        names = {"uniformity_left": f"uniformity_{left}", "uniformity_right": f"uniformity_{right}"}
        measures += [
            Measure(data, GEOMETRY, names.get(name, name), value, query=left, target=right)
            for name, value in found.items()
        ]
    return measures


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
    examples.add(batch, attend, views.EvaluationView(8, 8).levels)
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
        lines.append(eval_line(step, result.measures))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "config.yaml").write_text(
        "task: Finetune\nmode: train_and_eval\nmodel_arch: vit_tiny\n"
        "checkpoint_path: runs/toy\ntrain:\n  input:\n    name: toy_set\n"
        "    batch_size: 32\n  optimizer:\n    learning_rate:\n      total_steps: 1000\n"
        "eval:\n  input:\n    name: toy_set\n"
    )
    return folder
