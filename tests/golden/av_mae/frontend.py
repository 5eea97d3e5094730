"""Log-mel spectrograms, and which frames of a sequence make clips: `frontend_sampling.npz`."""

from __future__ import annotations

import re
from collections.abc import Mapping

import tensorflow as tf

from tests.golden.checks import Arrays, Check, Checks, absolute
from vatt.configs.dataset import Spectrum
from vatt.data import audio, sampling

MEL = 2e-3  # absolute; at the floor of the logarithm float32 decides
_MEL = re.compile(r"fl(?P<length>\d+)_fs(?P<step>\d+)_(?P<bins>\d+)mel(?P<options>(_.*)?)")
_CLIPS = re.compile(
    r"(?P<kind>linspace|middle)_(?P<count>\d+)(_windows(?P<windows>\d+))?"
    r"_steps(?P<steps>\d+)_stride(?P<stride>\d+)"
)


def frontend_file(arrays: Arrays) -> Checks:
    """Every array but the waveform, by what its name says."""
    for name, reference in arrays.items():
        if found := _MEL.fullmatch(name):
            yield absolute(name, _log_mel(arrays["waveform"], found), reference, MEL)
        elif found := _CLIPS.fullmatch(name):
            yield absolute(name, _places(found), reference, 0.0)
        elif name != "waveform":
            yield Check(f"{name}: no such spectrogram or clip is known", 1.0, 0.0)


def _log_mel(waveform: tf.Tensor, name: Mapping[str, str]) -> tf.Tensor:
    options = [option for option in name["options"].split("_") if option]
    rate, values = 16_000, {}
    for option in options:
        number = re.search(r"[\d.]+", option)
        match option.rstrip("0123456789.k"):
            case "lo":
                values["lowest_hz"] = float(number[0])
            case "hi":
                values["highest_hz"] = float(number[0])
            case "preemph":
                values["emphasis"] = float(number[0])
            case "norm":
                values["normalised"] = True
            case "power":
                values["power"] = True
            case "":
                rate = 1000 * int(number[0])
            case window:
                values["window"] = window
    how = Spectrum(**values)
    length, step, bins = (int(name[key]) for key in ("length", "step", "bins"))
    found = audio.unscaled_log_mel(tf.constant(waveform), rate, bins, length, step, how)
    return found[..., 0]


def _places(name: Mapping[str, str]) -> tf.Tensor:
    """The frames of all clips, one after another."""
    count, steps, stride = (int(name[key]) for key in ("count", "steps", "stride"))
    if name["kind"] == "middle":
        starts = sampling.middle_offset(tf.constant(count), steps, stride)
    else:
        windows = int(name["windows"])
        starts = sampling.linspace_offsets(tf.constant(count), windows, steps, stride)
    return tf.reshape(sampling.indices(starts, tf.constant(count), steps, stride), [-1])


HANDLERS = {"frontend_sampling*.npz": frontend_file}
