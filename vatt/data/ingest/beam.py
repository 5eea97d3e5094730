"""Ingest as an Apache Beam pipeline, for sets that need many machines.

    python -m vatt.data.ingest --input ... --output_dir /shared/my_set --runner beam \
        -- --runner=FlinkRunner --flink_master=host:8081

An element of the pipeline is a shard; what is made of it is what the local runner makes, clip by
clip, so that the bytes are the same. Pixels never travel between workers: each decodes the clips of
its shards and writes them. Therefore media and output folder must be at the same paths on all
workers (a network file system). Shards that are finished are kept when the pipeline is started
again. Without options the pipeline runs in this process.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vatt.data.ingest.shards import Settings, Shard, make_shard
from vatt.errors import UserError


def run(shards: Sequence[Shard], settings: Settings, folder: Path, options: Sequence[str]) -> None:
    """Makes shards and their stats in `folder`.

    Args:
      shards: what to make.
      settings: of the records.
      folder: of the data set, on a file system that all workers share.
      options: of Apache Beam, as on its command line.

    Raises:
      UserError: Apache Beam is not installed.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise UserError(
            f"--runner beam: Apache Beam cannot be imported ({error}); pip install 'vatt[beam]'"
        ) from None
    folder = folder.resolve()  # workers start elsewhere
    with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
        (
            pipeline
            | "Shards" >> beam.Create(shards)
            | "Spread" >> beam.Reshuffle()
            | "Make" >> beam.Map(_make, settings, folder)
        )


def _make(shard: Shard, settings: Settings, folder: Path) -> None:
    """Makes a shard and counts its clips where the runner shows counts."""
    from apache_beam.metrics import Metrics

    clips = Metrics.counter("vatt.ingest", "clips")
    stats = make_shard(shard, settings, folder, tick=clips.inc)
    Metrics.counter("vatt.ingest", "records").inc(stats["records"])
    Metrics.counter("vatt.ingest", "failures").inc(len(stats["failures"]))
