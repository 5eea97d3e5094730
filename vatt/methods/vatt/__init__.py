"""VATT: contrastive pretraining of video, audio and text towers (Akbari et al., 2021).

`config` has the presets, `towers` names their backbones, `examples` what is read, `model` and
`heads` what is trained, `objective` what is minimised, `published` and `layouts` the names in
published checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from vatt.methods import Method, Objective
from vatt.methods.vatt import config

if TYPE_CHECKING:
    from vatt.methods.vatt.examples import VideoAudioText
    from vatt.methods.vatt.model import MultimodalModel
    from vatt.training.layouts import Recognise


def _preset(model: type[config.ModelConfig]) -> Callable[[], config.Pretrain]:
    return lambda: config.Pretrain(model=model())


PRESETS: dict[str, Callable[[], config.Pretrain]] = {
    "mmv_fac": _preset(config.MMVFACModel),
    "mmv_fac_tiny": _preset(config.MMVFACTinyModel),
    "tx_fac": _preset(config.TxFACModel),
    "tx_fac_bbs": _preset(config.TxFACBBSModel),
    "tx_fac_mbs": _preset(config.TxFACModel),
    "tx_fac_lbs": _preset(config.TxFACLBSModel),
    "tx_fac_tiny": _preset(config.TxFACTinyModel),
    "ut_fac": _preset(config.UnifiedTxFACModel),
    "ut_fac_medium": _preset(config.UnifiedTxFACModel),
    "ut_fac_tiny": _preset(config.UnifiedTxFACTinyModel),
}


def _examples(cfg: config.Pretrain) -> VideoAudioText:
    from vatt.methods.vatt import examples

    return examples.build(cfg)


def _model(
    cfg: config.ModelConfig, shapes: Mapping[str, tuple[int | None, ...]], precision: str
) -> MultimodalModel:
    from vatt.methods.vatt import model

    return model.build(cfg, dtype=precision).build_from(model.input_shapes(shapes))


def _objective(cfg: config.ModelConfig) -> Objective:
    from vatt.methods.vatt import objective

    return objective.build(cfg.loss_config)


def _initialise(built: MultimodalModel, cfg: config.ModelConfig) -> None:
    from vatt.methods.vatt import examples

    examples.initialise_words(built, cfg)


def _layouts() -> tuple[Recognise, ...]:
    from vatt.methods.vatt import layouts

    return layouts.RECOGNISE


METHOD = Method(
    name="vatt",
    presets=PRESETS,
    examples=_examples,
    model=_model,
    objective=_objective,
    initialise=_initialise,
    layouts=_layouts,
)
