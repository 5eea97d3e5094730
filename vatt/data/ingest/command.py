"""The command line of ingest."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vatt.data.arguments import MOST_WORKERS, real, whole
from vatt.data.features import FEATURE_NAME
from vatt.data.ingest import build, languages, sources, summary
from vatt.data.ingest.log import Log
from vatt.data.ingest.shards import MAX_SHARDS
from vatt.ended import ended
from vatt.errors import EXIT_DATA, WriteError

_SHOWN = 5


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the checked command line; what stands behind "--" is for Beam."""
    argv = list(sys.argv[1:] if argv is None else argv)
    behind = argv[argv.index("--") + 1 :] if "--" in argv else []
    argv = argv[: argv.index("--")] if "--" in argv else argv
    parser = argparse.ArgumentParser(
        prog="python -m vatt.data.ingest",
        description="Turn media files into a data set.",
        epilog="What stands behind -- goes to Apache Beam.",
    )
    _add_input_options(parser)
    _add_record_options(parser)
    add = parser.add_argument_group("how to run").add_argument
    add("--workers", type=whole(1, MOST_WORKERS), help="processes (default: one per core)")
    add("--runner", choices=("local", "beam"), default="local", help="local (default) or beam")
    add("--beam_args", help="options of Apache Beam in one string; or give them behind --")
    arguments = parser.parse_args(argv)
    try:
        beam_args = [*shlex.split(arguments.beam_args or ""), *behind]
    except ValueError as error:
        parser.error(f"--beam_args: {error}")
    if arguments.manifest and arguments.format not in (sources.AUTO, "manifest"):
        parser.error(f"--manifest and --format {arguments.format} exclude each other")
    rates = dict(arguments.feature_rate)
    for name, rate in arguments.feature_rate:
        if rate != rates[name]:
            parser.error(f"--feature_rate: '{name}' has the rates {rate:g} and {rates[name]:g}")
    arguments.feature_rate = rates
    if arguments.runner == "local" and beam_args:
        parser.error(f"options of Apache Beam ({beam_args[0]}) need --runner beam")
    arguments.beam_args = beam_args if arguments.runner == "beam" else None
    return arguments


def _add_input_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to read")
    which = group.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--input",
        nargs="+",
        action="extend",
        metavar="PATH",
        help="file or folder; or several, each as SPLIT=PATH",
    )
    which.add_argument("--manifest", metavar="FILE", help="as --input FILE --format manifest")
    group.add_argument(
        "--format", default=sources.AUTO, help=f"auto (default), {', '.join(sources.FORMATS)}"
    )
    group.add_argument("--media_root", type=Path, help="folder that holds all media (the input's)")
    group.add_argument("--labels", type=Path, help="file with all classes in order, one per line")
    group.add_argument("--list", type=Path, help="CSV file with the ids to take: video_id")
    group.add_argument(
        "--clip_seconds", type=real(0.1, 3600), help="length of clips of long files (uncut)"
    )
    group.add_argument("--clip_step", type=real(0.1, 3600), help="s between them (clip_seconds)")
    group.add_argument(
        "--test_share",
        type=real(0, 1),
        default=0.0,
        help="share of the files, by class, that becomes the split test, chosen by their paths (0)",
    )
    group.add_argument(
        "--feature_rate",
        type=_rate,
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="vectors per second in the files of the column feature/NAME; may be given several "
        "times",
    )
    group.add_argument(
        "--feature",
        type=_feature,
        action="append",
        default=[],
        metavar="NAME=FOLDER:FORM",
        help="for --format feature_files: features of a folder below --media_root, in files of the "
        "form 2d, 3d or spec; may be given several times (resnet152=features:2d, "
        "resnext101=features:3d, logmel=audio_features:spec)",
    )


def _add_record_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("what to store").add_argument
    add("--output_dir", type=Path, required=True, help="folder of the data set")
    add("--name", help="name of the data set (default: the folder's)")
    add(
        "--num_shards",
        type=whole(1, MAX_SHARDS),
        help="per split, or group of clips in the same splits (1 per 200 clips)",
    )
    add("--fps", type=real(0.01, 240), default=10.0, help="frames stored per second (10)")
    add("--min_side", type=whole(8, 4320), default=256, help="shorter side in pixels (256)")
    add("--sample_rate", type=whole(1000, 192_000), default=48000, help="Hz (48000)")
    add("--jpeg_quality", type=whole(1, 100), default=90, help="1 to 100 (90)")
    add(
        "--downmix",
        choices=("auto", "mean", "first"),
        default="auto",
        help="what the channels of sound become: their mean, the first one, or (auto) their mean "
        "but the first one where they cancel each other out",
    )
    add(
        "--caption_context",
        type=real(0, 3600),
        default=2.0,
        help="seconds around a clip within which captions still belong to it (2)",
    )
    add(
        "--caption_language",
        type=_language,
        metavar="CODE",
        help="of captions in several languages, as en or pt-BR (default: those that name none, "
        "then English)",
    )


def _language(text: str) -> str:
    if not languages.code(text):
        raise argparse.ArgumentTypeError(f"{text} is not the code of a language, as en or pt-BR")
    return text


def _rate(text: str) -> tuple[str, float]:
    name, sign, number = text.partition("=")
    if not sign or not FEATURE_NAME.fullmatch(name):
        raise argparse.ArgumentTypeError(
            f"{text} is not NAME=NUMBER, as in resnet152=1.5 for the column feature/resnet152"
        )
    return name, real(1e-4, 1e6)(number)


def _feature(text: str) -> tuple[str, tuple[str, str]]:
    from vatt.data.ingest.sources import feature_files

    name, sign, place = text.partition("=")
    folder, _, form = place.rpartition(":")
    if not (sign and folder and FEATURE_NAME.fullmatch(name) and form in feature_files.FORMS):
        raise argparse.ArgumentTypeError(
            f"{text} is not NAME=FOLDER:FORM, as in resnet152=features:2d; forms are "
            f"{', '.join(feature_files.FORMS)}"
        )
    return name, (folder, form)


def _options(arguments: argparse.Namespace) -> sources.Options:
    from vatt.data import workers as pool

    return sources.Options(
        media_root=arguments.media_root,
        clip_seconds=arguments.clip_seconds,
        clip_step=arguments.clip_step,
        test_share=arguments.test_share,
        list=arguments.list,
        labels=arguments.labels,
        caption_context=arguments.caption_context,
        caption_language=arguments.caption_language,
        downmix=arguments.downmix,
        workers=arguments.workers or pool.available_cores(),
        feature_rate=arguments.feature_rate,
        feature=dict(arguments.feature),
    )


def _run(arguments: argparse.Namespace) -> int:
    started, folder = time.monotonic(), arguments.output_dir
    made = build.ingest(
        [arguments.manifest] if arguments.manifest else arguments.input,
        folder,
        form="manifest" if arguments.manifest else arguments.format,
        name=arguments.name,
        num_shards=arguments.num_shards,
        fps=arguments.fps,
        min_side=arguments.min_side,
        sample_rate=arguments.sample_rate,
        jpeg_quality=arguments.jpeg_quality,
        options=_options(arguments),
        beam_args=arguments.beam_args,
    )
    log = Log(folder)
    seconds = time.monotonic() - started
    log.say(f"{folder.name}: {_clips(made.total['records'])} in {seconds:.1f} s -> {folder}")
    for split, stats in made.splits.items():
        kinds = [
            ("video", "pictures"),
            ("audio", "sound"),
            ("text", "captions"),
            ("labels", "labels"),
        ]
        parts = ", ".join(f"{stats[f'with_{kind}']} with {what}" for kind, what in kinds)
        for name, feature in stats.get("features", {}).items():
            parts += f", {feature['records']} with {name}"
        if "with_text_around" in stats:
            parts += f", {stats['with_text_around']} with captions around them only"
        classes = f" of {len(stats['classes'])} classes" if stats["classes"] else ""
        log.say(
            f"  {split}: {_clips(stats['records'])}, {stats['seconds']:.1f} s; {parts}{classes}"
        )
    if made.notices:
        log.say(f"noticed, see {folder / summary.NOTICES_FILE}:")
        for kind, rows in summary.by_kind(made.notices):
            examples = [_place(*row[:3]) + (f": {row[4]}" if row[4] else "") for row in rows]
            more = ", ..." if len(rows) > _SHOWN else ""
            log.say(f"  {kind}: {len(rows)} ({', '.join(examples[:_SHOWN])}{more})")
    if made.failures:
        log.say(f"{_clips(len(made.failures))} failed, see {folder / summary.FAILURES_FILE}:")
        for path, start, end, reason in made.failures[:_SHOWN]:
            log.say(f"  {_place(path, start, end)}: {reason}")
        return EXIT_DATA
    return 0


def _place(path: str, start: float | None, end: float | None) -> str:
    return path if start is None and end is None else f"{path} [{start} - {end}]"


def _clips(number: int) -> str:
    return f"{number} clip{'' if number == 1 else 's'}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    arguments = parse_arguments(argv)

    def keep(told: str) -> None:
        with contextlib.suppress(WriteError):  # no folder yet, or the disk is full
            Log(arguments.output_dir).lines([told])

    stopped = "stopped; finished shards are kept, the same command continues."
    return ended(lambda: _run(arguments), stopped, keep)
