"""How long the pictures and the sound of a clip last: by the configuration, or it is told."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import logging

from vatt.configs.dataset import PUBLISHED_RATES
from vatt.data import stored_sound
from vatt.data.features import AUDIO, VIDEO
from vatt.errors import DataError

if TYPE_CHECKING:
    from vatt import configs
    from vatt.data import cards, clips


def check(
    cfg: configs.dataset.Dataset, card: cards.Card, spec: clips.ClipSpec, modalities: Sequence[str]
) -> None:
    """Says once of a set that its pictures are too few, or not as long as its sound.

    A picture alone has no rate.

    Raises:
      DataError: nothing says how the pictures of the set become clips, or its sound is not what the
        configuration reads.
    """
    if AUDIO in modalities:
        stored_sound.check(cfg, card)
    if VIDEO not in modalities or not card.video or "image_classification" in card.tasks:
        return
    rate = card.video.fps
    if not cfg.fps and rate not in PUBLISHED_RATES:
        raise DataError(
            f"Data set '{card.name}' holds {rate:g} pictures per second, but the configuration "
            f"does not say how many a clip has (fps): the published strides are for "
            f"{' and '.join(f'{known:g}' for known in PUBLISHED_RATES)} only. Set fps of "
            f"train.input and eval.input, for instance to {rate:g} for every picture."
        )
    if spec.frame_stride < 1:
        _say(
            "data set '%s' holds %.3g pictures per second, of which clips make %.3g: pictures are "
            "repeated; fps and video_stride of its input decide",
            *(card.name, rate, rate / spec.frame_stride),
        )
    step = cfg.stft_step if spec.stored else 1.0 / cfg.sample_rate
    sound = spec.samples * spec.audio_stride * step
    if AUDIO in modalities and card.audio and abs(spec.seconds - sound) > 0.05 * sound:
        _say(
            "data set '%s': clips have %.3g s of pictures beside %.3g s of sound; fps and strides "
            "of its input decide",
            *(card.name, spec.seconds, sound),
        )


@functools.cache
def _say(text: str, *values: str | float) -> None:
    logging.warning(text, *values)
