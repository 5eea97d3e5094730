"""What GDT and STiCA read against golden numbers: sound, pictures, frames of a clip, captions."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from tests.golden.checks import Arrays, Checks, Golden, absolute, load
from tests.golden.gdt import recipe
from vatt.configs import dataset
from vatt.data import (
    appearance,
    audio,
    clips,
    colour,
    geometry,
    representation,
    said,
    sampling,
    text,
    views,
    vision,
)
from vatt.data.appearance import LUMA_OF_BGR, Blur, Grey, Normalise
from vatt.data.views import EvaluationView, View

EXACT = 0.0
SOUND = 1e-3
PIXELS = 1e-5
POSITIONS = 3e-5  # where published positions are float32: off by up to 4e-6 of a pixel
RATE = 24000
FILTERS = {1: 40, 2: 257}
NORMALISE = Normalise(0.45, 0.225)
CHANGES = ("brightness", "contrast", "saturation")  # in the order of `colour.blend_jitter`
SEEDS = tf.zeros([sampling.ROWS, 2], tf.int64)  # of views in which nothing is left to chance


def _channels_last(array: np.ndarray) -> np.ndarray:
    """[channels, frames, height, width] -> [frames, height, width, channels]."""
    return np.transpose(array, (1, 2, 3, 0))


def _frames_last(array: np.ndarray) -> np.ndarray:
    """[frames, channels, height, width] -> [frames, height, width, channels]."""
    return np.transpose(array, (0, 2, 3, 1))


def _meta(arrays: Arrays) -> Any:
    return json.loads(str(arrays["meta"]))


# Sound -------------------------------------------------------------------------------------------


def audio_frontend_file(arrays: Golden) -> Checks:
    """`audio_frontend.npz`: windows of a waveform as log filterbanks."""
    pattern = re.compile(r"type(\d)_sec(\d+)_from([\d.]+)_z(\d)")
    for name in arrays:
        if found := pattern.fullmatch(name):
            kind, seconds, start, normalised = found.groups()
            cfg = _hearing(int(kind), int(seconds), normalised == "1")
            values = _heard(arrays["wav_int16"], float(start), cfg)
            yield absolute(name, values, _times_first(arrays[name]), SOUND)


def audio_chain_file(arrays: Golden) -> Checks:
    """`audio_chain.npz`: the same with volume, shift and masks."""
    waveform = load(arrays.path.with_name("audio_frontend.npz"))["wav_int16"]
    for name, case in _meta(arrays).items():
        cfg = _hearing(case["type"], case["num_sec"], case["z_normalize"])
        start = case["start_seconds"] + case["temporal_shift"]
        values = _heard(waveform, start, cfg, case["volume"])
        axes = {"frequency": audio.BANDS, "time": audio.TIMES}
        masks = [[axes[axis], *place] for axis, *place in case["masks_axis_start_width"]]
        values = audio.masked(values, tf.constant(masks, tf.int32, (len(masks), 3)))
        yield absolute(name, values, _times_first(arrays[name]), SOUND)


def _hearing(kind: int, seconds: int, normalised: bool) -> dataset.Dataset:
    return dataset.Dataset(
        raw_audio=False,
        audio_features="filterbank",
        sample_rate=RATE,
        audio_seconds=float(seconds),
        mel_bins=FILTERS[kind],
        stft_length=0.02,
        stft_step=0.01,
        audio_mean=1.93 if normalised else 0.0,
        audio_std=17.89 if normalised else 1.0,
    )


def _heard(
    waveform: np.ndarray, start: float, cfg: dataset.Dataset, volume: float = 1.0
) -> tf.Tensor:
    """[time, bands, 1] of the sound from `start` (s) on, or of the last that is as long."""
    samples = cfg.num_audio_samples
    length, sound = tf.constant(len(waveform)), tf.constant(waveform / 32768, tf.float32)
    first = tf.constant(max(round(start * RATE), 0))
    first = sampling.synchronised_offset(first, length, length, samples, 1)
    cut = tf.gather(sound, sampling.indices(first, length, samples, 1)) * volume
    found = representation.of(cut, cfg)
    return tf.ensure_shape(found, representation.shape(cfg))


def _times_first(array: np.ndarray) -> np.ndarray:
    """[1, bands, times] -> [times, bands, 1]."""
    return np.transpose(array, (2, 1, 0))


# Frames of a clip --------------------------------------------------------------------------------


def clip_frames_file(arrays: Golden) -> Checks:
    """`clip_frames.npz`: which frames of a record a clip takes, and when its sound begins."""
    for row in _meta(arrays):
        name = " ".join(str(row[key]) for key in ("frames_in_video", "fps", "clip_len", "index"))
        spec = _timing(row)
        count = tf.constant(row["frames_in_video"])
        if row["random_start"] is None:
            start = sampling.window_start(count, spec.size, row["index"], row["num_clips"])
        else:
            start = tf.constant(row["random_start"], tf.float32)
        found = spec.positions(start, count)
        yield absolute(name, found, np.array(row["frame_numbers"]), EXACT)
        length = tf.constant(round(row["frames_in_video"] / row["fps"] * RATE))
        sound = sampling.synchronised_offset(start, count, length, 1, 1)
        expected = np.array(row["audio_start_seconds"])
        yield absolute(f"{name}: sound", sound / RATE, expected, 1.0 / RATE)


def _timing(row: Mapping[str, Any]) -> clips.ClipSpec:
    return clips.ClipSpec(
        name="golden",
        frames=row["clip_len"],
        video_stride=row["sample_rate"],
        fps=30.0,
        record_fps=row["fps"],
        samples=RATE,
        audio_stride=1,
        has_video=True,
        has_audio=True,
        has_text=False,
        classes=0,
        windows=True,
    )


# Captions ----------------------------------------------------------------------------------------


def text_captions_file(arrays: Golden) -> Checks:
    """`text_captions.npz`: ids of words, the seconds of a caption, stacks of clips and ids."""
    meta = _meta(arrays)
    vocabulary = text.Vocabulary(("<pad>", *meta["vocabulary"]), text.CASED_TOKENIZER)
    tokenize = text.tokenizer(vocabulary)
    for words, expected in meta["ids"].items():
        found = tokenize(tf.constant(meta["sentences"]), int(words))
        yield absolute(f"ids of {words} words", found, np.array(expected), EXACT)
    for row in meta["captions"]:
        name = f"caption {row['caption']}"
        first, last = said.segment(*(tf.constant(time, tf.float64) for time in row["caption"]))
        yield absolute(name, [first, last], np.array(row["segment"]), EXACT)
        seconds = row["num_frames"] / row["fps"]
        seek = [first, said.latest(first, last, seconds)]
        expected = np.array([row["seek_min"], row["seek_max"]])
        yield absolute(f"{name}: start", seek, expected, EXACT)
        yield absolute(f"{name}: read", seconds + 0.1, np.array(row["read_seconds"]), 1e-9)
    videos = [_channels_last(arrays[f"compose/clip{shift}"]) for shift in (1, 2)]
    yield from _slots("compose/video", _directions(videos), arrays["compose/video"])
    ids = [arrays[f"compose/ids{shift}"] for shift in (1, 2)]
    found = np.concatenate(_directions(ids))
    yield absolute("compose/text", found, arrays["compose/text"], EXACT)


# Pictures ----------------------------------------------------------------------------------------


def augment_chains_file(arrays: Golden) -> Checks:
    """`augment_chains.npz`: boxes, blur, evaluation views, whole chains, stacks of four clips."""
    meta = _meta(arrays)
    yield from _boxes(meta["rrc_cases"])
    blurred = appearance.gaussian_blur(_frames_last(arrays["blur/in"]), tf.constant([0.1, 2.0]), 11)
    yield absolute("blur", blurred, _frames_last(arrays["blur/out"]), PIXELS)
    yield from _evaluation_views(arrays)
    for name, draws in meta.items():
        if name.startswith("stica_train/"):
            found = _stica(arrays[f"{name}/frames"], draws)
            yield absolute(name, found, _channels_last(arrays[f"{name}/out"]), PIXELS)
    yield from _composed(arrays, meta["gdt_compose"])


def _boxes(cases: Sequence[Mapping[str, Any]]) -> Checks:
    for case in cases:
        height, width = tf.constant(case["height"]), tf.constant(case["width"])
        draws = (tf.constant(case[key], tf.float64) for key in ("area_fractions", "log_ratios"))
        extent, fits = geometry.fitting_box(height, width, *draws, tuple(case["ratio"]))
        corner = case["offsets"] if fits else (tf.stack([height, width]) - extent) // 2
        found = [*np.array(corner), *np.array(extent)]
        yield absolute(f"box in {height} x {width}", found, np.array(case["box_i_j_h_w"]), EXACT)


def _evaluation_views(arrays: Arrays) -> Checks:
    for name in arrays:
        if not name.endswith("/view0"):
            continue
        case = name.removesuffix("/view0")
        expected = [_channels_last(arrays[f"{case}/view{number}"]) for number in range(3)]
        size = expected[0].shape[1]
        view = EvaluationView(size, size, multi_crop=True, decimals=True, normalise=NORMALISE)
        frames = arrays[f"{case}/frames"]
        found, _ = clips.evaluation_video(_record(frames), _whole(len(frames)), 1, view)
        for number, values in enumerate(expected):
            yield absolute(f"{case}/view{number}", found[number], values, PIXELS)


def _record(frames: np.ndarray) -> clips.Record:
    """A record of these frames alone, without loss."""
    empty = {field: tf.zeros([0]) for field in clips.Record._fields}
    return clips.Record(**{**empty, "frames": tf.constant(_encoded(frames))})


def _encoded(frames: np.ndarray) -> list[bytes]:
    files = []
    for frame in frames:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "png")
        files.append(file.getvalue())
    return files


def _whole(frames: int) -> clips.ClipSpec:
    """A clip of a whole record."""
    return _timing({"clip_len": frames, "sample_rate": 1, "fps": 30.0})


@dataclasses.dataclass(frozen=True)
class _Fixed:
    """A cut, or a jitter, that was drawn before."""

    value: Any
    channels_first: bool = False

    def draw(self, frame: tf.Tensor, size: int, seeds: tf.Tensor) -> geometry.Cut:
        return geometry.Cut(*self.value(frame, size))

    def apply(self, frames: tf.Tensor, seeds: tf.Tensor, zero_centred: bool) -> tf.Tensor:
        factors = dict(self.value)
        order = tf.constant([CHANGES.index(change) for change, _ in self.value])
        factors = tf.constant([factors[change] for change in CHANGES], tf.float32)
        return colour.blend_jitter(frames, factors, order, LUMA_OF_BGR, self.channels_first)


def _clip(frames: np.ndarray, view: View) -> np.ndarray:
    return vision.training_frames(tf.constant(_encoded(frames)), len(frames), SEEDS, view).numpy()


def _stica(frames: np.ndarray, draws: Mapping[str, Any]) -> np.ndarray:
    """The published chain of a training clip of STiCA, and of fine-tuning, with these draws."""
    top, left, height, width = draws["box_i_j_h_w"]
    size = draws["crop"]
    box = ([top, left], [height, width], [size, size], [0, 0])
    cfg = _published(size, "ResizedCrop", draws["grayscale"], draws["blur"])
    return _clip(frames, _replayed(cfg, lambda *_: map(tf.constant, box), draws))


def _gdt(frames: np.ndarray, draws: Mapping[str, Any], channels_first: bool) -> np.ndarray:
    """The chain of a training clip of GDT with these draws."""

    def cut(frame: tf.Tensor, size: int) -> Iterator[tf.Tensor]:
        resized = geometry.short_side_size(*tf.unstack(frame), tf.constant(draws["short_side"]))
        offset = tf.constant([draws["offset_y"], draws["offset_x"]])
        return iter((tf.zeros([2], tf.int32), frame, resized, offset))

    cfg = _published(draws["crop"], "ShortSide")
    return _clip(frames, _replayed(cfg, cut, draws, channels_first))


def _published(size: int, style: str, grey: bool = False, blur: bool = False) -> dataset.Dataset:
    return dataset.Dataset(
        crop_resize_style=style,
        frame_size=size,
        min_resize=size,
        color_style="blend",
        color_probability=1.0,
        grey_probability=float(grey),
        blur_probability=float(blur),
        pixel_mean=0.45,
        pixel_std=0.225,
        published_augmentation=True,
    )


def _replayed(
    cfg: dataset.Dataset,
    cut: Callable[..., Iterator[tf.Tensor]],
    draws: Mapping[str, Any],
    channels_first: bool | None = None,
) -> View:
    """The published view of a configuration with a cut, a flip and a jitter drawn before."""
    view = views.of_config(cfg, cfg.crop_resize_style)
    steps = []
    for step in view.steps:
        if not isinstance(step, appearance.BlendJitter):
            assert isinstance(step, Grey | Blur | Normalise)
            steps.append(step)
        elif draws["jitter"]:
            assert step.weights == LUMA_OF_BGR
            first = step.channels_first if channels_first is None else channels_first
            steps.append(_Fixed(draws["jitter"], first))
    flip = float(draws["flip"])
    return dataclasses.replace(view, cut=_Fixed(cut), flip=flip, steps=tuple(steps))


def _composed(arrays: Arrays, draws: Sequence[Mapping[str, Any]]) -> Checks:
    """Four clips of a record: two places, each forward and reversed."""
    frames = [arrays[f"gdt_compose/shift{shift}/frames"] for shift in (1, 2)]
    for mode, channels_first in (("published", True), ("time_first_jitter", False)):
        stack = _directions(frames)
        found = [_gdt(*pair, channels_first) for pair in zip(stack, draws, strict=True)]
        name = f"gdt_compose/video_{mode}"
        yield from _slots(name, found, arrays[name])
    sounds = [_times_first(arrays[f"gdt_compose/shift{shift}/spec"]) for shift in (1, 2)]
    found = [np.transpose(sound, (2, 1, 0)) for sound in _directions(sounds)]
    expected = arrays["gdt_compose/audio"]
    yield absolute("gdt_compose/audio", np.concatenate(found), expected, EXACT)


def _directions(clips_: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Each clip forward and reversed in time, its first axis."""
    return [turned for clip in clips_ for turned in (clip, clip[::-1])]


def _slots(name: str, found: Sequence[np.ndarray], expected: np.ndarray) -> Checks:
    for number, clip in enumerate(found):
        slot = _channels_last(expected[3 * number : 3 * number + 3])
        yield absolute(f"{name}: slot {number}", clip, slot, POSITIONS)


# Operators ---------------------------------------------------------------------------------------


def augmentation_checks(arrays: Arrays) -> Checks:
    """`sampling_augment_schedule.npz`."""
    for frames, size, index, count, start, end in arrays["clip_start_end"].tolist():
        name = f"start of {index:g} of {count:g} in {frames:g}"
        found = sampling.window_start(tf.constant(int(frames)), size, int(index), int(count))
        ends = [int(found), int(found) + size - 1]
        yield absolute(name, ends, np.array([start, end]), 1e-6)
    for name in arrays:
        if found := re.fullmatch(r"temporal_sampling_(\d+)_(\d+)_to_(\d+)", name):
            first, last, steps = map(int, found.groups())
            places = np.minimum(sampling.evenly(first, last, steps), 49).astype(int)
            yield absolute(name, places, arrays[name], EXACT)
    clip = tf.constant(_frames_last(arrays["aug/in_tchw"]))
    for name in arrays:
        group, _, operator = name.partition("/")
        if group not in ("aug", "aug_cthw_input") or operator == "in_tchw":
            continue
        swapped = group == "aug_cthw_input"
        expected = (_channels_last if swapped else _frames_last)(arrays[name])
        yield absolute(name, _operator(clip, operator, swapped), expected, PIXELS)
    yield from recipe.rates_and_views(arrays)


def _operator(clip: tf.Tensor, name: str, channels_first: bool) -> tf.Tensor:
    """What an operator makes of frames [frames, height, width, 3]."""
    if name == "grayscale":
        return Grey(1.0, LUMA_OF_BGR).apply(clip, SEEDS, False)
    if found := re.fullmatch(r"(\w+)_alpha([\d.]+)", name):
        change, factor = found.groups()
        jitter = [(kind, float(factor) if kind == change else 1.0) for kind in CHANGES]
        return _Fixed(jitter, channels_first).apply(clip, SEEDS, False)
    if found := re.fullmatch(r"uniform_crop(\d+)_(\d)", name):
        return vision.uniform_crop(clip, *map(int, found.groups()))
    if found := re.fullmatch(r"short_side_to(\d+)", name):
        return vision.resize_short_side(clip, int(found[1]))
    found = re.fullmatch(r"resized_crop_i(\d+)_j(\d+)_h(\d+)_w(\d+)_to(\d+)", name)
    top, left, height, width, size = map(int, found.groups())
    return tf.image.resize(clip[:, top : top + height, left : left + width], (size, size))


HANDLERS = {
    "audio_frontend.npz": audio_frontend_file,
    "audio_chain.npz": audio_chain_file,
    "augment_chains.npz": augment_chains_file,
    "clip_frames.npz": clip_frames_file,
    "text_captions.npz": text_captions_file,
    "sampling_augment_schedule.npz": augmentation_checks,
}
