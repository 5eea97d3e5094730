r"""Makes a set of extracted features of media files, or of the records of another set.

    vatt extract records/mine --output_dir=records/mine_features --spectrogram \
      --feature vatt=runs/toy@1 --feature resnet50=keras:ResNet50@1

INPUT is the folder of an ingested set, or what `vatt ingest` takes: a table, a folder of media
files, or several as SPLIT=PATH; of those records are made first, in OUTPUT_DIR/media. A feature is
NAME=MODEL@RATE: MODEL is whatever vatt.load takes, of which the tower of pictures is run
(--sound_feature: that of sound), or keras: and a model of keras.applications; RATE is vectors per
second. Captions, labels, times and splits stay; the card says how each feature was made. The same
command goes on where it was interrupted. Exit codes: 0 done, 2 wrong arguments, 3 some clips cannot
be used (listed in failures.csv; the others are done), 5 no such model, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vatt.data import cards
from vatt.data.arguments import real, whole
from vatt.data.features import AUDIO, FEATURE_NAME, VIDEO
from vatt.ended import ended
from vatt.errors import EXIT_DATA, UserError
from vatt.tools import model_options

if TYPE_CHECKING:
    from vatt.data.cards import Card
    from vatt.data.ingest.extracted import Extractor

MEDIA = "media"  # folder of the records that are made of media files, in that of the set
POOLED = "features_pooled"
_RATES = real(0.01, 240)
_SHOWN = 5
_STOPPED = "stopped; finished shards are kept, the same command continues."


class Asked(NamedTuple):
    """A feature to be made."""

    name: str
    model: str
    rate: float


def _asked(text: str) -> Asked:
    name, sign, place = text.partition("=")
    model, at, rate = place.rpartition("@")
    if not (sign and at and model and FEATURE_NAME.fullmatch(name)):
        raise argparse.ArgumentTypeError(
            f"{text} is not NAME=MODEL@RATE, as in vatt=runs/toy@1 or resnet50=keras:ResNet50@1"
        )
    return Asked(name, model, _RATES(rate))


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the checked command line."""
    parser = argparse.ArgumentParser(
        prog="vatt extract",
        usage="vatt extract INPUT... --output_dir=DIR --feature NAME=MODEL@RATE [options]",
        description=__doc__.split("\n")[0],
        epilog="docs/datasets.md says more.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("input", nargs="+", metavar="INPUT", help="an ingested set, or media as for vatt ingest")
    add("--output_dir", type=Path, required=True, help="folder of the set of features")
    add("--name", help="name of the set (default: the folder's)")
    feature = {"type": _asked, "action": "append", "default": [], "metavar": "NAME=MODEL@RATE"}
    add("--feature", help="of pictures; may be given several times", **feature)
    add("--sound_feature", help="of sound; may be given several times", **feature)
    add("--spectrogram", action="store_true", help="also the log-mel spectrogram, as logmel")
    add("--space", default=POOLED, help=f"what is taken of models of ours ({POOLED})")
    add("--weights", default="imagenet", help="of models of Keras: imagenet, a file, or none")
    add("--side", type=whole(32, 1024), default=224, help="shorter side of a picture (224)")
    add("--keep_media", action="store_true", help="records keep their pictures and sound")
    media = parser.add_argument_group("media files, as for vatt ingest").add_argument
    media("--format", default="auto", help="of the input")
    media("--media_root", type=Path, help="folder that holds all media (the input's)")
    media("--clip_seconds", type=real(0.1, 3600), help="length of clips of long files (uncut)")
    media("--workers", type=whole(1, 1024), help="processes (default: one per core)")
    model_options.add(parser)
    arguments = parser.parse_args(argv)
    if not (arguments.feature or arguments.sound_feature or arguments.spectrogram):
        parser.error("--feature, --sound_feature or --spectrogram: nothing is asked for")
    return arguments


def _extractors(arguments: argparse.Namespace) -> Iterator[Extractor]:
    """Yields what makes the features; models that several of them need are loaded once."""
    from vatt.api import extraction, loading

    loaded = {}
    for asked, modality in [
        *((asked, VIDEO) for asked in arguments.feature),
        *((asked, AUDIO) for asked in arguments.sound_feature),
    ]:
        if asked.model.startswith(extraction.KERAS):
            if modality == AUDIO:
                raise UserError(f"--sound_feature {asked.name}: {asked.model} takes pictures")
            application = asked.model.removeprefix(extraction.KERAS)
            yield extraction.Application(
                *(asked.name, application, asked.rate, arguments.weights, arguments.side)
            )
            continue
        if asked.model not in loaded:
            loaded[asked.model] = loading.load(asked.model, **model_options.given(arguments))
        model = loaded[asked.model]
        yield extraction.Tower(asked.name, model, modality, asked.rate, arguments.space)
    if arguments.spectrogram:
        yield extraction.Spectrogram()


def _source(arguments: argparse.Namespace, extractors: Sequence[Extractor]) -> tuple[Card, int]:
    """The set that features are made of, and how many media files failed on the way to it."""
    given = Path(arguments.input[0])
    if len(arguments.input) == 1 and (given / cards.CARD_FILE).is_file():
        return cards.read(given / cards.CARD_FILE), 0
    from vatt.data import workers
    from vatt.data.ingest import build, sources

    folder = arguments.output_dir / MEDIA
    made = build.ingest(
        arguments.input,
        folder,
        form=arguments.format,
        fps=max((extractor.frame_rate for extractor in extractors), default=1.0),
        options=sources.Options(
            media_root=arguments.media_root,
            clip_seconds=arguments.clip_seconds,
            workers=arguments.workers or workers.available_cores(),
        ),
    )
    for path, start, end, reason in made.failures[:_SHOWN]:
        print(f"  cannot be used: {path} [{start} - {end}]: {reason}", file=sys.stderr)
    return cards.read(folder / cards.CARD_FILE), len(made.failures)


def _run(arguments: argparse.Namespace) -> int:
    from vatt.quiet import import_tensorflow_quietly

    import_tensorflow_quietly()
    from vatt.data.ingest import extracted, summary

    started = time.monotonic()
    extractors = list(_extractors(arguments))
    card, unread = _source(arguments, extractors)
    folder = arguments.output_dir
    made = extracted.make(
        card, folder, extractors, name=arguments.name, keep_media=arguments.keep_media
    )
    seconds = time.monotonic() - started
    print(f"{folder.name}: {made.total['records']} clips in {seconds:.1f} s -> {folder}")
    for name, about in made.total.get("features", {}).items():
        print(f"  {name}: {about['vectors']} vectors of {about['width']} values")
    for path, start, end, reason in made.failures[:_SHOWN]:
        print(f"  cannot be used: {path} [{start} - {end}]: {reason}", file=sys.stderr)
    if made.failures:
        print(f"{len(made.failures)} clips failed, see {folder / summary.FAILURES_FILE}")
    if unread:
        print(f"{unread} media files or clips failed, see {folder / MEDIA / summary.FAILURES_FILE}")
    return EXIT_DATA if made.failures or unread else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    arguments = parse_arguments(argv)
    return ended(lambda: _run(arguments), _STOPPED)


if __name__ == "__main__":
    sys.exit(main())
