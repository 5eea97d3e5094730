"""Mixup: which rows are mixed, by which shares."""

import corpus
import numpy as np
import pytest
import tensorflow as tf
import yaml

from vatt.configs import dataset
from vatt.data import mixing, pipeline, sampling
from vatt.data.examples import LabelledClips


def seed():
    return sampling.root_seed(3)


def test_by_rows_every_row_has_its_own_share_and_partner():
    batch = np.eye(8, dtype=np.float32)
    how = mixing.by_rows(seed(), 8, 10.0, 2.0)
    mixed = mixing.mixed(tf.constant(batch[:, :, None]), *how).numpy()[..., 0]
    np.testing.assert_allclose(mixed.sum(axis=0), 1, atol=0.6)  # every row is someone's partner
    np.testing.assert_allclose(mixed.sum(axis=1), 1, atol=1e-6)
    shares, order = (value.numpy() for value in mixing.by_rows(seed(), 2000, 10.0, 2.0))
    assert sorted(order) == list(range(2000))
    assert abs(shares.mean() - 10 / 12) < 0.01 and len(set(shares)) > 1900


def test_by_batch_one_share_and_the_reversed_batch():
    share, order = mixing.by_batch(seed(), 6, 0.5)
    assert share.shape == (1,) and 0 < float(share[0]) < 1
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    expected = float(share[0]) * x + (1 - float(share[0])) * x[::-1]
    np.testing.assert_allclose(mixing.mixed(tf.constant(x), share, order), expected, rtol=1e-6)
    # Beta(0.5, 0.5) has half of its mass below 0.146 and above 0.854.
    seeds = (sampling.fold(seed(), number) for number in range(400))
    shares = np.array([float(mixing.by_batch(one, 2, 0.5)[0][0]) for one in seeds])
    assert abs(np.mean((shares < 0.1464) | (shares > 0.8536)) - 0.5) < 0.1
    assert abs(shares.mean() - 0.5) < 0.1


CLIP = {"num_frames": 4, "frame_size": 16, "min_resize": 18, "sample_rate": corpus.SAMPLE_RATE}
CLIP |= {"batch_size": 6, "video_stride": 1, "audio_stride": 1, "crop_resize_style": "Stretched"}
CLIP |= {"mixup_style": "batch", "mixup_alpha": 1.0, "name": "acts", "color_augment": False}


@pytest.mark.slow
@pytest.mark.parametrize("multi_label", [False, True])
def test_modalities_that_are_mixed_apart_have_labels_of_their_own(tmp_path, multi_label):
    corpus.write_set(tmp_path, "acts", [corpus.example(i) for i in range(6)], text=False)
    file = tmp_path / "acts" / "card.yaml"
    card = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**card, "multi_label": multi_label}))

    def first(**changes):
        cfg = dataset.Finetune(**{**CLIP, **changes})
        card = pipeline.load_card("acts", tmp_path)
        examples = LabelledClips(cfg, card, ("video", "audio"))
        batches = pipeline.training_batches(examples, data_dir=tmp_path, seed=1)
        batch = next(batches.as_numpy_iterator())
        assert {k: v.shape[1:] for k, v in batch.items()} == examples.shapes
        return batch

    plain = first(label_smoothing=0.0)
    smoothed = plain["label"] * 0.7 + 0.3 / 3
    mixed = first(mixup=True, mixup_apart=True, label_smoothing=0.3, smooth_multi_label=True)
    together = first(mixup=True, label_smoothing=0.0)
    shares = {}
    for modality in ("video", "audio"):
        own, other = plain[modality], plain[modality][::-1]
        shares[modality] = np.vdot(mixed[modality] - other, own - other) / np.vdot(
            own - other, own - other
        )
        share = shares[modality]
        np.testing.assert_allclose(mixed[modality], share * own + (1 - share) * other, atol=1e-5)
        expected = share * smoothed + (1 - share) * smoothed[::-1]
        np.testing.assert_allclose(mixed[f"label_{modality}"], expected, atol=1e-5)
    assert abs(shares["video"] - shares["audio"]) > 1e-3
    assert "label_video" not in together and together["label"].shape == (6, 3)


def test_draws_are_functions_of_the_seed():
    for draw in (lambda s: mixing.by_rows(s, 5, 1.0, 1.0), lambda s: mixing.by_batch(s, 5, 1.0)):
        first, again, other = draw(seed()), draw(seed()), draw(sampling.fold(seed(), 1))
        np.testing.assert_array_equal(first[0], again[0])
        np.testing.assert_array_equal(first[1], again[1])
        assert not np.array_equal(first[0], other[0])
