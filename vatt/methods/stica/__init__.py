"""STiCA: contrastive pretraining with crops of feature maps in space and time (Patrick et al.).

`config` has the presets, `examples` what is read, `model` and `crops` what is trained, `objective`
what is minimised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from vatt.methods import Method, Objective
from vatt.methods.stica import config

if TYPE_CHECKING:
    from vatt.methods.stica.examples import TwoViews
    from vatt.methods.stica.model import CroppedViews

PRESETS: dict[str, Callable[[], config.Pretrain]] = {
    "stica": config.published,
    "stica_tiny": config.tiny,
}


def _examples(cfg: config.Pretrain) -> TwoViews:
    from vatt.methods.stica import examples

    return examples.TwoViews(cfg.train.input, cfg.model.modalities)


def _model(
    cfg: config.ModelConfig, shapes: Mapping[str, tuple[int | None, ...]], precision: str
) -> CroppedViews:
    from vatt.methods.stica import model

    built = model.CroppedViews(cfg, precision)
    built.build(shapes)
    return built


def _objective(cfg: config.ModelConfig) -> Objective:
    from vatt.methods.stica import objective

    return objective.CropLoss(cfg.crops(), cfg.temp, cfg.cross_modal_alpha)


METHOD = Method(
    name="stica",
    presets=PRESETS,
    examples=_examples,
    model=_model,
    objective=_objective,
    evaluators=("retrieval", "linear", "knn"),
)
