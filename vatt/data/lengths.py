"""How long the pictures and the sound of a clip last: by the configuration, or it is told."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from absl import logging

from vatt.configs.dataset import PUBLISHED_RATES
from vatt.errors import DataError

if TYPE_CHECKING:
    from vatt import configs
    from vatt.data import cards, clips


def check_rate(cfg: configs.dataset.Dataset, card: cards.Card) -> None:
    """Raises DataError when nothing says how the pictures of a set become clips.

    A picture alone has no rate.
    """
    if cfg.fps or not card.video or "image_classification" in card.tasks:
        return
    rate = card.video.fps
    if rate not in PUBLISHED_RATES:
        raise DataError(
            f"Data set '{card.name}' holds {rate:g} pictures per second, but the configuration "
            f"does not say how many a clip has (fps): the published strides are for "
            f"{' and '.join(f'{known:g}' for known in PUBLISHED_RATES)} only. Set fps of "
            f"train.input and eval.input, for instance to {rate:g} for every picture."
        )


@functools.cache
def _say(name: str, pictures: float, sound: float) -> None:
    logging.warning(
        "data set '%s': clips have %.3g s of pictures beside %.3g s of sound; fps and strides of "
        "its input decide",
        name,
        pictures,
        sound,
    )


def compare(cfg: configs.dataset.Dataset, spec: clips.ClipSpec) -> None:
    """Says once of a set that its sounds are longer or shorter than its pictures."""
    sound = spec.samples * spec.audio_stride / cfg.sample_rate
    if spec.has_video and spec.has_audio and abs(spec.seconds - sound) > 0.05 * sound:
        _say(spec.name, round(spec.seconds, 3), round(sound, 3))
