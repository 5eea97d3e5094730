"""Builds the model of a name, with its weights and all that it reads with."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from vatt import assets, configs, methods
from vatt.api.encoders import ClassifierEncoder, Encoder, PretrainedEncoder
from vatt.api.model import Model
from vatt.api.naming import Named
from vatt.api.sentences import Sentences
from vatt.api.windows import Reader
from vatt.configs import experiment, tokens
from vatt.data import cards, pipeline
from vatt.data.features import AUDIO, TEXT, VIDEO
from vatt.errors import UserError
from vatt.evaluators.subject import POOLED
from vatt.experiments import labelled, media_settings, pretrain
from vatt.experiments.finetune_eval import LABELS_FILE
from vatt.experiments.media_settings import DEFAULTS, MediaSettings
from vatt.modeling import factory
from vatt.modeling.classifier import ClassificationModel
from vatt.quiet import hide_advice_on_tracing
from vatt.training import transfer
from vatt.training.checkpoints import fingerprint, manifest_metadata
from vatt.training.sources import Source, open_source

RANDOM = "random weights"


@dataclasses.dataclass(frozen=True)
class _Classes:
    """Classes of a fine-tuned model."""

    labels: list[str]
    multi_label: bool


def build(named: Named) -> Model:
    """Returns the model, ready to be used.

    Raises:
      UserError: weights that do not fit its configuration, a damaged checkpoint, a model of
        extracted features, ...
    """
    hide_advice_on_tracing()  # files are of any length: batches have any power of two
    cfg = named.cfg
    if tokens.of(cfg.eval.input) is not None:
        raise UserError(
            f"{named.name}: a model of extracted features, which reads no media files; it is "
            "evaluated by python -m vatt.main --mode=eval on sets that 'vatt extract' makes"
        )
    source = None if named.checkpoint is None else open_source(named.checkpoint)
    facts = {} if source is None else manifest_metadata(source.prefix)
    classes = None
    with _own_randomness():
        if isinstance(cfg, experiment.Pretrain):
            data = cfg.eval.input
            model = _pretrained(cfg, source)
            encoder: Encoder = PretrainedEncoder(model)
        else:
            card = _card(named, facts)
            classes, data = _classes(named, source, card), cfg.eval.input
            data = data if card is None else labelled.input_of(data, card, cfg.model)
            model = _classifier(cfg, data, classes, source)
            encoder = ClassifierEncoder(model)
    settings = media_settings.of_run(cfg, named.folder, facts)
    lasting = [m for m in (VIDEO, AUDIO) if m in encoder.modalities]
    reader = Reader(data, settings, lasting)
    prefix = None if source is None else source.prefix
    words = Sentences(data, named.folder, prefix) if TEXT in encoder.modalities else None
    checkpoint = RANDOM if prefix is None else fingerprint(prefix)
    if prefix is None:
        logging.warning("%s: a preset, its weights are random", named.name)
    elif named.folder is not None and named.folder.parent == assets.TRAINED:
        logging.warning(
            "%s: weights that come with the package, for trying it out: they know eight shapes "
            "and motions in six colours, and the sounds of those",
            named.name,
        )
    elif settings.told_by == DEFAULTS:
        logging.warning(
            "%s: none of its data sets is here, nor does it say how their records were made: media "
            "files are read with the defaults of vatt.data.ingest (%g pictures/s, shorter side %d)",
            *(named.name, settings.fps, settings.min_side),
        )
    return Model(
        named.name,
        encoder,
        reader,
        words,
        checkpoint=checkpoint,
        recipe=_recipe(named, data, source, checkpoint, settings, reader),
        labels=classes.labels if classes else (),
        multi_label=bool(classes and classes.multi_label),
    )


@contextlib.contextmanager
def _own_randomness() -> Iterator[None]:
    """Gives Python and NumPy their random state back, which building a model sets by a seed."""
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _pretrained(cfg: experiment.Pretrain, source: Source | None) -> pretrain.PretrainingModel:
    shapes = pipeline.clip_shapes(cfg.eval.input)
    model = pretrain.build_model(cfg, shapes, tf.distribute.get_strategy())
    if source is None:
        methods.of(cfg).initialise(model, cfg.model)
    else:
        transfer.load(source, model)
    return model


# Fine-tuned --------------------------------------------------------------------------------------


def _card(named: Named, facts: Mapping[str, object]) -> cards.Card | None:
    """The labelled set, where it is here; else as far as the checkpoint tells."""
    return next(media_settings.sets(named.cfg, named.folder), None) or labelled.told_by(facts)


def _classes(named: Named, source: Source | None, card: cards.Card | None) -> _Classes:
    """Classes of a checkpoint: names beside it, their number in it.

    Whether a clip may have several is what was published for its modality where nothing tells.
    """
    count = source.shapes[source.layout.classifier_key("kernel")][-1]
    file = named.folder / LABELS_FILE
    labels = cards.read_labels(file) if file.is_file() else []
    if len(labels) != count:
        labels = [str(number) for number in range(count)]
    if card is not None:
        return _Classes(labels, card.multi_label)
    several = named.cfg.model.modalities == ("audio",)
    logging.warning(
        "%s: nothing tells whether a clip may have several classes; taken as published, %s",
        *(named.name, "any number" if several else "one"),
    )
    return _Classes(labels, several)


def _classifier(
    cfg: experiment.Finetune,
    data: configs.dataset.Finetune,
    classes: _Classes,
    source: Source | None,
) -> ClassificationModel:
    keras.utils.set_random_seed(cfg.seed)
    shapes = pipeline.clip_shapes(data)
    model = factory.build_classifier(
        cfg.model.model_copy(update={"num_test_samples": 1}),  # windows are averaged here
        num_classes=len(classes.labels),
        multi_label=classes.multi_label,
        dtype=cfg.precision,
    )
    model.build(labelled.as_inputs({m: (None, *shapes[m]) for m in cfg.model.modalities}))
    transfer.load(source, model)
    return model


# What decides -----------------------------------------------------------------------------------


def _recipe(
    named: Named,
    data: configs.dataset.Dataset,
    source: Source | None,
    checkpoint: str,
    settings: MediaSettings,
    reader: Reader,
) -> dict[str, Any]:
    """Returns what decides embeddings, as JSON can hold it."""
    cfg = named.cfg
    return {
        "model": named.name,
        "architecture": cfg.model_arch,
        "checkpoint": checkpoint,
        "weights": RANDOM if source is None else str(Path(source.prefix).name),
        "step": 0 if source is None else source.step,
        "precision": cfg.precision,
        "layer": POOLED,
        "frame_rate": settings.fps,
        "records": dataclasses.asdict(settings),
        "window_seconds": reader.seconds,
        "windows_of_short_files": data.num_windows_test,
        "input": data.as_dict(),
    }
