"""Makes a data set: reads the input, makes the shards, writes what describes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vatt import locks
from vatt.data.features import name_fault
from vatt.data.ingest import classes, overlap, sources, state
from vatt.data.ingest import shards as work
from vatt.data.ingest.log import Log, Progress
from vatt.data.ingest.shards import Settings, Shard
from vatt.errors import DataError, UserError, short

_LOCK = ".ingest.lock"


@dataclass(frozen=True)
class Made:
    """What a command made."""

    total: dict[str, Any]  # of the set; a clip that is in several splits counts once
    splits: dict[str, dict[str, Any]]
    failures: list[list]  # path, start, end, reason
    notices: list[list]  # path, start, end, kind, detail


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
    options: sources.Options | None = None,
    beam_args: Sequence[str] | None = None,
) -> Made:
    """Makes or completes a data set.

    Args:
      inputs: files or folders, or split=PATH; see `vatt.data.ingest.sources`.
      output_dir: folder of the data set.
      form: of the inputs.
      name: of the data set; the last part of `output_dir` by default.
      num_shards: shards per split; one per 200 clips by default.
      fps: frames stored per second.
      min_side: pixels of the shorter side of a stored frame; smaller videos stay as they are.
      sample_rate: Hz.
      jpeg_quality: 1 to 100.
      options: what else is asked of the input; its `workers` are the processes of this run.
      beam_args: run as an Apache Beam pipeline with these options; None: in processes here.

    Raises:
      UserError: the input cannot be used, no clip could be stored, or another process works there.
    """
    from vatt.data.ingest import features, summary

    options = options or sources.Options()
    listing = sources.read(inputs, form, options)
    name = _checked(name or output_dir.resolve().name)
    with locks.held(output_dir / _LOCK, "another ingest"):
        log = Log(output_dir)
        labels = classes.settle(listing, options.labels, output_dir)
        settings = Settings(
            str(listing.root.resolve()),
            *(fps, min_side, sample_rate, jpeg_quality),
            options.caption_context,
            labels,
            features.plan(listing.rows, listing.rates(options), listing.root),
            options.caption_language,
            options.downmix,
        )
        shards = work.plan_shards(listing.rows, num_shards, settings)
        splits = {row.split for row in listing.rows} | set(listing.drawn)
        others = _clear(output_dir, splits, shards, settings, listing, log)
        classes.write(output_dir, labels)
        classes.say_if_missing(name, labels, log)
        stats = _make(shards, settings, output_dir, options.workers, beam_args, log)
        stats = sorted(stats + others, key=lambda shard: (shard["split"], shard["file"]))
        unused = state.unused(output_dir, splits, listing.failures)
        unused += state.noticed(output_dir, splits, listing.notices)
        failures, notices = _describe(name, output_dir, settings, stats, unused)
        return Made(summary.totals(stats), summary.by_split(stats + unused), failures, notices)


def _clear(
    folder: Path,
    splits: set[str],
    shards: list[Shard],
    settings: Settings,
    listing: sources.Listing,
    log: Log,
) -> list[dict[str, Any]]:
    """Makes room for these splits; returns the stats of the shards of the others, which stay."""
    others = state.kept(folder, splits, settings)
    state.keep_drawn(folder, splits, listing.drawn)
    overlap.tell(listing, others, folder)
    for root, clips in state.replaced(folder, splits, settings.media_root).items():
        log.say(f"replaced: {clips} clips that an earlier command took from {root}")
    state.remove_others(folder, splits, shards)
    return others


def _checked(name: str) -> str:
    if fault := name_fault(name):
        raise UserError(f"--name '{short(name)}' (by default the folder's): {fault}")
    return name


def _describe(
    name: str, folder: Path, settings: Settings, stats: list[dict], unused: list[dict]
) -> tuple[list[list], list[list]]:
    """Writes what describes the set: manifest, failures, card, page; returns failures, notices.

    Raises:
      DataError: no clip could be stored.
    """
    from vatt.data.ingest import page, summary

    failures, notices = summary.write_summary(folder, stats + unused)
    if not any(shard["records"] for shard in stats):
        where = folder / summary.FAILURES_FILE
        reason = f"the first reason: {failures[0][3]} ({failures[0][0]})" if failures else ""
        raise DataError(
            f"none of the {len(failures)} clips could be stored; {reason}. All are in {where}"
        )
    card = summary.write_card(
        name,
        folder,
        stats,
        fps=settings.fps,
        sample_rate=settings.sample_rate,
        labels=settings.labels,
        multi_label=any(sum(shard["classes"].values()) > shard["with_labels"] for shard in stats),
    )
    shown = dataclasses.asdict(settings)
    del shown["media_root"], shown["labels"], shown["features"]
    if settings.features:
        shown["features"] = "; ".join(map(str, settings.features))
    page.write(folder, card, stats + unused, failures, shown, notices)
    return failures, notices


def _make(
    shards: list[Shard],
    settings: Settings,
    folder: Path,
    workers: int,
    beam_args: Sequence[str] | None,
    log: Log,
) -> list[dict[str, Any]]:
    """Makes the shards that are not there yet; returns the stats of all."""
    from vatt.data import workers as pool

    stats = [state.finished(shard, folder) for shard in shards]
    todo = [number for number, known in enumerate(stats) if known is None]
    done = sum(len(shard.rows) for shard, known in zip(shards, stats, strict=True) if known)
    rows = [row for shard in shards for row in shard.rows]
    log.lines([f"clips: {len(rows)}, there already: {done}; shards: {len(shards)}"])
    if beam_args is not None:
        from vatt.data.ingest import beam

        beam.run([shards[number] for number in todo], settings, folder, beam_args)
        for number in todo:
            stats[number] = state.made(shards[number], folder)
            if stats[number] is None:
                raise DataError(
                    f"the pipeline has ended, but {folder / shards[number].name} is not there: "
                    "--output_dir must be a folder that all its workers share with this machine"
                )
        return stats
    jobs = [(shards[number], settings, folder, pool.tick) for number in todo]
    with pool.progress(len(rows), done, folder.resolve().name, "clip") as bar:
        progress = Progress(bar, rows, log)
        for job, made in pool.run_jobs(work.make_shard, jobs, workers, progress.update):
            stats[todo[job]] = made
    return stats
