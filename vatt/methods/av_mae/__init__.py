"""AV-MAE: masked autoencoders of video and sound (Georgescu et al., 2023).

`config` has the presets, `model` what is trained, with `parts` that each modality has by itself and
`masks`; `objective` what is minimised, `targets` what is to be predicted; `published` and `layouts`
the names in published checkpoints.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from vatt.methods import Method, Objective
from vatt.methods.av_mae import config

if TYPE_CHECKING:
    from vatt.data.examples import Clips
    from vatt.methods.av_mae.model import MaskedAutoencoder
    from vatt.training.layouts import Recognise

PRESETS: dict[str, Callable[[], config.Pretrain]] = {
    **{f"av_mae_{size}": functools.partial(config.audioset, size) for size in config.SIZES},
    "av_mae_tiny": config.tiny,
}


def _examples(cfg: config.Pretrain) -> Clips:
    from vatt.methods.av_mae import examples

    return examples.build(cfg)


def _model(
    cfg: config.ModelConfig, shapes: Mapping[str, tuple[int | None, ...]], precision: str
) -> MaskedAutoencoder:
    from vatt.methods.av_mae import model

    built = model.MaskedAutoencoder(cfg, precision)
    built.build(shapes)
    return built


def _objective(cfg: config.ModelConfig) -> Objective:
    from vatt.methods.av_mae import objective

    return objective.ReconstructionLoss(cfg)


def _layouts() -> tuple[Recognise, ...]:
    from vatt.methods.av_mae import layouts

    return layouts.RECOGNISE


METHOD = Method(
    name="av_mae",
    presets=PRESETS,
    examples=_examples,
    model=_model,
    objective=_objective,
    evaluators=("linear", "knn", "reconstructions"),
    layouts=_layouts,
)
