"""Everything at Once: text, video and sound in one space, fused by one transformer.

Shvetsova et al., 2022 (arXiv 2112.04446). `config` says what a model is, `presets` has the
published runs, `examples` what is read, `parts` and `model` what is trained, `avlnet` its baseline,
`objective` what is minimised, `clip` reads the text model of CLIP, `published` and `layouts` know
the names in published checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vatt.errors import UserError
from vatt.methods import Method, Objective
from vatt.methods.eao import config, presets

if TYPE_CHECKING:
    from vatt.data.examples import Examples
    from vatt.methods.eao.model import ComparedModalities
    from vatt.training.layouts import Recognise


def _examples(cfg: config.Pretrain) -> Examples:
    from vatt.methods.eao import examples

    if cfg.model.use_clip_text_model and cfg.model.clip_text_weights is None:
        raise UserError(
            "model_config.clip_text_weights: null; expected the file of CLIP's weights, which "
            "reads text (use_clip_text_model)"
        )
    return examples.build(cfg)


def _model(
    cfg: config.ModelConfig, shapes: Mapping[str, tuple[int | None, ...]], precision: str
) -> ComparedModalities:
    from vatt.methods.eao import avlnet, model

    if cfg.type == config.BASELINE:
        built: ComparedModalities = avlnet.AVLnetBaseline(cfg, precision)
    else:
        built = model.EverythingAtOnce(cfg, precision)
    built.build(shapes)
    if cfg.use_clip_text_model and cfg.clip_text_weights is not None:
        from vatt.methods.eao import clip

        sizes = (cfg.clip_text_tokens, cfg.text_embed_dim)
        built.read_text_with(clip.read(cfg.clip_text_weights, *sizes, built.dtype_policy))
    return built


def _objective(cfg: config.ModelConfig) -> Objective:
    from vatt.methods.eao import objective

    return objective.CombinatorialLoss(cfg)


def _layouts() -> tuple[Recognise, ...]:
    from vatt.methods.eao import layouts

    return layouts.RECOGNISE


METHOD = Method(
    name="eao",
    presets={**presets.PRESETS, **presets.ABLATIONS, "eao_tiny": presets.tiny},
    examples=_examples,
    model=_model,
    objective=_objective,
    evaluators=("retrieval",),
    layouts=_layouts,
)
