"""Which frames and samples a clip is made of, and the seeds all random choices come from.

All functions are pure: the same seed gives the same answer in every process, on any number of
threads. A seed is an int64 tensor of two numbers. `fold` derives the seed of an element from (run
seed, data set, element); `seeds_per_use` derives from that one seed for each use, so that no choice
depends on how many other choices were made before it. `view_seeds` does so for several clips and
views of one element.

Sequences shorter than a clip are read in a loop from their start (published by VATT); those of
`window_positions` repeat their last picture (published by GDT and STiCA).
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

Stride = int | float
ROUNDING = 1e-6  # what a product of a stride may lack of a whole number

# What the run's seed is folded with.
USE_EPOCH_ORDER = 1
USE_MIXING = 2
USE_CLIP = 3
USE_MIXUP = 4
USE_VIEW = 5

# Rows of `seeds_per_use`. A new augmentation gets a new row: the others then keep their draws.
OFFSET, JITTER, CROP, FLIP, COLOUR, NOISE, CAPTIONS, GREY, BLUR, GAIN = range(10)
VOLUME, SHIFT, MASKS, ROLL = range(10, 14)
ROWS = 16
# Rows that choose a part of the record: all views of a clip share them.
OF_CLIP = (OFFSET, CAPTIONS, SHIFT)

# For functions given to tf.data, and steps of training: none needs Python's control flow rewritten,
# and tracing takes half the time without.
plain_graph = tf.autograph.experimental.do_not_convert


def root_seed(seed: int) -> tf.Tensor:
    """Returns the int64 [2] seed of a run from any Python integer."""
    bits = int(seed) & 0xFFFFFFFFFFFFFFFF
    return tf.constant([bits & 0x7FFFFFFF, bits >> 31], tf.int64)


def fold(seed: tf.Tensor, *data: int | tf.Tensor) -> tf.Tensor:
    """Returns a new int64 [2] seed that depends on `seed` and each number of `data` in turn."""
    for item in data:
        seed = tf.random.experimental.stateless_fold_in(seed, tf.cast(item, tf.int64), alg="philox")
    return seed


def seeds_per_use(seed: tf.Tensor) -> tf.Tensor:
    """Returns int64 [ROWS, 2]: one seed for each use within an element, all in one draw."""
    return tf.random.stateless_uniform([ROWS, 2], seed, None, None, tf.int64, alg="philox")


def view_seeds(seed: tf.Tensor, clips: int, views: int = 1) -> tf.Tensor:
    """Seeds of several clips of one element, each in several views.

    Clips are independent of one another. The views of a clip are the same part of the record,
    augmented independently. Clip 0 in view 0 is what the element is alone, `seeds_per_use(seed)`,
    and no clip or view depends on how many there are.

    Args:
      seed: int64 [2] of the element.
      clips: how many clips.
      views: how many views of each.

    Returns:
      Int64 [clips, views, ROWS, 2], the rows as of `seeds_per_use`.
    """
    if clips < 1 or views < 1:
        raise ValueError(f"clips is {clips}, views is {views}; accepted: 1 or more of each")
    shared = tf.constant([[row in OF_CLIP] for row in range(ROWS)])  # [ROWS, 1]
    rows = []
    for clip in range(clips):
        for view in range(views):
            own = fold(seed, USE_VIEW, clip, view) if clip or view else seed
            drawn = seeds_per_use(own)
            rows.append(tf.where(shared, rows[-view], drawn) if view else drawn)
    return tf.reshape(tf.stack(rows), (clips, views, ROWS, 2))


def uniform(
    seed: tf.Tensor, shape: tuple[int, ...] | tf.Tensor = (), low: float = 0.0, high: float = 1.0
) -> tf.Tensor:
    """Float32 draws from [low, high); the same in graph and eager mode."""
    return tf.random.stateless_uniform(shape, seed, low, high, tf.float32, alg="philox")


def scaled_below(share: tf.Tensor, limit: tf.Tensor) -> tf.Tensor:
    """Int32 number in 0 .. limit - 1 from a draw `share` in [0, 1); for limits below 2**23."""
    number = tf.cast(share * tf.cast(limit, tf.float32), tf.int32)
    return tf.minimum(number, limit - 1)  # the product may round up to the limit


def permutation(seed: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
    """A random order of 0 .. count - 1, int32 [count]."""
    bits = tf.random.stateless_uniform([count], seed, None, None, tf.int32, alg="philox")
    return tf.argsort(bits, stable=True)


def places(steps: int | np.ndarray, stride: Stride) -> int | np.ndarray:
    """Where steps of `stride` end: whole places, the last one reached of a stride in between."""
    if isinstance(stride, int):
        return steps * stride
    found = np.floor(np.asarray(steps) * stride + ROUNDING).astype(np.int32)
    return found if found.ndim else int(found)


def random_offset(seed: tf.Tensor, length: tf.Tensor, steps: int, stride: Stride) -> tf.Tensor:
    """Uniform int32 start in [0, max(length - (steps - 1) * stride, 1))."""
    return scaled_below(uniform(seed), tf.maximum(length - places(steps - 1, stride), 1))


def middle_offset(length: tf.Tensor, steps: int, stride: Stride) -> tf.Tensor:
    """Int32 start of the middle window: floor((length - steps * stride) / 2), at least 0."""
    return tf.maximum((length - places(steps, stride)) // 2, 0)


def linspace_offsets(length: tf.Tensor, windows: int, steps: int, stride: Stride) -> tf.Tensor:
    """Int32 [windows] starts, evenly spread from the first to the last possible one, truncated."""
    last = tf.cast(tf.maximum(length - places(steps, stride), 0), tf.float32)
    return tf.cast(tf.linspace(0.0, last, windows), tf.int32)


def window_offsets(length: tf.Tensor, windows: int, steps: int, stride: Stride) -> tf.Tensor:
    """Int32 [windows] starts for evaluation: the middle for one window, else evenly spread."""
    if windows == 1:
        return middle_offset(length, steps, stride)[tf.newaxis]
    return linspace_offsets(length, windows, steps, stride)


def synchronised_offset(
    offset: tf.Tensor,
    length: tf.Tensor,
    other_length: tf.Tensor,
    steps: int,
    stride: int,
    loops: bool = False,
) -> tf.Tensor:
    """Int32 start in another modality of the same record at the same relative time.

    The published rule is round(offset / length * other_length). Unless it `loops`, the result is
    also kept at or before the last start that needs no loop, so that audio at the end of a clip has
    no click in it.
    """
    share = tf.cast(offset, tf.float64) / tf.cast(tf.maximum(length, 1), tf.float64)
    start = tf.cast(tf.round(share * tf.cast(other_length, tf.float64)), tf.int32)
    if loops:
        return start
    return tf.minimum(start, tf.maximum(other_length - (steps - 1) * stride - 1, 0))


def indices(offsets: tf.Tensor, length: tf.Tensor, steps: int, stride: Stride) -> tf.Tensor:
    """Int32 positions of a window at each offset, wrapping at `length`.

    Args:
      offsets: int32 scalar or [windows].
      length: int32 scalar, at least 1.
      steps: positions in one window.
      stride: distance of two positions; what lies between two is read as the earlier of them, the
        picture that is seen at that time.

    Returns:
      Int32 [steps] for a scalar offset, else [windows, steps].
    """
    whole = isinstance(stride, int)
    steps_on = tf.range(steps) * stride if whole else places(np.arange(steps), stride)
    return (offsets[..., tf.newaxis] + steps_on) % length


# Windows: a clip is a stretch of time, of so many (a real number of) frames of the record, and has
# its own number of frames evenly between the first and the last one.


def random_window(seed: tf.Tensor, length: tf.Tensor, size: float) -> tf.Tensor:
    """Uniform float32 start in [0, max(length - size, 0)), between frames for the most part."""
    return uniform(seed) * tf.maximum(tf.cast(length, tf.float32) - size, 0.0)


def window_start(length: tf.Tensor, size: float, index: int | tf.Tensor, count: int) -> tf.Tensor:
    """Int32 start of window `index` of `count`: floor(max(length - size, 0) * index / count)."""
    room = tf.maximum(tf.cast(length, tf.float64) - size, 0.0)
    return tf.cast(tf.floor(room * tf.cast(index, tf.float64) / count), tf.int32)


def window_starts(length: tf.Tensor, size: float, windows: int) -> tf.Tensor:
    """Int32 [windows] starts for evaluation: the middle for one window, else spread evenly.

    The last of several ends before the record does (published).
    """
    if windows == 1:
        return window_start(length, size, 1, 2)[tf.newaxis]
    return window_start(length, size, tf.range(windows), windows)


def evenly(first: float, last: float, steps: int) -> np.ndarray:
    """Float32 [steps] from `first` to `last`, rounded as torch.linspace does: from both ends."""
    first, last = np.float32(first), np.float32(last)
    if steps == 1:
        return np.array([first])
    step, places = (last - first) / np.float32(steps - 1), np.arange(steps, dtype=np.float32)
    from_end = last - step * places[::-1]
    return np.where(np.arange(steps) < steps // 2, first + step * places, from_end)


def window_positions(starts: tf.Tensor, length: tf.Tensor, steps: int, size: float) -> tf.Tensor:
    """Int32 positions of `steps` frames of the window of `size` frames at each start.

    Of the frames that begin within the window, and one beyond it, those are taken in which evenly
    spaced times lie, counted from the first; what is not there is its last frame again.

    Args:
      starts: int32 or float32, scalar or [windows].
      length: int32 scalar, at least 1.
      steps: positions in one window.
      size: of a window, in frames.

    Returns:
      Int32 [steps] for a scalar start, else [windows, steps].
    """
    begin = tf.cast(starts[..., tf.newaxis], tf.float64)
    first = tf.cast(tf.math.ceil(begin), tf.int32)
    last = tf.minimum(tf.cast(tf.floor(begin + (size - 1.0)), tf.int32) + 1, length - 1)
    first = tf.minimum(first, last)
    return first + tf.minimum(evenly(0.0, size - 1.0, steps).astype(np.int32), last - first)
