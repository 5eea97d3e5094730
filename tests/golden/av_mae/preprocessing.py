"""What fine-tuning reads: frames step by step, where clips begin, spectrograms and their masks."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import tensorflow as tf

from tests.golden.checks import Arrays, Check, Checks, absolute
from vatt.data import audio, colour, geometry, sampling, vision
from vatt.data.appearance import LUMA_4_DIGITS
from vatt.data.audio import Masks
from vatt.data.views import EvaluationView

EXACT = 0.0
VALUES = 1e-5
NORMALISATIONS = ((1.102, 2.762), (0.0, 1.0))  # mean and std: AudioSet, VGGSound
DIFFERING = 0.01  # share of levels that may be off by one


def preprocessing_file(arrays: Arrays) -> Checks:
    """`preprocessing.npz`: every step with its draws given."""
    yield from _evaluation(arrays)
    yield from _training(arrays)
    yield from _clips(arrays)
    yield from _spectrograms(arrays)


def _levels(name: str, ours: Any, reference: np.ndarray) -> Checks:
    """Compares uint8 pictures: few levels may be off by one, none by more."""
    ours = np.asarray(ours).astype(np.float64)
    yield absolute(name, ours, reference, 1.0)
    if ours.shape == reference.shape:
        yield Check(f"{name}: share differing", float(np.mean(ours != reference)), DIFFERING)


def _number(arrays: Arrays, stem: str) -> tuple[str, int]:
    """Returns the name that begins with `stem`, and the number that it ends in."""
    name = next(name for name in arrays if re.fullmatch(rf"{stem}\d+", name))
    return name, int(name.removeprefix(stem))


def _evaluation(arrays: Arrays) -> Checks:
    frames = tf.constant(arrays["frames"])
    name, side = _number(arrays, "eval/resized_smallest")
    yield from _levels(name, vision.resize_smallest(frames, side), arrays[name])
    name, size = _number(arrays, "eval/centre_crop")
    view = EvaluationView(side, size, zero_centred=True, centred=True)
    cut = vision.evaluation_frames(frames, view)
    yield from _levels(name, cut, arrays[name])
    found = vision.normalise(tf.constant(arrays[name]), view.zero_centred)
    yield absolute("eval/normalised", found, arrays["eval/normalised"], VALUES)
    name, size = _number(arrays, "eval/three_crops")
    view = EvaluationView(side, size, multi_crop=True, zero_centred=True, centred=True)
    yield from _levels(name, vision.evaluation_frames(frames, view), arrays[name])


def _training(arrays: Arrays) -> Checks:
    _, side = _number(arrays, "eval/resized_smallest")
    frames = vision.resize_smallest(tf.constant(arrays["frames"]), side)
    factors = tf.constant(arrays["train/jitter_factors"])
    size = geometry.stretched_size(tf.shape(frames)[1:3], factors)
    frames = vision.resize(frames, size)
    yield from _levels("train/jittered", frames, arrays["train/jittered"])
    name, size = _number(arrays, "train/cropped")
    place = tf.constant(arrays["train/crop_offset"], tf.int32)
    frames = vision.square(tf.constant(arrays["train/jittered"]), size, place)
    yield from _levels(name, frames, arrays[name])
    frames = vision.random_flip(frames, tf.constant([0, 0], tf.int64), probability=1.0)
    yield from _levels("train/flipped", frames, arrays["train/flipped"])
    values = vision.normalise(frames, zero_centred=True)
    yield absolute("train/normalised", values, arrays["train/normalised"], VALUES)
    meta = json.loads(str(arrays["train/colour_meta"]))
    kinds = ("brightness", "saturation", "contrast", "hue")
    draws = colour.Draws(tf.constant(True), *(tf.constant(meta[kind]) for kind in kinds))
    values = tf.constant(arrays["train/normalised"])
    values = colour.colour_jitter(values, draws, zero_centred=True)
    yield absolute("train/colour", values, arrays["train/colour"], VALUES)
    fast = colour.change(tf.constant(arrays["train/flipped"]), draws, zero_centred=True)
    yield absolute("train/colour, compiled", fast, arrays["train/colour"], VALUES)
    grey = tf.broadcast_to(colour.grey(values, LUMA_4_DIGITS), tf.shape(values))
    yield absolute("train/colour_then_grey", grey, arrays["train/colour_then_grey"], VALUES)


def _clips(arrays: Arrays) -> Checks:
    meta = json.loads(str(arrays["clip/meta"]))
    video, sound = (tf.constant(meta[f"{kind}_frames"]) for kind in ("video", "spec"))
    steps = meta["spec_steps"]
    for row in arrays["clip/table"]:
        expected = dict(zip(meta["columns"], row.tolist(), strict=True))
        first = tf.constant(expected["video_offset"], tf.int32)
        start = sampling.synchronised_offset(first, video, sound, steps, 1, loops=True)
        heard = sampling.indices(start, sound, steps, 1).numpy()
        seen = sampling.indices(first, video, meta["video_steps"], meta["video_stride"]).numpy()
        found = {
            "video_offset": int(first),
            "first_spec_index": heard[0],
            "last_spec_index": heard[-1],
            "first_video_index": seen[0],
            "last_video_index": seen[-1],
        }
        for column, value in expected.items():
            yield absolute(f"clip {first}: {column}", found[column], np.array(value), EXACT)


def _spectrograms(arrays: Arrays) -> Checks:
    plain = _normalised(arrays["spec/in"], arrays["spec/decoded_eval"])
    yield absolute("spec/decoded_eval", plain, arrays["spec/decoded_eval"], VALUES)
    rolled = audio.roll(plain, int(arrays["spec/shift"]))
    yield absolute("spec/decoded_rolled", rolled, arrays["spec/decoded_rolled"], VALUES)
    times, bands = arrays["spec/in"].shape
    for name in arrays:
        if not (found := re.fullmatch(r"(spec/augment\d+)/keep", name)):
            continue
        case = found[1]
        shares = np.stack([arrays[f"{case}/u_width"], arrays[f"{case}/u_start"]], axis=1)
        width = int(arrays[f"{case}/max_bins"])
        masks = Masks(bands=len(shares), times=0, band_width=width, time_width=1)
        places = audio.place_masks(tf.constant(shares, tf.float32), times, bands, masks)
        kept = audio.masked(tf.ones_like(plain), places)[0, :, 0]
        yield absolute(name, kept, arrays[name], EXACT)
        if f"{case}/out" in arrays:
            expected = arrays[f"{case}/out"]
            inputs = _masked_input(arrays, expected, np.asarray(kept))
            masked = audio.masked(tf.constant(inputs), places)
            yield absolute(f"{case}/out", masked, expected, VALUES)


def _normalised(values: np.ndarray, expected: np.ndarray) -> tf.Tensor:
    """[time, bands] -> [time, bands, 1] by the published mean and std that bring it nearest."""
    found = [(values[..., np.newaxis] - mean) / std for mean, std in NORMALISATIONS]
    return tf.constant(min(found, key=lambda x: np.max(np.abs(x - expected))), tf.float32)


def _masked_input(arrays: Arrays, expected: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Returns which of the decoded spectrograms was masked: the one that is the same where kept."""
    candidates = [arrays["spec/decoded_rolled"], arrays["spec/decoded_eval"]]
    columns = kept == 1
    return min(candidates, key=lambda x: np.max(np.abs((x - expected)[:, columns]), initial=0.0))


HANDLERS = {"preprocessing*.npz": preprocessing_file}
