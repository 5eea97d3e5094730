"""Log filterbanks, masks and what else happens to the sound of a training clip, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from vatt import configs
from vatt.configs import dataset
from vatt.data import audio, clips, filterbank, representation, sampling
from vatt.errors import DataError

RATE, WINDOW, STEP = 24000, 0.02, 0.01
MADE = dict(
    raw_audio=False, audio_features="filterbank", sample_rate=RATE, mel_bins=40, fps=30.0,
    num_frames=30, stft_length=WINDOW, stft_step=STEP,
)  # fmt: skip


def numpy_filterbank(samples, rate, filters, length, hop):
    """The formula in float64: frame by frame, filter by filter, bin by bin."""
    emphasised = np.array([x - 0.97 * y for x, y in zip(samples, [0, *samples[:-1]], strict=True)])
    count = 1 if len(samples) <= length else 1 + int(np.ceil((len(samples) - length) / hop))
    emphasised = np.concatenate([emphasised, np.zeros(count * hop + length)])
    points = 1024 if length == 480 else 2048
    mel = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), filters + 2)
    bins = np.floor((points + 1) * 700 * (10 ** (mel / 2595) - 1) / rate).astype(int)
    table = np.zeros((count, filters))
    for i in range(count):
        frame = emphasised[i * hop : i * hop + length]
        power = np.abs(np.fft.rfft(frame, points)) ** 2 / points
        for j in range(filters):
            low, peak, high = bins[j : j + 3]
            table[i, j] += sum(power[b] * (b - low) / (peak - low) for b in range(low, peak))
            table[i, j] += sum(power[b] * (high - b) / (high - peak) for b in range(peak, high))
    return np.log(np.where(table == 0, np.finfo(float).eps, table))


@pytest.mark.parametrize(
    ("rate", "samples"), [(24000, 1500), (24000, 480), (24000, 100), (48000, 2500)]
)
def test_filterbank_equals_numpy(rate, samples):
    waveform = np.random.default_rng(samples).integers(-9000, 9000, samples)
    expected = numpy_filterbank(waveform.astype(float), rate, 40, rate // 50, rate // 100)
    given = tf.constant(waveform / 32768, tf.float32)
    found = filterbank.log_filterbank(given, rate, 40, WINDOW, STEP)
    assert found.shape == (filterbank.frames(samples, rate, WINDOW, STEP), 40, 1)
    np.testing.assert_allclose(found[..., 0], expected, atol=1e-5)
    several = filterbank.log_filterbank(tf.stack([given, given]), rate, 40, WINDOW, STEP)
    np.testing.assert_array_equal(several[1], found)


def test_silence_and_empty_filters_are_the_smallest_number():
    sound = np.random.default_rng(0).uniform(-1, 1, 4800)
    values = filterbank.log_filterbank(tf.constant(sound, tf.float32), RATE, 257, WINDOW, STEP)
    empty = np.log(np.finfo(float).eps)
    assert (np.abs(values[..., 0] - empty) < 1e-5).all(axis=0).sum() == 38
    silent = filterbank.log_filterbank(tf.zeros([4800]), RATE, 40, WINDOW, STEP)
    np.testing.assert_allclose(silent, empty, rtol=1e-6)


def test_frames_of_a_second():
    assert filterbank.frames(24000, RATE, WINDOW, STEP) == 99
    assert filterbank.frames(48000, RATE, WINDOW, STEP) == 199
    assert [filterbank.frames(n, RATE, WINDOW, STEP) for n in (1, 480, 481, 720, 721)] == [
        *(1, 1, 2, 2, 3)
    ]


@pytest.mark.parametrize("masking", ["mild", "medium", "heavy"])
def test_masks(masking):
    of_bands, of_times, bands, times, _ = masks = audio.MASKS[masking]

    @tf.function(autograph=False)  # one by one its operations take longer
    def draw(number):
        return audio.draw_masks(sampling.fold(sampling.root_seed(1), number), 99, 40, masks)

    drawn = np.stack([draw(number) for number in tf.range(300)])
    assert drawn.shape == (300, of_bands + of_times, 3)
    for axis, count, widest, length in ((1, of_bands, bands, 40), (0, of_times, times, 99)):
        found = drawn[drawn[..., 0] == axis]
        assert len(found) == 300 * count
        assert set(found[:, 2]) == set(range(widest))  # never the bound itself
        ends = found[:, 1] + found[:, 2]
        assert found[:, 1].min() <= length // 20 and length - length // 20 <= ends.max() <= length


def test_masked_places_are_zero():
    masks = tf.constant([[1, 3, 2], [0, 0, 4], [0, 9, 0]])
    expected = np.ones((10, 6))
    expected[:, 3:5] = expected[:4] = 0
    np.testing.assert_array_equal(audio.masked(tf.ones([10, 6, 1]), masks)[..., 0], expected)


def made(**changes):
    return dataset.Finetune(**{**MADE, "audio_stride": 1, **changes})


def heard(cfg, seed=0, start=12000, samples=72000):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, samples).astype(np.float32)
    spec = clips.ClipSpec(
        "made", cfg.num_frames, 1, 30.0, cfg.num_audio_samples, 1, True, True, False, 0
    )
    seeds = sampling.seeds_per_use(sampling.root_seed(seed))
    return sound, clips.training_audio(
        tf.constant(sound), tf.constant(start), 0.0, seeds, cfg, spec
    )


def test_shape_and_mean():
    plain, scaled = made(), made(audio_mean=1.93, audio_std=17.89)
    _, values = heard(plain)
    assert values.shape == representation.shape(plain) == (99, 40, 1)
    np.testing.assert_allclose(heard(scaled)[1], (values - 1.93) / 17.89, rtol=1e-6, atol=1e-6)
    assert representation.shape(made(audio_seconds=2.0)) == (199, 40, 1)
    windows = tf.reshape(tf.constant(heard(plain)[0]), (3, 24000))
    assert representation.of(windows, plain).shape == (3, 99, 40, 1)


def test_volume_is_one_factor():
    _, plain = heard(made())
    factors = []
    for seed in range(40):
        difference = (heard(made(volume_jitter=0.1), seed)[1] - plain).numpy()
        assert np.ptp(difference) < 1e-3
        factors.append(np.exp(difference.mean() / 2))
    assert 0.9 <= min(factors) < 0.92 and 1.08 < max(factors) <= 1.1


def test_shifted_sound_stays_within_the_record():
    cfg = made(raw_audio=True, audio_features="log_mel", audio_shift=0.5)
    places = []
    for start in (0, 12000, 48000):
        for seed in range(20):
            sound, found = heard(cfg, seed, start)
            (place,) = np.flatnonzero(sound == found[0, 0].numpy())
            np.testing.assert_array_equal(sound[place : place + 24000], found[:, 0])
            assert abs(place - start) <= 12000
            places.append(place - start)
    assert min(places) < -9000 and max(places) > 9000 and 0 in places


def test_masking_of_a_training_clip():
    cfg, masked = made(), [heard(made(audio_masking="heavy"), seed)[1] for seed in range(9)]
    _, plain = heard(cfg)
    for values in masked:
        np.testing.assert_array_equal(np.where(values == 0, 0, plain), values)
    assert any((values == 0).numpy().any() for values in masked)


def test_too_short_windows_are_refused():
    with pytest.raises(DataError, match="stft_length=1e-05"):
        representation.check(made(stft_length=1e-5))
    representation.check(made(sample_rate=8000))  # no band lies above half the rate


def problems(**changes):
    override = {f"{part}.input.{name}": value for name, (train, evaluation) in changes.items()
                for part, value in (("train", train), ("eval", evaluation))}  # fmt: skip
    with pytest.raises(configs.ConfigError) as caught:
        configs.resolve(task="finetune", model_arch="spt_tiny", params_override=override)
    return str(caught.value)


def test_evaluation_hears_what_was_trained_on():
    told = problems(audio_features=("filterbank", "log_mel"), audio_mean=(1.93, 0.0))
    assert "eval.input.audio_features = 'log_mel': expected train.input.audio_features" in told
    assert "eval.input.audio_mean" in told and "audio_std" not in told


def test_waveforms_have_no_bands():
    override = {"train.input.audio_masking": "mild", "eval.input.audio_features": "filterbank"}
    with pytest.raises(configs.ConfigError) as caught:
        configs.resolve(task="finetune", model_arch="wat_tiny", params_override=override)
    assert "train.input.audio_masking = 'mild': expected none" in str(caught.value)
    assert "eval.input.audio_features = 'filterbank': expected log_mel" in str(caught.value)


def test_length_of_waveforms_that_patches_do_not_cover():
    override = {f"{part}.input.audio_seconds": 0.5 for part in ("train", "eval")}
    with pytest.raises(configs.ConfigError, match=r"Try audio_seconds 0\.496") as caught:
        configs.resolve(task="finetune", model_arch="wat_tiny", params_override=override)
    assert "audio_seconds = 0.5: a clip has 24000 audio samples" in str(caught.value)
