r"""Embeds video and sound files with a model and keeps the embeddings in one .npz file.

    vatt embed talks/ clip.mp4 scenes.csv --model=runs/toy --output=embeddings.npz

Folders stand for the media files in them, at any depth, manifests (CSV, TSV, JSON lines, as for
`vatt ingest`) for their rows: of one with start and end only that piece is embedded. MODEL is
whatever vatt.load takes: a run, a checkpoint, a preset. How files are read, the model's run
decides; --stride says how far windows lie apart (default: those of evaluation in short files, else
the window's length). The same command goes on where it was interrupted, and adds files that are new
or changed. What is in the file, with its recipe: docs/embedding.md. Exit codes: 0 done, 2 wrong
arguments, or OUTPUT has embeddings made otherwise, 3 some files cannot be used (listed; the others
are done) or OUTPUT cannot be written, 5 no such model, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from vatt.api import inputs, naming
from vatt.data.features import AUDIO, VIDEO
from vatt.ended import ended
from vatt.tools import many_files, model_options

_MODALITIES = (VIDEO, AUDIO)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the checked command line."""
    about = __doc__.split("\n")[0]
    parser = many_files.parser("embed", about, [".npz"], "docs/embedding.md")
    parser.add_argument("--modalities", help="video, audio or video,audio (all that there are)")
    arguments = parser.parse_args(argv)
    arguments.modalities = arguments.modalities and arguments.modalities.split(",")
    for name in arguments.modalities or ():
        if name not in _MODALITIES:
            parser.error(f"--modalities: {name} is none of {', '.join(_MODALITIES)}")
    return arguments


def _run(arguments: argparse.Namespace) -> int:
    kinds = arguments.modalities or _MODALITIES
    clips = inputs.named(arguments.files, kinds, arguments.media_root)
    named = naming.find(arguments.model, **model_options.given(arguments))
    from vatt.quiet import import_tensorflow_quietly

    import_tensorflow_quietly()
    from vatt.api import building, index

    model = building.build(named)
    modalities = [m for m in _MODALITIES if m in (arguments.modalities or model.modalities)]
    stride = arguments.stride
    recipe = {**model.recipe, "modalities": modalities, "stride": stride}
    with index.Writer(arguments.output, recipe) as writer:
        run = partial(model.embed_files, modalities=modalities, stride=stride)
        many_files.fill(writer, clips, run)
    for modality, rows in writer.rows().items():
        print(f"  {modality}: {rows} windows")
    print(f"written: {arguments.output}")
    return many_files.end(writer, clips)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    arguments = parse_arguments(argv)
    return ended(lambda: _run(arguments), many_files.STOPPED)


if __name__ == "__main__":
    sys.exit(main())
