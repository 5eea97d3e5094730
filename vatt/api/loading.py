"""`vatt.load`: a model by the name of a run, a checkpoint or a preset."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vatt.api import naming
from vatt.quiet import import_tensorflow_quietly

if TYPE_CHECKING:
    from vatt.api.model import Model
    from vatt.configs.resolve import Override


def load(
    name: str | os.PathLike,
    *,
    task: str | None = None,
    model_arch: str | None = None,
    config_file: str | os.PathLike | None = None,
    params_override: Override | Sequence[Override] | None = None,
    data_dir: str | os.PathLike | None = None,
) -> Model:
    """Returns a model with its weights, ready to embed videos, sounds and sentences.

    Args:
      name: folder of a run (its newest checkpoint), a checkpoint of ours or a published one, a
        published one that `vatt.tools.download` has fetched, by its name in the zoo, "toy", which
        comes with the package and knows eight shapes and motions in six colours, or a preset of
        `--model_arch`, whose weights are random.
      task: "finetune" for a fine-tuned checkpoint without a configuration beside it.
      model_arch: preset, for a checkpoint that does not say which model it is of.
      config_file: in place of the `config.yaml` beside the checkpoint.
      params_override: as for `vatt.main`.
      data_dir: folder of the run's data sets; in place of that of its configuration.

    Raises:
      UserError: there is no such thing, or it does not fit its configuration.
    """
    named = naming.find(
        name,
        task=task,
        model_arch=model_arch,
        config_file=config_file,
        params_override=params_override,
        data_dir=data_dir,
    )
    import_tensorflow_quietly()
    from vatt.api import building  # heavy from here on

    return building.build(named)
