"""Puts the weights of a run into the package, without what only training needs.

    python scripts/ship_weights.py runs/toy vatt/trained/toy

The newest checkpoint, its model alone, with the configuration and the vocabulary of the run; how
the records of the run were made is taken from its data sets, which must be there.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import yaml

from vatt import configs
from vatt.experiments import media_settings, vocabularies
from vatt.experiments.beforehand import CONFIG_FILE
from vatt.training.checkpoints import (
    CheckpointStore,
    manifest_metadata,
    newest_in,
    open_checkpoint,
)

OF_THE_FILES = ("step", "files", "vatt", "tensorflow")  # in a manifest


def main(run: str, folder: str) -> None:
    """Writes `folder` anew."""
    prefix = newest_in(run)
    reader = open_checkpoint(prefix)
    names = [n for n in reader.get_variable_to_shape_map() if n.startswith("model/")]
    cfg = configs.resolve(mode="eval", config_file=str(Path(run) / CONFIG_FILE))
    facts = {k: v for k, v in manifest_metadata(prefix).items() if k not in OF_THE_FILES}
    facts |= media_settings.metadata(cfg)
    if facts["records"]["told_by"] == media_settings.DEFAULTS:
        sys.exit(f"error: {cfg.data_dir}: the data sets of {run} are not there")
    target = Path(folder)
    if target.exists() and not (target / CONFIG_FILE).is_file():
        sys.exit(f"error: {target} holds no run: it is not replaced")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    step = int(prefix.name.rsplit("-", 1)[1])
    tensors = {name: reader.get_tensor(name) for name in names}
    CheckpointStore(target).save(step, tensors, **facts)
    content = yaml.safe_load((Path(run) / CONFIG_FILE).read_text(encoding="utf-8"))
    content |= {"model_dir": "runs/toy"}
    (target / CONFIG_FILE).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    shutil.copyfile(Path(run) / vocabularies.FILE, target / vocabularies.FILE)
    for file in sorted(target.iterdir()):
        print(f"{file}  {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
