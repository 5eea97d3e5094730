r"""Converts a published checkpoint into one of ours, from which a training or evaluation goes on.

    python -m vatt.tools.convert_checkpoint SOURCE DEST_DIR --model_arch=tx_fac_mbs

SOURCE is a prefix such as published/ckpt-500000, a folder, which stands for its newest one, or a
file of PyTorch or Flax such as gdt_K400.pth or checkpoint_435240, of which nothing is run. The
configuration is put together as for vatt.main; it must be that of the training that goes on in
DEST_DIR. Beside the checkpoint lies ckpt-<step>.certificate.json: every tensor with its source and
the SHA-256 of both, and what of the source was not needed, and why. See docs/checkpoints.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from vatt import quiet
from vatt.ended import ended
from vatt.experiments import beforehand


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m vatt.tools.convert_checkpoint",
        description=__doc__.split("\n")[0],
        allow_abbrev=False,
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="published checkpoint, without its ending; a .pth file with it",
    )
    parser.add_argument("folder", metavar="DEST_DIR", help="folder for the converted one")
    parser.add_argument("--model_arch", help="preset of the model, such as Tx_FAC or ViT_Base")
    parser.add_argument("--task", help="pretrain or finetune; by default that of the checkpoint")
    parser.add_argument("--config_file", help="YAML file of the experiment")
    parser.add_argument(
        "--params_override",
        action="append",
        metavar="CHANGES",
        help="as for vatt.main; may be given several times",
    )
    options = parser.parse_args(arguments)
    return ended(lambda: _convert(options), "stopped")


def _convert(options: argparse.Namespace) -> int:
    beforehand.check_checkpoint(Path(options.source))
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # nothing is computed
    quiet.import_tensorflow_quietly()
    from vatt import configs
    from vatt.tools.checkpoint_conversion import convert
    from vatt.training import sources

    source = sources.open_source(options.source)
    task = options.task
    if not task and not options.config_file:
        task = source.layout.kind
    cfg = configs.resolve(
        task=task,
        model_arch=options.model_arch,
        config_file=options.config_file,
        params_override=options.params_override,
    )
    print(convert(source, cfg, options.folder).summary())
    return 0


if __name__ == "__main__":
    sys.exit(main())
