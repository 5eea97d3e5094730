"""Functions of the input pipeline against golden numbers of the published code."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from vatt.data import audio, sampling, text, vision


@pytest.fixture(scope="module")
def golden(shared_dir):
    return np.load(shared_dir / "conformance/data/processing.npz")


def test_middle_and_linspace_indices(golden):
    for length, count, stride in golden["middle/cases"]:
        offset = sampling.window_offsets(tf.constant(int(length)), 1, int(count), int(stride))
        found = sampling.indices(offset, int(length), int(count), int(stride))[0]
        np.testing.assert_array_equal(found, golden[f"middle/{length}_{count}_{stride}"])
    for length, windows, count, stride in golden["linspace/cases"]:
        offsets = sampling.linspace_offsets(
            tf.constant(int(length)), int(windows), int(count), int(stride)
        )
        found = sampling.indices(offsets, int(length), int(count), int(stride))
        expected = golden[f"linspace/{length}_{windows}_{count}_{stride}"]
        np.testing.assert_array_equal(np.ravel(found), expected)


@pytest.mark.parametrize("case", range(6))
def test_resize_smallest(golden, case):
    frames = golden[f"resize_smallest/{case}/in"]
    side = int(golden[f"resize_smallest/{case}/min_resize"])
    truncated = vision.resize_smallest(tf.constant(frames), side)
    assert truncated.dtype == tf.uint8
    np.testing.assert_array_equal(truncated, golden[f"resize_smallest/{case}/out_uint8"])
    exact = vision.resize_smallest(tf.constant(frames / 255.0, tf.float32), side)
    np.testing.assert_allclose(exact, golden[f"resize_smallest/{case}/out_float"], atol=1e-6)


@pytest.mark.parametrize("case", range(6))
def test_crops(golden, case):
    frames = tf.constant(golden[f"central_crop/{case}/in"])
    size = int(golden[f"central_crop/{case}/size"])
    np.testing.assert_array_equal(
        vision.central_crop(frames, size), golden[f"central_crop/{case}/out"]
    )
    if f"multi_crop/{case}/in" in golden:
        np.testing.assert_array_equal(
            vision.three_crop(frames, size), golden[f"multi_crop/{case}/out"]
        )


def test_normalise_and_space_to_depth(golden):
    frames = tf.constant(golden["normalize/in"])
    np.testing.assert_allclose(
        vision.normalise(frames, True), golden["normalize/zero_centered"], atol=1e-6
    )
    np.testing.assert_allclose(vision.normalise(frames, False), golden["normalize/unit"], atol=1e-6)
    np.testing.assert_array_equal(
        vision.space_to_depth(tf.constant(golden["space_to_depth/in"])),
        golden["space_to_depth/out"],
    )


@pytest.mark.parametrize(
    "case", ["default", "short_nondivisible", "small_bins", "function_defaults", "windows4"]
)
def test_log_mel(golden, case):
    config = json.loads(str(golden[f"mel/{case}/config"]))
    windows = config.pop("num_windows", 1)
    waveform = tf.constant(golden[f"mel/{case}/in"].astype(np.float32))
    pieces = audio.split_windows(waveform, windows)[..., 0]
    mel = audio.log_mel(pieces, **config)
    np.testing.assert_allclose(mel, golden[f"mel/{case}/log_mel"], atol=1e-4)
    np.testing.assert_allclose(
        audio.minmax_normalise(mel), golden[f"mel/{case}/normalized"], atol=1e-4
    )
    if "stft_step" in config:
        frames = audio.mel_frames(pieces.shape[-1], config["sample_rate"], config["stft_step"])
        assert frames == mel.shape[-3]


def test_split_windows(golden):
    waveform = tf.constant(golden["extend_waveform/in"])
    np.testing.assert_array_equal(audio.split_windows(waveform, 1), golden["extend_waveform/win1"])
    np.testing.assert_array_equal(audio.split_windows(waveform, 4), golden["extend_waveform/win4"])


@pytest.mark.parametrize("kind", ["word", "bert"])
def test_tokenizers(golden, shared_dir, kind):
    if kind == "bert":
        pytest.importorskip("tensorflow_text")
    name = {"word": "vocab_words.txt", "bert": "vocab_bert.txt"}[kind]
    tokenizer_name = {"word": text.WORD_TOKENIZER, "bert": text.BERT_TOKENIZER}[kind]
    vocabulary = text.read_vocabulary(shared_dir / "conformance/data" / name, tokenizer_name)
    ids = json.loads(str(golden[f"tokenize/{kind}_special_ids"]))
    assert (vocabulary.pad_id, vocabulary.bos_id, vocabulary.eos_id, vocabulary.unk_id) == (
        ids["pad"],
        ids["bos"],
        ids["eos"],
        ids["unk"],
    )
    assert len(vocabulary) == ids["vocab"]
    strings = tf.constant(golden["tokenize/strings"])
    for bos in (0, 1):
        for eos in (0, 1):
            tokenize = text.tokenizer(vocabulary, bool(bos), bool(eos))
            for width in (16, 6, None):
                np.testing.assert_array_equal(
                    tokenize(strings, width),
                    golden[f"tokenize/{kind}_bos{bos}_eos{eos}_max{width}"],
                    err_msg=f"bos={bos} eos={eos} max={width}",
                )
