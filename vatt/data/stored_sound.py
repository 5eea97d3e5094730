"""Sound that records hold as a spectrogram: vectors of a feature, each of several times.

A card says so by `audio.feature`; a configuration reads it by `audio_features: stored`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tensorflow as tf

from vatt.data.cards import Card
from vatt.data.parsing import Record
from vatt.errors import DataError

if TYPE_CHECKING:
    from vatt import configs

STORED = "stored"


@dataclass(frozen=True)
class StoredSound:
    """The feature that is the sound of a set.

    Attributes:
      name: of the feature.
      width: values of a vector, a time after another.
      bands: values of a time.
    """

    name: str
    width: int
    bands: int

    def times(self, record: Record) -> tf.Tensor:
        """Float32 [times, bands]: the whole spectrogram of a record."""
        return tf.reshape(record.features[self.name], [-1, self.bands])


def of(cfg: configs.dataset.Dataset, card: Card) -> StoredSound | None:
    """Returns what is read as the sound of a set, None for waveforms, or none at all."""
    if not _wanted(cfg) or not card.audio or card.audio.feature is None:
        return None
    return StoredSound(card.audio.feature, card.features[card.audio.feature].width, cfg.mel_bins)


def check(cfg: configs.dataset.Dataset, card: Card) -> None:
    """Refuses a set whose sound is not what the configuration reads.

    Raises:
      DataError: waveforms for spectrograms or the other way round, or those of other sizes.
    """
    if not card.audio:
        return
    name, wanted = card.audio.feature, _wanted(cfg)
    if wanted and name is None:
        raise DataError(
            f"Data set '{card.name}' holds waveforms, but the configuration reads spectrograms that"
            " are stored (audio_features): set it to unscaled_log_mel, or say by `audio.feature`"
            " on the card which feature holds them."
        )
    if not wanted and name is not None:
        raise DataError(
            f"Data set '{card.name}' holds sound as feature {name}, no waveforms: set raw_audio to"
            f" false and audio_features to {STORED}."
        )
    if name is None:
        return
    about = card.features[name]
    if about.width % cfg.mel_bins:
        raise DataError(
            f"Data set '{card.name}': vectors of feature {name} have {about.width} values, no"
            f" multiple of mel_bins={cfg.mel_bins}."
        )
    step = cfg.mel_bins / (about.width * about.rate)
    if not math.isclose(step, cfg.stft_step, rel_tol=1e-3):
        raise DataError(
            f"Data set '{card.name}': feature {name} has a time of {cfg.mel_bins} bands every"
            f" {step:g} s, but the configuration says stft_step={cfg.stft_step:g}."
        )


def _wanted(cfg: configs.dataset.Dataset) -> bool:
    return cfg.audio_features == STORED and not cfg.raw_audio
