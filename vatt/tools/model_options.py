"""Options of commands that load a model: what `vatt.load` takes beside the name."""

from __future__ import annotations

import argparse
from typing import Any

_OPTIONS = {  # what stands for a value, and what it is
    "model_arch": ("NAME", "preset, for a checkpoint that does not say what it is of"),
    "config_file": ("FILE", "in place of config.yaml beside the checkpoint"),
    "params_override": ("CHANGES", "as for vatt.main"),
    "data_dir": ("DIR", "folder of its data sets, which say how files are read"),
}


def add(parser: argparse.ArgumentParser) -> None:
    """Adds them to a command line."""
    for name, (metavar, help_) in _OPTIONS.items():
        several = {"action": "append"} if name == "params_override" else {}
        parser.add_argument(f"--{name}", metavar=metavar, help=help_, **several)


def given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns them as `vatt.load` and `vatt.api.naming.find` take them."""
    return {name: getattr(arguments, name) for name in _OPTIONS}
