r"""Writes a model as files that run without this package, and proves that they give its numbers.

    vatt export runs/toy exported --format=onnx

RUN is whatever vatt.load takes: a run, a checkpoint, a published one, a preset. OUT becomes a
folder with the model, MODEL_CARD.md and what else it needs. What was written is run in a process of
its own and compared with the live model on real clips; where an error is above 0.0001, nothing is
kept. See docs/export.md. Exit codes: 0 done, 2 wrong arguments, a missing package, or other numbers
than the live model's, 3 a clip cannot be used or OUT cannot be written, 5 no such model, 130
interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vatt.ended import ended
from vatt.errors import UserError
from vatt.export import formats, places


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the checked command line."""
    parser = argparse.ArgumentParser(
        prog="vatt export",
        description=__doc__.split("\n")[0],
        epilog="docs/export.md explains the files.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("model", metavar="RUN", help="a run, a checkpoint, a published one or a preset")
    add("output", metavar="OUT", type=Path, help="the folder to be made")
    add("--format", required=True, choices=list(formats.FORMATS), help="of the files")
    add("--clips", nargs="+", type=Path, default=[], metavar="FILE",
        help="media files to compare on (default: clips of the run's sets)")  # fmt: skip
    add("--overwrite", action="store_true", help="replace an earlier export in OUT")
    add("--task", help="finetune, for such a checkpoint without a configuration beside it")
    add("--model_arch", help="preset, for a checkpoint that does not say which model it is of")
    add("--config_file", help="in place of the config.yaml beside the checkpoint")
    add("--params_override", action="append", metavar="CHANGES", help="as for vatt.main")
    add("--data_dir", help="folder of the model's data sets")
    return parser.parse_args(argv)


def _run(arguments: argparse.Namespace) -> int:
    from vatt.api import naming

    formats.check(arguments.format)
    places.check(arguments.output, arguments.overwrite)
    for path in arguments.clips:
        if not path.is_file():
            raise UserError(f"--clips: {path}: there is no such file")
    named = naming.find(
        arguments.model,
        task=arguments.task,
        model_arch=arguments.model_arch,
        config_file=arguments.config_file,
        params_override=[*(arguments.params_override or ()), formats.PRECISION],
        data_dir=arguments.data_dir,
    )
    from vatt.quiet import import_tensorflow_quietly

    import_tensorflow_quietly()
    from vatt.export import exporting, verification

    found = exporting.export(
        named,
        arguments.output,
        arguments.format,
        clips=arguments.clips,
        overwrite=arguments.overwrite,
    )
    print(f"compared with the live model on clips of {found.clips}:")
    for key, error in found.errors.items():
        print(f"  {key}: largest error {error:.1e}")
    print(f"largest of all: {max(found.errors.values()):.1e} (at most {verification.MOST:g})")
    for name, size in found.files.items():
        print(f"  {name}: {size:,} bytes")
    print(f"written: {found.folder}, which MODEL_CARD.md describes")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    return ended(lambda: _run(parse_arguments(argv)), "stopped; nothing is left of it")


if __name__ == "__main__":
    sys.exit(main())
