r"""Classifies video and sound files with a fine-tuned model: a table of the most probable classes.

    vatt predict talks/ clip.mp4 scenes.csv --model=runs/actions --output=predictions.csv

FILES and MODEL are those of `vatt embed`: files, folders, manifests; a fine-tuned run or
checkpoint. The logits of a file's windows are averaged, as evaluation does, and become
probabilities; --windows tells every window, with its times, in a row of its own. A name that ends
with .jsonl makes JSON lines. predictions.npz beside the table keeps the logits of all windows: from
it the same command goes on where it was interrupted, adds what is new or changed, and makes other
tables (--top, --windows) without reading files again. What is in the table: docs/predict.md. Exit
codes are those of `vatt embed`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vatt import configs
from vatt.api import inputs, naming, results
from vatt.data.arguments import whole
from vatt.ended import ended
from vatt.errors import UserError
from vatt.evaluation.predictions import TOP
from vatt.tools import many_files, model_options

if TYPE_CHECKING:
    from vatt.api.model import Model


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the checked command line."""
    about = __doc__.split("\n")[0]
    parser = many_files.parser("predict", about, [".csv", ".jsonl"], "docs/predict.md")
    add = parser.add_argument
    add("--top", type=whole(1, 10**6), default=TOP, metavar="N", help=f"classes to list ({TOP})")
    add("--windows", action="store_true", help="a row for every window, with its times")
    return parser.parse_args(argv)


def _run(arguments: argparse.Namespace) -> int:
    output, kept = arguments.output, arguments.output.with_suffix(".npz")
    _check_output(output, kept)
    named = naming.find(arguments.model, **model_options.given(arguments))
    if not isinstance(named.cfg, configs.experiment.Finetune):
        raise results.without_classes(named.name)
    clips = inputs.named(arguments.files, named.cfg.model.modalities, arguments.media_root)
    from vatt.quiet import import_tensorflow_quietly

    import_tensorflow_quietly()
    from vatt.api import building, index, predicted

    model, stride = building.build(named), arguments.stride
    with index.Writer(kept, predicted.recipe(model, stride)) as writer:
        many_files.fill(writer, clips, lambda todo: _classified(model, todo, stride))
    rows = predicted.write(output, kept, clips, top=arguments.top, by_window=arguments.windows)
    print(f"written: {output} ({rows} rows), {kept} (logits of all windows)")
    return many_files.end(writer, clips)


def _check_output(output: Path, kept: Path) -> None:
    """Refuses to replace a file that no command like this one has made."""
    if output.exists() and not kept.exists():
        raise UserError(
            f"--output: {output} is there, and was not made by vatt predict ({kept.name} is not "
            "beside it): give another name, or remove it"
        )


def _classified(
    model: Model, clips: Sequence[inputs.Clip], stride: float | None
) -> Iterator[tuple[str, Mapping[str, results.Windows] | results.DataError]]:
    """What an index keeps of classified files."""
    from vatt.api.predicted import CLASSES

    for name, found in model.classify_files(clips, stride=stride):
        yield name, {CLASSES: found} if isinstance(found, results.Classification) else found


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    arguments = parse_arguments(argv)
    return ended(lambda: _run(arguments), many_files.STOPPED)


if __name__ == "__main__":
    sys.exit(main())
