"""Masks of spectrograms by numbers, rolled spectrograms, sounds that go on at their start."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from vatt.configs import dataset
from vatt.data import audio, sampling
from vatt.data.audio import BANDS, MASKS, TIMES, Masks

TIMES_OF_CLIP, BANDS_OF_CLIP = 200, 64


def places(masks, count=200):
    root = sampling.root_seed(2)

    @tf.function(autograph=False)
    def draw(number):
        seed = sampling.fold(root, number)
        return audio.draw_masks(seed, TIMES_OF_CLIP, BANDS_OF_CLIP, masks)

    return np.stack([draw(number) for number in tf.range(count)])


def test_a_configuration_names_masks_or_counts_them():
    cfg = dataset.Finetune(raw_audio=False, audio_masking="medium")
    assert audio.masks_of(cfg) == MASKS["medium"]
    counted = dict(band_masks=2, band_mask_width=36, time_masks=4, time_mask_width=48)
    cfg = dataset.Finetune(raw_audio=False, **counted, time_mask_ratio=0.5)
    assert audio.masks_of(cfg) == Masks(2, 4, 36, 48, 0.5)
    assert audio.masks_of(dataset.Evaluation()).count == 0


@pytest.mark.parametrize(("ratio", "widest"), [(0.0, 0), (0.05, 9), (1.0, 47)])
def test_times_are_masked_up_to_a_share(ratio, widest):
    """As published for AV-MAE the share is 0: masks of times are configured, and mask nothing."""
    found = places(Masks(bands=1, times=2, band_width=8, time_width=48, ratio=ratio))
    of_times = found[found[..., 0] == TIMES]
    assert len(of_times) == 400
    assert of_times[:, 2].max() == widest and of_times[:, 2].min() == 0
    assert (of_times[:, 1] + of_times[:, 2]).max() <= TIMES_OF_CLIP
    of_bands = found[found[..., 0] == BANDS]
    assert set(of_bands[:, 2]) == set(range(8))


def test_a_rolled_spectrogram_has_all_its_times_in_their_order():
    spectrogram = tf.reshape(tf.range(20.0), (10, 2, 1))
    starts = set()
    for number in range(60):
        rolled = audio.rolled(spectrogram, sampling.fold(sampling.root_seed(0), number)).numpy()
        first = int(rolled[0, 0, 0]) // 2
        np.testing.assert_array_equal(rolled, np.roll(spectrogram, -first, axis=0))
        starts.add(first)
    assert starts == set(range(10))


def test_a_sound_begins_where_the_frames_do_and_goes_on_at_its_start():
    count, length, steps = (tf.constant(n) for n in (250, 998, 1000))
    looped = sampling.synchronised_offset(tf.constant(100), count, length, 1000, 1, loops=True)
    assert int(looped) == 399
    assert int(sampling.synchronised_offset(tf.constant(100), count, length, 1000, 1)) == 0
    heard = sampling.indices(looped, length, int(steps), 1).numpy()
    assert (heard[0], heard[-1]) == (399, (399 + 999) % 998)
