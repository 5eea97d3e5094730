"""Windows of time: where they begin, which frames they take, and clips at captions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from vatt.data import clips, said, sampling


def spec(frames=8, fps=10.0, rate=10.0, windows=True):
    return clips.ClipSpec(
        "made", frames, 1, fps, 1600, 1, True, True, True, 0, record_fps=rate, windows=windows
    )


def seeds(count):
    return [sampling.seeds_per_use(sampling.fold(sampling.root_seed(5), n)) for n in range(count)]


def exact_positions(start, length, steps, size):
    """The rule with fractions: frames that begin in the window, one more, times spread evenly."""
    start, size = Fraction(start), Fraction(size)
    inside = [k for k in range(length) if start <= k <= start + size - 1]
    if inside[-1] + 1 < length:
        inside.append(inside[-1] + 1)
    times = [(size - 1) * k / (steps - 1) for k in range(steps)]
    return [inside[min(int(time), len(inside) - 1)] for time in times]


@pytest.mark.parametrize("steps", [2, 7, 30])
def test_positions_follow_the_rule(steps):
    rng = np.random.default_rng(steps)
    for _ in range(60):
        length = int(rng.integers(20, 200))
        size = Fraction(int(rng.integers(8, 320)), 4)  # quarters are exact in float32
        room = max(length - size, Fraction(0))
        start = Fraction(int(rng.integers(0, int(room * 4) + 1)), 4)
        found = sampling.window_positions(
            tf.constant(float(start)), tf.constant(length), steps, float(size)
        )
        expected = exact_positions(start, length, steps, size)
        # A time that falls on a frame may be a rounding error before it.
        wrong = np.flatnonzero(found.numpy() != expected)
        times = [(size - 1) * int(k) / (steps - 1) for k in wrong]
        assert all(time.denominator == 1 for time in times), (length, size, start)
        assert len(wrong) <= 1


def test_several_windows_at_once():
    starts, length = tf.constant([0, 3, 12]), tf.constant(20)
    found = sampling.window_positions(starts, length, 4, 8.0)
    assert found.numpy().tolist() == [[0, 2, 4, 7], [3, 5, 7, 10], [12, 14, 16, 19]]
    assert sampling.window_positions(tf.constant(5), length, 1, 8.0).numpy().tolist() == [5]


def test_starts_in_evaluation():
    length = tf.constant(100)
    found = sampling.window_starts(length, 30.0, 10)
    assert found.numpy().tolist() == [0, 7, 14, 21, 28, 35, 42, 49, 56, 63]
    assert sampling.window_starts(length, 31.0, 1).numpy().tolist() == [34]
    assert sampling.window_starts(tf.constant(9), 30.0, 3).numpy().tolist() == [0, 0, 0]


def test_random_windows_are_anywhere_in_the_record():
    made, count = spec(), tf.constant(50)
    starts = np.array([made.random_start(own[sampling.OFFSET], count) for own in seeds(400)])
    assert 0 <= starts.min() < 1 and 41 < starts.max() < 42
    assert abs(starts.mean() - 21) < 1.5
    assert not made.random_start(seeds(1)[0][sampling.OFFSET], tf.constant(3)).numpy()


def test_without_windows_starts_and_positions_are_those_of_strides():
    made, count, draw = spec(windows=False, rate=25.0), tf.constant(50), seeds(1)[0][0]
    start = made.random_start(draw, count)
    np.testing.assert_array_equal(start, sampling.random_offset(draw, count, 8, 2.5))
    found = made.positions(start, count)
    np.testing.assert_array_equal(found, sampling.indices(start, count, 8, 2.5))


# Captions ----------------------------------------------------------------------------------------


def record(captions, starts=(), ends=(), frames=200):
    empty = tf.zeros([0])
    return clips.Record(
        frames=tf.fill([frames], ""),
        waveform=empty,
        captions=tf.constant(captions, tf.string, (len(captions),)),
        caption_starts=tf.constant(starts, tf.float32, (len(starts),)),
        caption_ends=tf.constant(ends, tf.float32, (len(ends),)),
        label_index=tf.zeros([0], tf.int64),
        label_text=tf.zeros([0], tf.string),
        source=tf.constant(""),
    )


def drawn(made, given, count=200, number=60):
    found = [said.random_start(made, tf.constant(count), own, given) for own in seeds(number)]
    return [(caption.numpy().decode(), float(start)) for caption, start in found]


def test_clips_begin_at_whole_seconds_of_their_caption():
    made = record(["short", "long"], [10.3, 2.0], [10.8, 9.5])
    found = drawn(made, spec())
    assert {caption for caption, _ in found} == {"short", "long"}
    # Short: from 8.55 to 12.55 s, cut to 8 and 12; a clip lasts 0.8 s.
    assert {start for caption, start in found if caption == "short"} == {80, 90, 100, 110}
    assert {start for caption, start in found if caption == "long"} == {20, 30, 40, 50, 60, 70, 80}


def test_captions_said_outside_are_left_out_and_clips_stay_within():
    made = record(["before", "at the end"], [-9.0, 18.9], [-5.0, 19.8])
    found = drawn(made, spec(), number=20)
    assert {caption for caption, _ in found} == {"at the end"}
    # From 17.35 to 21.35 s of a record of 20 s.
    assert {start for _, start in found} <= {170, 180, 190, 192}
    assert max(start for _, start in found) == 192


def test_without_captions_or_their_times_clips_begin_anywhere():
    (caption, start), *_ = drawn(record([]), spec(), number=1)
    assert caption == "" and 0 <= start <= 192
    found = drawn(record(["a", "b"]), spec(), number=30)
    assert {caption for caption, _ in found} == {"a", "b"}
    assert len({start for _, start in found}) > 20
    assert drawn(record(["a"], [0.0], [3.0], frames=4), spec(), 4, 1) == [("a", 0.0)]
