r"""Renders sounds of six kinds at a level of choice: what quiet ones teach a classifier.

    python benchmarks/instruments.py --output_dir runs/instruments/media --peak -35
    python -m vatt.data.ingest --input runs/instruments/media \
        --output_dir runs/instruments/records/mine --sample_rate 16000

A sound is one tone of 1.2 to 2 s, of a random pitch within two octaves that all kinds share, so
that neither pitch nor length nor level tells the kind. 70 of each are for training, 20 for tests.
"""

from __future__ import annotations

import argparse
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np

RATE = 16000
SETS = {"train": 70, "test": 20}  # sounds of each kind

Waveform = np.ndarray


def _tone(times: Waveform, pitch: float, partials: dict[float, float]) -> Waveform:
    """Partials by their multiple of the pitch, as far as the sample rate has room."""
    room = {n: size for n, size in partials.items() if n * pitch < 0.45 * RATE}
    return sum(size * np.sin(2 * np.pi * n * pitch * times) for n, size in room.items())


def _attack(times: Waveform, seconds: float) -> Waveform:
    return np.minimum(1.0, times / seconds)


def _string(times: Waveform, pitch: float, rng: np.random.Generator) -> Waveform:
    """Plucked: high partials die first."""
    decays = (np.exp(-times * (1.5 + 0.9 * n)) / n for n in range(1, 12))
    return sum(
        decay * _tone(times, pitch, {float(n): 1.0}) for n, decay in enumerate(decays, start=1)
    )


def _flute(times: Waveform, pitch: float, rng: np.random.Generator) -> Waveform:
    breath = 0.08 * rng.standard_normal(len(times))
    vibrato = 1 + 0.15 * np.sin(2 * np.pi * 5 * times)
    return _attack(times, 0.15) * (vibrato * _tone(times, pitch, {1.0: 1.0, 2.0: 0.2}) + breath)


def _clarinet(times: Waveform, pitch: float, rng: np.random.Generator) -> Waveform:
    return _attack(times, 0.05) * _tone(times, pitch, {float(n): 1 / n for n in (1, 3, 5, 7, 9)})


def _brass(times: Waveform, pitch: float, rng: np.random.Generator) -> Waveform:
    return _attack(times, 0.1) * _tone(times, pitch, {float(n): 0.85**n for n in range(1, 16)})


def _bell(times: Waveform, pitch: float, rng: np.random.Generator) -> Waveform:
    partials = {0.56: 0.6, 0.92: 0.5, 1.19: 0.8, 1.71: 0.7, 2.0: 0.5, 2.74: 0.6, 3.76: 0.4}
    return np.exp(-3 * times) * _tone(times, pitch, partials)


def _drum(times: Waveform, pitch: float, rng: np.random.Generator) -> Waveform:
    """A roll: strokes of noise over a falling tone."""
    strokes = np.exp(-25 * (times % 0.25))
    body = np.sin(2 * np.pi * (pitch / 4) * (times % 0.25) * (1 - times % 0.25))
    return strokes * (body + 0.5 * rng.standard_normal(len(times)))


KINDS: dict[str, Callable[[Waveform, float, np.random.Generator], Waveform]] = {
    "string": _string,
    "flute": _flute,
    "clarinet": _clarinet,
    "brass": _brass,
    "bell": _bell,
    "drum": _drum,
}


def render(kind: str, number: int, peak: float) -> Waveform:
    """Returns a sound whose peak is at so many dB."""
    rng = np.random.default_rng([list(KINDS).index(kind), number])
    times = np.arange(int(rng.uniform(1.2, 2.0) * RATE)) / RATE
    sound = KINDS[kind](times, 220 * 2 ** rng.uniform(0, 2), rng)
    return 10 ** (peak / 20) * sound / np.abs(sound).max()


def main() -> None:
    """Writes the sounds, a folder for each split and kind."""
    parser = argparse.ArgumentParser(description="Render sounds of six kinds.")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder of the sounds")
    parser.add_argument("--peak", type=float, default=-3.0, help="level of the peak in dB (-3)")
    arguments = parser.parse_args()
    for place, (split, count) in enumerate(SETS.items()):
        for kind in KINDS:
            folder = arguments.output_dir / split / kind
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                sound = render(kind, 1000 * place + number, arguments.peak)
                with wave.open(str(folder / f"{kind}{number:03d}.wav"), "wb") as file:
                    file.setparams((1, 2, RATE, 0, "NONE", ""))
                    file.writeframes(np.round(sound * 32767).astype("<i2").tobytes())


if __name__ == "__main__":
    main()
