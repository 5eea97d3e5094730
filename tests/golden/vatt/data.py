"""The input pipeline against golden numbers: single functions, records, loaders."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import yaml

from tests.golden.checks import (
    Arrays,
    Check,
    Checks,
    Golden,
    Note,
    absolute,
    config_of,
)
from vatt.configs import dataset
from vatt.data import audio, clips, framing, ordering, pipeline, sampling, text, views, vision
from vatt.data.bad_records import Shard
from vatt.data.features import AUDIO, LABEL, TEXT, VIDEO

PIXELS = 1e-6  # absolute, of values in [0, 1], [-1, 1]; of those in 0..255 relative to 255
EXACT = 0.0
MEL = 1e-4
# Data sets whose pictures are not looked at, and those the published loaders cut three squares of.
AUDIO_SETS = ("audioset", "esc50")
VIDEO_SETS = ("kinetics400", "kinetics600", "kinetics700", "mit", "hmdb51", "ucf101")
# What the published factory of the golden records takes where a run says nothing.
FACTORY_DEFAULTS = {
    "num_frames": 32,
    "stride": 1,
    "min_resize": 256,
    "crop_size": 224,
    "zero_centering_image": False,
    "multi_crop": False,
    "num_test_clips": 1,
    "max_num_words": 16,
    "max_context_sentences": 1,
    "prepend_bos": False,
    "append_eos": False,
    "num_samples": 153600,
    "audio_stride": 1,
}


# Single functions --------------------------------------------------------------------------------


def processing_file(arrays: Golden) -> Checks:
    """`processing.npz`: every function of the pipeline by itself."""
    for group in (_sampling, _geometry, _values, _spectrograms, _texts, _masks):
        yield from group(arrays)


def _named(arrays: Arrays, prefix: str, last: str) -> Iterator[str]:
    """Names `prefix/<case>` of which there is an array `prefix/<case>/last`."""
    ending = f"/{last}"
    for name in arrays:
        if name.startswith(f"{prefix}/") and name.endswith(ending):
            yield name.removesuffix(ending)


def _sampling(arrays: Arrays) -> Checks:
    for length, steps, stride in arrays["middle/cases"].tolist():
        offset = sampling.middle_offset(tf.constant(length), steps, stride)
        name = f"middle/{length}_{steps}_{stride}"
        found = sampling.indices(offset, tf.constant(length), steps, stride)
        yield absolute(name, found, arrays[name], EXACT)
    for length, windows, steps, stride in arrays["linspace/cases"].tolist():
        offsets = sampling.linspace_offsets(tf.constant(length), windows, steps, stride)
        name = f"linspace/{length}_{windows}_{steps}_{stride}"
        found = np.ravel(sampling.indices(offsets, tf.constant(length), steps, stride))
        yield absolute(name, found, arrays[name], EXACT)


def _geometry(arrays: Arrays) -> Checks:
    for case in _named(arrays, "resize_smallest", "in"):
        frames, side = arrays[f"{case}/in"], int(arrays[f"{case}/min_resize"])
        found = vision.resize_smallest(tf.constant(frames), side)
        yield absolute(f"{case}/out_uint8", found, arrays[f"{case}/out_uint8"], EXACT)
        expected = arrays[f"{case}/out_float"]
        white = 255.0 if expected.max(initial=0.0) > 1.5 else 1.0  # the floats' range: 0..white
        found = vision.resize_smallest(tf.constant(frames * np.float32(white / 255.0)), side)
        yield absolute(f"{case}/out_float", found / white, expected / white, PIXELS)
    for kind, crop in (("central_crop", vision.central_crop), ("multi_crop", vision.three_crop)):
        for case in _named(arrays, kind, "in"):
            found = crop(tf.constant(arrays[f"{case}/in"]), int(arrays[f"{case}/size"]))
            yield absolute(f"{case}/out", found, arrays[f"{case}/out"], EXACT)
    found = vision.space_to_depth(tf.constant(arrays["space_to_depth/in"]))
    yield absolute("space_to_depth", found, arrays["space_to_depth/out"], EXACT)


def _values(arrays: Arrays) -> Checks:
    for name, centred in (("zero_centered", True), ("unit", False)):
        found = vision.normalise(tf.constant(arrays["normalize/in"]), centred)
        yield absolute(f"normalize/{name}", found, arrays[f"normalize/{name}"], PIXELS)
    for name in arrays:
        if name.startswith("label_smoothing/out_"):
            share = float(name.rpartition("_")[2])
            found = pipeline.smooth_labels(tf.constant(arrays["label_smoothing/in"]), share)
            yield absolute(name, found, arrays[name], PIXELS)
    waveform = tf.constant(arrays["extend_waveform/in"])
    for name in arrays:
        if name.startswith("extend_waveform/win"):
            windows = int(name.removeprefix("extend_waveform/win"))
            yield absolute(name, _windows(waveform, windows)[..., tf.newaxis], arrays[name], EXACT)


def _windows(waveform: tf.Tensor, windows: int) -> tf.Tensor:
    """[samples], or [windows, samples] of several."""
    return waveform if windows == 1 else tf.reshape(waveform, (windows, -1))


def _spectrograms(arrays: Arrays) -> Checks:
    for case in _named(arrays, "mel", "config"):
        config = config_of(arrays, f"{case}/config")
        windows = config.pop("num_windows", 1)
        waveform = tf.constant(arrays[f"{case}/in"], tf.float32)
        mel = audio.log_mel(_windows(waveform, windows), **config)
        yield absolute(f"{case}/log_mel", mel, arrays[f"{case}/log_mel"], MEL)
        found = audio.minmax_normalise(mel)
        yield absolute(f"{case}/normalized", found, arrays[f"{case}/normalized"], MEL)


def _texts(arrays: Golden) -> Checks:
    strings = tf.constant(arrays["tokenize/strings"])
    for kind, tokenizer in (("word", text.WORD_TOKENIZER), ("bert", text.BERT_TOKENIZER)):
        file = arrays.path.parent / {"word": "vocab_words.txt", "bert": "vocab_bert.txt"}[kind]
        vocabulary = text.read_vocabulary(file, tokenizer)
        ids = json.loads(str(arrays[f"tokenize/{kind}_special_ids"]))
        found = [vocabulary.pad_id, vocabulary.bos_id, vocabulary.eos_id, vocabulary.unk_id]
        expected = np.array([ids[word] for word in ("pad", "bos", "eos", "unk")])
        yield absolute(f"tokenize/{kind}_special_ids", found, expected, EXACT)
        for name in arrays:
            if name.startswith(f"tokenize/{kind}_bos"):
                bos, eos, width = name.rpartition("/")[2].split("_")[1:]
                tokenize = text.tokenizer(vocabulary, bos == "bos1", eos == "eos1")
                width = width.removeprefix("max")
                found = tokenize(strings, None if width == "None" else int(width))
                yield absolute(name, found, arrays[name], EXACT)


def _masks(arrays: Arrays) -> Checks:
    """`add_if_empty/*`: what a clip without sound or text gets; the arrays give the shapes."""
    for case in _named(arrays, "add_if_empty", "audio_mask"):
        sound, ids = arrays[f"{case}/audio"], arrays[f"{case}/text"]
        for name, values in (("audio", sound), ("text", ids)):
            present = values.any()
            mask = arrays[f"{case}/{name}_mask"]
            yield absolute(f"{case}/{name}_mask", float(present), mask, EXACT)
            if not present:
                empty = clips.absent(name, values.shape)
                yield absolute(f"{case}/{name}", empty, values, EXACT)


# Records -----------------------------------------------------------------------------------------


def records_file(file: Golden) -> Checks:
    """`records.json`: what is in the shards, through the reader of the pipeline."""
    folder = file.path.parent
    found = dict(zip(_reading_order(folder), _parsed(folder), strict=True))
    for facts in file["items"]:
        record, name = found[facts["index"]], f"record {facts['index']}"
        frames = vision.decode_jpegs(record.frames, facts["num_frames"])
        expected = (facts["num_frames"], facts["height"], facts["width"], 3)
        yield absolute(f"{name}: shape", np.array(frames.shape), np.array(expected), EXACT)
        samples, expected = len(record.waveform), np.array(facts["num_audio_samples"])
        yield absolute(f"{name}: samples", samples, expected, EXACT)
        yield absolute(f"{name}: labels", record.label_index, np.array(facts["labels"]), EXACT)
        captions = [caption.decode() for caption in record.captions.numpy()]
        yield Check(f"{name}: captions", float(captions != facts["captions"]), EXACT)


def decoded_frames_file(arrays: Golden) -> Checks:
    """`decoded_frames.npz`: every frame, decoded."""
    folder = arrays.path.parent
    for index, record in zip(_reading_order(folder), _parsed(folder), strict=True):
        expected = arrays[f"decoded/{index}"]
        found = vision.decode_jpegs(record.frames, len(expected))
        yield absolute(f"decoded/{index}", found, expected, EXACT)


def _shards(folder: Path) -> list[Shard]:
    paths = sorted(folder.glob("*-?????-of-?????"))
    return [Shard(str(path), sum(1 for _ in framing.walk(path))) for path in paths]


def _reading_order(folder: Path) -> list[int]:
    """Numbers of the records, counted through the shards, in the order they are read in."""
    shards = _shards(folder)
    first = np.cumsum([0, *(shard.records for shard in shards)])
    return [int(first[shard] + place) for (shard, place), _ in _elements(shards)]


def _elements(shards: list[Shard]) -> Iterator[tuple[np.ndarray, bytes]]:
    return ordering.one_pass(shards).as_numpy_iterator()


def _parsed(folder: Path) -> list[clips.Record]:
    return [clips.parse(tf.constant(data)) for _, data in _elements(_shards(folder))]


# The factory of the golden records ---------------------------------------------------------------


def pipeline_outputs_file(arrays: Golden) -> Checks:
    """`pipeline_outputs.npz`: batches of a configured factory in evaluation mode."""
    folder = arrays.path.parent
    parsed = _parsed(folder)
    vocabulary = text.read_vocabulary(folder / "vocab_words.txt")
    for run in _named_runs(arrays):
        config = FACTORY_DEFAULTS | config_of(arrays, f"{run}/config")
        rows = [_factory_clip(record, config, vocabulary, arrays, run) for record in parsed]
        yield from _batches(arrays, run, rows, config["batch_size"])


def _named_runs(arrays: Arrays) -> list[str]:
    return [name.removesuffix("/config") for name in arrays if name.endswith("/config")]


def _factory_clip(
    record: clips.Record, config: Mapping[str, Any], vocabulary: text.Vocabulary,
    arrays: Arrays, run: str,
) -> dict[str, np.ndarray]:  # fmt: skip
    """One record's part of a batch, under the golden names; windows lie along the batch axis."""
    windows = config["num_test_clips"]
    spec = clips.ClipSpec(
        name="golden",
        frames=config["num_frames"],
        video_stride=config["stride"],
        fps=25.0,
        samples=config["num_samples"],
        audio_stride=config["audio_stride"],
        has_video=True,
        has_audio=True,
        has_text=True,
        classes=arrays[f"{run}/batch0/label"].shape[-1],
    )
    view = views.EvaluationView(
        config["min_resize"],
        config["crop_size"],
        config["multi_crop"],
        config["zero_centering_image"],
    )
    video, _ = clips.evaluation_video(record, spec, windows, view)
    sound = clips.evaluation_audio(record.waveform, spec, windows, dataset.Dataset())
    captions = text.select_captions(record.captions, config["max_context_sentences"], "first")
    tokenize = text.tokenizer(vocabulary, config["prepend_bos"], config["append_eos"])
    return {
        "vision": video.numpy(),
        "audio": sound.numpy(),
        "text": tokenize(captions, config["max_num_words"]).numpy()[np.newaxis],
        "text_string": captions.numpy()[np.newaxis],
        "label": clips.label_of(record, spec.classes).numpy()[np.newaxis],
    }


def _batches(arrays: Arrays, run: str, rows: list[dict[str, np.ndarray]], size: int) -> Checks:
    """Compares with batch<i>/*; the published arrays drop or merge axes of length one."""
    for name in arrays:
        if not name.startswith(f"{run}/batch"):
            continue
        _, number, kind = name.rsplit("/", 2)
        start = int(number.removeprefix("batch")) * size
        found = np.concatenate([row[kind] for row in rows[start : start + size]])
        if found.dtype.kind in "OS":
            yield Check(name, float(found.tolist() != arrays[name].tolist()), EXACT)
            continue
        found = np.reshape(found, arrays[name].shape) if found.size == arrays[name].size else found
        exact = np.issubdtype(arrays[name].dtype, np.integer)
        yield absolute(name, found, arrays[name], EXACT if exact else _tolerance(kind))


def _tolerance(kind: str) -> float:
    return MEL if kind == "audio_mel" else PIXELS


# The loaders -------------------------------------------------------------------------------------


def loader_outputs_file(arrays: Golden) -> Checks:
    """`loader_outputs.npz`: the published evaluation loaders."""
    folder = arrays.path.parent
    for case in _named_runs(arrays):
        config = config_of(arrays, f"{case}/config")
        yield from _loader(arrays, case, config, folder)
    for name in arrays:
        if name.endswith("/error"):
            yield Note(f"{name}: the published code raises {arrays[name]}; here it works")


def _loader(arrays: Golden, case: str, config: Mapping[str, Any], folder: Path) -> Checks:
    kind = dataset.Evaluation if config["loader"] == "EvalLoader" else dataset.Finetune
    values = {key: value for key, value in config["input"].items() if key in kind.model_fields}
    if config["dataset_id"] not in VIDEO_SETS:
        values["multi_crop"] = False
    values["vocabulary"] = str(folder / "vocab_words.txt")
    values["name"] = ("golden",) if kind is dataset.Evaluation else "golden"
    cfg = kind(**values)
    modality = AUDIO if config["dataset_id"] in AUDIO_SETS else VIDEO
    label = arrays[f"{case}/batch0/label"]
    names = {VIDEO: "vision", AUDIO: "audio" if cfg.raw_audio else "audio_mel"}
    tokenize = text.tokenizer(text.load_vocabulary(cfg))
    words = arrays[f"{case}/batch0/text"].shape[-1]
    with tempfile.TemporaryDirectory() as data_dir:
        _write_set(folder, Path(data_dir) / "golden", label.shape[-1], cfg)
        batches = pipeline.evaluation_batches(
            cfg, "golden", "test", data_dir=data_dir, modalities=(modality,)
        )
        found = [{key: value.numpy() for key, value in batch.items()} for batch in batches]
    rows = []
    for batch in found:
        for row in np.flatnonzero(batch["valid"]):
            rows.append({names[modality]: batch[modality][row], "label": batch[LABEL][row][None]})
    for row, record in zip(rows, _parsed(folder), strict=True):
        caption = text.select_captions(record.captions, 1, "first")
        row[TEXT] = tokenize(caption, words).numpy()[np.newaxis]
    yield from _batches(arrays, case, rows, cfg.batch_size)


def _write_set(source: Path, folder: Path, classes: int, cfg: dataset.Dataset) -> None:
    folder.mkdir()
    for shard in _shards(source):
        (folder / Path(shard.path).name).symlink_to(Path(shard.path).resolve())
    card = {
        "name": "golden",
        "tasks": ["video_classification", "audio_classification"],
        "video": {"fps": 25.0},
        "audio": {"sample_rate": cfg.sample_rate},
        "splits": {"test": {"pattern": "*-?????-of-?????"}},
        "num_classes": classes,
    }
    (folder / "card.yaml").write_text(yaml.safe_dump(card))
