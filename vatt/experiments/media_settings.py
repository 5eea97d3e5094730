"""How the records of a run were made of media files, so that new files are read in the same way.

    facts = metadata(cfg)                       # what the manifest of a checkpoint says of it
    settings = of_run(cfg, folder, facts)
    settings.fps, settings.min_side, settings.told_by

A configuration says what becomes of a record, not all of how the record came about: that is looked
up beside the sets that the run names, where they are, else in the manifest of the checkpoint. For
those of others the defaults of ingest hold.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from vatt import configs
from vatt.data import cards
from vatt.data.ingest import state
from vatt.errors import DataError
from vatt.files import in_a_store

_KEY = "records"  # in the manifest of a checkpoint

DEFAULTS = "defaults of ingest"


@dataclasses.dataclass(frozen=True)
class MediaSettings:
    """What ingest was asked for, and who says so: the name of a set, or `DEFAULTS`."""

    fps: float = 10.0
    min_side: int = 256
    jpeg_quality: int = 90
    downmix: str = "auto"
    told_by: str = DEFAULTS


def of_run(
    cfg: configs.ExperimentConfig,
    folder: Path | None = None,
    facts: Mapping[str, object] | None = None,
) -> MediaSettings:
    """Returns the settings of the first set of the run that is there, with pictures if any has.

    Args:
      cfg: of the run.
      folder: of the run; `data_dir` may be relative to a folder above it.
      facts: what the manifest of the checkpoint says.
    """
    found = list(sets(cfg, folder))
    best = next((card for card in found if card.video), next(iter(found), None))
    return _of_set(best) if best else _of_manifest((facts or {}).get(_KEY))


def metadata(cfg: configs.ExperimentConfig) -> dict[str, object]:
    """Returns what the manifest of a checkpoint says of how records came about."""
    return {_KEY: dataclasses.asdict(of_run(cfg))}


def _of_manifest(facts: object) -> MediaSettings:
    """The settings that `metadata` wrote; the defaults where there are none, or damaged ones."""
    match facts:
        case {
            "fps": int() | float() as fps,
            "min_side": int() as min_side,
            "jpeg_quality": int() as quality,
            "downmix": str() as downmix,
            "told_by": str() as told_by,
        }:
            return MediaSettings(float(fps), min_side, quality, downmix, told_by)
    return MediaSettings()


def sets(cfg: configs.ExperimentConfig, folder: Path | None) -> Iterator[cards.Card]:
    """Yields the cards of the sets that a run is evaluated on and trained on, as far as found."""
    for data in (cfg.eval.input, cfg.train.input):
        names = data.name.split("+") if isinstance(data.name, str) else data.name or ()
        for name in names:
            for place in _places(cfg.data_dir, folder):
                try:
                    yield cards.load(name.strip(), place)
                    break
                except DataError:  # not here
                    continue


def _places(data_dir: str | None, folder: Path | None) -> Iterator[str | Path]:
    """Where the sets of a run may be: a relative folder is one beside the run, wherever that is."""
    given = data_dir or os.environ.get(cards.ENVIRONMENT_VARIABLE)
    if not given:
        return
    yield given
    if folder is not None and not os.path.isabs(given) and not in_a_store(given):
        yield from (above / given for above in folder.absolute().parents)


def _of_set(card: cards.Card) -> MediaSettings:
    """Settings by what ingest left beside the shards; of sets of others, by the card."""
    known = state.settings_of(card.folder)
    if known is not None:
        fps, min_side, _, quality, downmix = known
        return MediaSettings(float(fps), int(min_side), int(quality), downmix, card.name)
    found = MediaSettings(told_by=card.name)
    if card.video is None:
        return found
    sides = [side for side in (card.video.height, card.video.width) if side]
    min_side = min(sides) if len(sides) == 2 else found.min_side
    return MediaSettings(card.video.fps, min_side, told_by=card.name)
