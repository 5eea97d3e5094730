"""GDT: contrastive pretraining of video with sound or captions (Patrick et al., 2021).

`hypotheses` has what is compared, `config` the presets, `examples` what is read, `model` what is
trained, `objective` what is minimised, `published` and `layouts` the names in published checkpoints
(of STiCA, too).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from vatt.methods import Method, Objective
from vatt.methods.gdt import config

if TYPE_CHECKING:
    from vatt.methods.gdt.examples import SetsOfClips
    from vatt.methods.gdt.model import TransformedClips
    from vatt.training.layouts import Recognise

PRESETS: dict[str, Callable[[], config.Pretrain]] = {
    "gdt_av": lambda: config.audio_visual(config.SoundModel()),
    "gdt_av_34": lambda: config.audio_visual(config.SoundModel(video_backbone="r2plus1d_34")),
    "gdt_text": config.video_text,
    "gdt_tiny": config.tiny,
}


def _examples(cfg: config.Pretrain) -> SetsOfClips:
    from vatt.methods.gdt import examples

    return examples.build(cfg)


def _model(
    cfg: config.ModelConfig, shapes: Mapping[str, tuple[int | None, ...]], precision: str
) -> TransformedClips:
    from vatt.methods.gdt import model

    built = model.TransformedClips(cfg, precision)
    built.build(shapes)
    return built


def _objective(cfg: config.ModelConfig) -> Objective:
    from vatt.methods.gdt import objective

    repeated = cfg.negatives == "published"
    return objective.HypothesisLoss(cfg.terms(), cfg.nce_t, repeated)


def _initialise(built: TransformedClips, cfg: config.ModelConfig) -> None:
    if isinstance(cfg, config.CaptionModel):
        from vatt.data import embeddings

        embeddings.initialise(built.text.embedding, cfg.word_embeddings)


def _layouts() -> tuple[Recognise, ...]:
    from vatt.methods.gdt import layouts

    return layouts.RECOGNISE


METHOD = Method(
    name="gdt",
    presets=PRESETS,
    examples=_examples,
    model=_model,
    objective=_objective,
    initialise=_initialise,
    layouts=_layouts,
)
