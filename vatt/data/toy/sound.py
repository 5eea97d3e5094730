"""Synthesises the sounds of the toy corpus: timbre from the shape, rhythm from the motion.

Pitch is drawn at random and tells nothing; nothing in the sound depends on the colour. Rhythms keep
the period and phase of the motion they belong to, so that sound and picture are synchronous.

    waveform = synthesise(scene, rng)    # float32 [samples] at SAMPLE_RATE, within [-1, 1]
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vatt.data.toy.scene import Scene, phases

SAMPLE_RATE = 16000  # Hz, of the synthesis; all timbres stay below 7 kHz

TIMBRES: dict[str, str] = {
    "disc": "whistle",
    "square": "organ",
    "triangle": "bell",
    "star": "hiss",
    "ring": "growl",
    "cross": "buzz",
    "heart": "wind",
    "moon": "flute",
}
RHYTHMS: dict[str, str] = {
    "slide": "beats",
    "bob": "swells",
    "circle": "drone",
    "pulse": "ramps",
    "blink": "gate",
    "turn": "gallop",
    "shake": "roll",
    "jump": "ticks",
}
_TOP = 6800.0  # Hz


def _partials(
    times: np.ndarray,
    pitch: float,
    ratios: Iterable[float],
    weights: Iterable[float],
    rng: np.random.Generator,
) -> np.ndarray:
    total = np.zeros_like(times)
    for ratio, weight in zip(ratios, weights, strict=True):
        if pitch * ratio < _TOP:
            angle = 2 * np.pi * (pitch * ratio * times + rng.random())
            total += weight * np.sin(angle, dtype=np.float32)
    return total


def _noise_band(count: int, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise between two frequencies (Hz), float32 [count]."""
    size = 1 << (count - 1).bit_length()  # a power of two: fast transform, then cut
    frequencies = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    inside = np.flatnonzero((frequencies >= low) & (frequencies <= high))
    spectrum = np.zeros(len(frequencies), np.complex64)
    parts = rng.standard_normal((2, len(inside)), dtype=np.float32)
    spectrum[inside] = parts[0] + 1j * parts[1]
    return np.fft.irfft(spectrum)[:count].astype(np.float32)


def timbre(shape: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a steady sound of the timbre of `shape` with RMS 1, float32 [count].

    Timbres differ in which bands they fill and how densely, whatever the pitch.
    """
    times = (np.arange(count, dtype=np.float32) / SAMPLE_RATE).astype(np.float32)
    pitch = float(260 * 2 ** rng.uniform(0, 0.8))
    kind = TIMBRES[shape]
    if kind == "whistle":  # one high line
        sound = _partials(times, 3.2 * pitch, [1], [1.0], rng)
    elif kind == "organ":  # odd harmonics, hollow
        sound = _partials(times, pitch, [1, 3, 5, 7, 9], [1, 0.6, 0.45, 0.35, 0.3], rng)
    elif kind == "bell":  # sparse, inharmonic, high
        sound = _partials(times, 5.0 * pitch, [1, 1.47, 2.09, 2.56], [1, 0.9, 0.9, 0.8], rng)
    elif kind == "hiss":  # high noise
        sound = _noise_band(count, 3200, 6600, rng)
    elif kind == "growl":  # frequency modulation around a low carrier
        angle = 2 * np.pi * times * np.float32(pitch)
        wobble = 3.5 * np.sin(angle * np.float32(0.17), dtype=np.float32)
        sound = np.sin(angle * np.float32(0.5) + wobble, dtype=np.float32)
    elif kind == "buzz":  # every harmonic of a low note, to the top
        ramp = times * np.float32(0.35 * pitch) + np.float32(rng.random())
        saw = (2 * (ramp % 1) - 1).astype(np.float32)
        sound = np.diff(saw, prepend=saw[:1]) + 0.15 * saw
        sound = np.convolve(sound, np.float32([0.25, 0.5, 0.25]), mode="same")
    elif kind == "wind":  # noise in the middle
        sound = _noise_band(count, 500, 1600, rng)
    else:  # flute: a line with an octave above it, and breath
        sound = _partials(times, 1.6 * pitch, [1, 2], [1.0, 0.5], rng)
        sound = sound + 0.9 * _unit(_noise_band(count, 1800, 4200, rng))
    return _unit(sound)


def _unit(sound: np.ndarray) -> np.ndarray:
    return (sound / np.sqrt(np.mean(np.square(sound)) + 1e-12)).astype(np.float32)


def rhythm(scene: Scene, count: int) -> np.ndarray:
    """Returns the loudness that belongs to the scene's motion, float32 [count] in [0, 1]."""
    times = np.arange(count, dtype=np.float32) / np.float32(SAMPLE_RATE)
    phase = phases(scene, times).astype(np.float32)
    part = phase % 1
    kind = RHYTHMS[scene.motion]
    if kind == "beats":  # a struck note at each turning point (phases 1/4 and 3/4)
        level = np.exp(-(((phase + 0.25) * 2) % 1) * 3.5)
    elif kind == "swells":  # loud at the bottom of the movement
        level = np.maximum(np.sin(2 * np.pi * phase), 0) ** 1.5
    elif kind == "drone":
        level = np.full(count, 0.75, np.float32)
    elif kind == "ramps":  # grows with the object (largest at phase 1/4), then stops
        level = ((phase + 0.75) % 1) ** 2
    elif kind == "gate":  # on while the object is seen
        level = (part < 0.5).astype(np.float32)
    elif kind == "gallop":  # three quick notes and a rest
        inside = part * scene.period / 0.11  # notes 110 ms apart
        level = np.where(inside < 3, np.exp(-(inside % 1) * 2.5) * (inside % 1 < 0.75), 0)
    elif kind == "roll":  # fast tremolo
        level = 0.5 - 0.5 * np.cos(2 * np.pi * phase)
    else:  # ticks: 45 ms where the object lands
        level = (part * scene.period < 0.045).astype(np.float32)
    return _smooth(level.astype(np.float32))


def _smooth(level: np.ndarray, samples: int = 64) -> np.ndarray:
    """Mean over 4 ms, so that gates do not click."""
    total = np.cumsum(np.concatenate([np.full(samples, level[0]), level]), dtype=np.float64)
    return ((total[samples:] - total[:-samples]) / samples).astype(np.float32)


def synthesise(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Returns the sound of a scene, float32 [samples] at SAMPLE_RATE, peak at most 0.95."""
    count = round(scene.duration * SAMPLE_RATE)
    loudness = rng.uniform(0.45, 0.55)  # RMS where the rhythm is at its loudest
    sound = loudness * timbre(scene.shape, count, rng) * rhythm(scene, count)
    noise = _unit(_noise_band(count, 60, rng.uniform(2000, 6000), rng))
    sound += loudness * rng.uniform(0.04, 0.1) * noise
    if rng.random() < 0.3:  # something else is heard for a moment
        start = rng.integers(0, max(1, count - 1600))
        other = timbre(tuple(TIMBRES)[rng.integers(len(TIMBRES))], 1600, rng)
        sound[start : start + 1600] += 0.5 * loudness * np.hanning(1600).astype(np.float32) * other
    return (0.95 * np.tanh(sound)).astype(np.float32)  # a soft limit: peaks keep their shape
