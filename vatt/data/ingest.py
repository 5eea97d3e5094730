"""Turns media files into a data set: sharded records, a card, and a list of what failed.

    python -m vatt.data.ingest --input my_videos --output_dir data/my_set
    python -m vatt.data.ingest --manifest clips.csv --output_dir data/my_set

writes into the output folder `<split>-00000-of-00016.tfrecord`, `card.yaml`, `labels.txt` (the
classes in order), `manifest.json` (counts; bytes and SHA-256 of each shard), `failures.csv` (the
clips that could not be used, and why), `dataset.html` (all of this to look at) and `ingest.log`.
The input may have any of the forms in `vatt.data.sources`.

Clips go to shards by a hash of what they are, so that neither the order of the input nor the
number of workers changes a byte. A shard appears when it is complete; starting the same command
again makes only the missing ones. With other splits as input, the command adds them to the set.
Exit code: 0 all clips stored, 3 some failed (others are stored).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vatt.data import ingest_shards as work
from vatt.data import sources
from vatt.data.ingest_log import Log, Progress
from vatt.data.ingest_shards import Settings, Shard
from vatt.errors import EXIT_DATA, DataError, UserError, nearest
from vatt.files import replace_text

_SHOWN = 5


def ingest(
    inputs: Sequence[str],
    output_dir: Path,
    *,
    form: str = sources.AUTO,
    name: str | None = None,
    num_shards: int | None = None,
    fps: float = 10.0,
    min_side: int = 256,
    sample_rate: int = 48000,
    jpeg_quality: int = 90,
    wish: sources.Wish | None = None,
    beam_args: Sequence[str] | None = None,
) -> tuple[dict[str, dict], list[list]]:
    """Makes or completes a data set; returns the totals of its splits and the failures.

    Args:
        inputs: files or folders, or split=PATH; see `vatt.data.sources`.
        output_dir: folder of the data set.
        form: of the inputs.
        name: of the data set; the last part of `output_dir` by default.
        num_shards: shards per split; one per 200 clips by default.
        fps: frames stored per second.
        min_side: pixels of the shorter side of a stored frame; smaller videos stay as they are.
        sample_rate: Hz.
        jpeg_quality: 1 to 100.
        wish: what else is asked of the input; its `workers` are the processes of this run.
        beam_args: run as an Apache Beam pipeline with these options; None: in processes here.

    Raises:
        UserError: the input cannot be used, or no clip could be stored.
    """
    from vatt.data import cards, dataset_page
    from vatt.data import ingest_summary as summary

    wish = wish or sources.Wish()
    listing = sources.read(inputs, form, wish)
    output_dir.mkdir(parents=True, exist_ok=True)
    log = Log(output_dir)
    for what, names in listing.notes:
        _say(f"left out, {what}: {len(names)} ({_some(names)})", log)
        log.lines([f"  {name}" for name in names])
    labels = _label_map(listing, wish.labels, output_dir)
    settings = Settings(
        str(listing.root.resolve()),
        *(fps, min_side, sample_rate, jpeg_quality),
        wish.caption_context,
        labels,
    )
    shards = work.plan_shards(listing.rows, num_shards, settings)
    others = work.kept(output_dir, shards, settings)
    work.remove_others(output_dir, shards)
    write_labels(output_dir, labels)
    name = name or output_dir.resolve().name
    classes = (cards.describe(name).num_classes or 0) if name in cards.known() else 0
    if 0 < len(labels) < classes:
        _say(
            f"only {len(labels)} of the {classes} classes of {name} are "
            "there; to give classes the numbers of the whole set, name all of them by "
            "--labels FILE",
            log,
        )
    facts = _make(shards, settings, output_dir, wish.workers, beam_args, log)
    facts = sorted(facts + others, key=lambda shard: (shard["split"], shard["file"]))
    unused = work.unused(output_dir, {row.split for row in listing.rows}, listing.failures)
    failures = summary.write_summary(output_dir, facts + unused)
    totals = summary.by_split(facts + unused)
    if not any(shard["records"] for shard in facts):
        where = output_dir / "failures.csv"
        reason = f"the first reason: {failures[0][3]} ({failures[0][0]})" if failures else ""
        raise DataError(
            f"none of the {len(failures)} clips could be stored; {reason}. All are in {where}"
        )
    card = summary.write_card(
        name,
        output_dir,
        facts,
        fps=fps,
        sample_rate=sample_rate,
        labels=labels,
        multi_label=any(sum(shard["classes"].values()) > shard["with_labels"] for shard in facts),
    )
    told = dataclasses.asdict(settings)
    asked = {name: told[name] for name in told if name not in ("media_root", "labels")}
    dataset_page.write(output_dir, card, facts + unused, failures, asked)
    return totals, failures


def _make(
    shards: list[Shard],
    settings: Settings,
    folder: Path,
    workers: int,
    beam_args: Sequence[str] | None,
    log: Log,
) -> list[dict[str, Any]]:
    """Makes the shards that are not there yet; returns the facts of all."""
    from vatt.data import workers as pool

    facts = [work.finished(shard, folder) for shard in shards]
    todo = [number for number, known in enumerate(facts) if known is None]
    done = sum(len(shard.rows) for shard, known in zip(shards, facts, strict=True) if known)
    rows = [row for shard in shards for row in shard.rows]
    log.lines([f"clips: {len(rows)}, there already: {done}; shards: {len(shards)}"])
    if beam_args is not None:
        from vatt.data import ingest_beam

        ingest_beam.run([shards[number] for number in todo], settings, folder, beam_args)
        for number in todo:
            facts[number] = work.made(shards[number], folder)
            if facts[number] is None:
                raise DataError(
                    f"the pipeline has ended, but {folder / shards[number].name} is not there: "
                    "--output_dir must be a folder that all its workers share with this machine"
                )
        return facts
    jobs = [(shards[number], settings, folder, pool.tick) for number in todo]
    with pool.progress(len(rows), done, folder.resolve().name, "clip") as bar:
        progress = Progress(bar, rows, log)
        for job, made in pool.run_jobs(work.make_shard, jobs, workers, progress.update):
            facts[todo[job]] = made
    return facts


# Classes -----------------------------------------------------------------------------------------


def _label_map(listing: sources.Listing, given: Path | None, folder: Path) -> tuple[str, ...]:
    """Returns the names of all classes in their order.

    Told by the format or `--labels`, else by an earlier run into the folder, else alphabetical.

    Raises:
        DataError: a class is not among those, or they are not those of the earlier run.
    """
    from vatt.data import ingest_summary as summary

    used = {label: row for row in listing.rows for label in row.labels}
    known = summary.read_labels(folder)
    where = folder / summary.LABELS_FILE
    way_out = "choose a new --output_dir, or name all classes in order by --labels FILE"
    if listing.labels is not None:
        names, where = list(listing.labels), "the table of classes"
        if known is not None and known != names and given is None:
            raise DataError(f"{folder / summary.LABELS_FILE} has other classes: {way_out}")
    elif given is not None:
        names, where = _read_names(given), given
    else:
        names = sorted(used) if known is None else known
    for label in sorted(set(used) - set(names)):
        raise DataError(
            f"{used[label].path}: class '{label}' is not in {where}.{nearest(label, names)} "
            f"Classes keep their numbers: {way_out}"
        )
    return tuple(names)


def _read_names(path: Path) -> list[str]:
    from vatt.data import cards

    try:
        return cards.read_labels(path)
    except DataError as error:
        raise DataError(f"--labels: {error}") from None


def write_labels(folder: Path, labels: Sequence[str]) -> None:
    """Writes the classes of a data set, one per line, before any record has their numbers."""
    from vatt.data import ingest_summary as summary

    for label in labels:
        if not label or label != label.strip() or len(label.splitlines()) > 1:
            raise DataError(f"class {label!r}: must be one line without spaces at its ends")
    if labels and list(labels) != summary.read_labels(folder):
        replace_text(folder / summary.LABELS_FILE, "".join(f"{label}\n" for label in labels))


# Command line ------------------------------------------------------------------------------------


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
    group.add_argument("--media_root", type=Path, help="folder that holds all media")
    group.add_argument("--labels", type=Path, help="file with all classes in order, one per line")
    group.add_argument("--list", type=Path, help="CSV file with the ids to take: video_id")
    group.add_argument(
        "--clip_seconds", type=_real(0.1, 3600), help="length of clips of long files"
    )
    group.add_argument("--clip_step", type=_real(0.1, 3600), help="s between them (clip_seconds)")
    group.add_argument(
        "--test_share",
        type=_real(0, 1),
        default=0.0,
        help="share of the files that becomes the split test, chosen by their paths (0)",
    )
    add = parser.add_argument_group("what to store").add_argument
    add("--output_dir", type=Path, required=True, help="folder of the data set")
    add("--name", help="name of the data set (default: the folder's)")
    add("--num_shards", type=_whole(1, work.MAX_SHARDS), help="per split (1 per 200 clips)")
    add("--fps", type=_real(0.01, 240), default=10.0, help="frames stored per second (10)")
    add("--min_side", type=_whole(8, 4320), default=256, help="shorter side in pixels (256)")
    add("--sample_rate", type=_whole(1000, 192_000), default=48000, help="Hz (48000)")
    add("--jpeg_quality", type=_whole(1, 100), default=90, help="1 to 100 (90)")
    add(
        "--caption_context",
        type=_real(0, 3600),
        default=2.0,
        help="seconds around a clip within which captions still belong to it (2)",
    )
    add = parser.add_argument_group("how to run").add_argument
    add("--workers", type=_whole(1, 1024), help="processes (default: one per core)")
    add("--runner", choices=("local", "beam"), default="local", help="local (default) or beam")
    add("--beam_args", help="options of Apache Beam in one string; or give them behind --")
    arguments = parser.parse_args(argv)
    try:
        beam_args = [*shlex.split(arguments.beam_args or ""), *behind]
    except ValueError as error:
        parser.error(f"--beam_args: {error}")
    if arguments.manifest and arguments.format not in (sources.AUTO, "manifest"):
        parser.error(f"--manifest and --format {arguments.format} exclude each other")
    if arguments.runner == "local" and beam_args:
        parser.error(f"options of Apache Beam ({beam_args[0]}) need --runner beam")
    arguments.beam_args = beam_args if arguments.runner == "beam" else None
    return arguments


def _whole(low: int, high: int):
    def number(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number from {low} to {high}")
        return int(text)

    return number


def _real(low: float, high: float):
    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not a number from {low} to {high}")
        return value

    return number


def _run(arguments: argparse.Namespace) -> int:
    from vatt.data import workers as pool

    started, folder = time.monotonic(), arguments.output_dir
    wish = sources.Wish(
        media_root=arguments.media_root,
        clip_seconds=arguments.clip_seconds,
        clip_step=arguments.clip_step,
        test_share=arguments.test_share,
        list=arguments.list,
        labels=arguments.labels,
        caption_context=arguments.caption_context,
        workers=arguments.workers or pool.available_cores(),
    )
    totals, failures = ingest(
        [arguments.manifest] if arguments.manifest else arguments.input,
        folder,
        form="manifest" if arguments.manifest else arguments.format,
        name=arguments.name,
        num_shards=arguments.num_shards,
        fps=arguments.fps,
        min_side=arguments.min_side,
        sample_rate=arguments.sample_rate,
        jpeg_quality=arguments.jpeg_quality,
        wish=wish,
        beam_args=arguments.beam_args,
    )
    log = Log(folder)
    stored = sum(split["records"] for split in totals.values())
    _say(f"{folder.name}: {_clips(stored)} in {time.monotonic() - started:.1f} s -> {folder}", log)
    for split, facts in totals.items():
        kinds = [
            ("video", "pictures"),
            ("audio", "sound"),
            ("text", "captions"),
            ("labels", "labels"),
        ]
        parts = ", ".join(f"{facts[f'with_{kind}']} with {what}" for kind, what in kinds)
        classes = f" of {len(facts['classes'])} classes" if facts["classes"] else ""
        _say(
            f"  {split}: {_clips(facts['records'])}, {facts['seconds']:.1f} s; {parts}{classes}",
            log,
        )
    if failures:
        _say(f"{_clips(len(failures))} failed, see {folder / 'failures.csv'}:", log)
        for path, start, end, reason in failures[:_SHOWN]:
            times = "" if start is None and end is None else f" [{start} - {end}]"
            _say(f"  {path}{times}: {reason}", log)
        return EXIT_DATA
    return 0


def _clips(number: int) -> str:
    return f"{number} clip{'' if number == 1 else 's'}"


def _say(text: str, log: Log) -> None:
    print(text)
    log.lines([text])


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    arguments = parse_arguments(argv)
    try:
        return _run(arguments)
    except UserError as error:
        ended, code = f"error: {error}", error.exit_code
    except OSError as error:  # disk full, no permission, a file where a folder should be
        ended, code = f"error: {error}", EXIT_DATA
    except KeyboardInterrupt:
        ended, code = "stopped; finished shards are kept, the same command continues.", 130
        print(file=sys.stderr)  # the line of the bar
    print(ended, file=sys.stderr)
    with contextlib.suppress(OSError):  # no folder yet, or the disk is full
        Log(arguments.output_dir).lines([ended])
    return code


if __name__ == "__main__":
    sys.exit(main())
