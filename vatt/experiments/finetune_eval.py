"""Evaluation of fine-tuned checkpoints by the classes of `eval.input`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from vatt import configs, evaluators
from vatt.data import cards
from vatt.evaluation import measures
from vatt.evaluation.measures import Measure
from vatt.evaluators.subject import Classifier, Subject
from vatt.experiments import evaluator, labelled, selection
from vatt.modeling.classifier import ClassificationModel
from vatt.reporting import history
from vatt.training.rundir import METRICS, RunDir
from vatt.training.stored_checkpoints import fetched

LABELS_FILE = "labels.txt"  # class names of the classifier, in the folder of the run
EVALUATOR = "classification"


class Evaluator(evaluator.Evaluator):
    """Evaluates a classifier on `eval.input`."""

    def __init__(
        self,
        cfg: configs.experiment.Finetune,
        model: ClassificationModel,
        strategy: tf.distribute.Strategy,
        rundir: RunDir,
    ) -> None:
        """Checks that the set has the classes of the classifier; reads no media yet."""
        super().__init__(cfg, model, strategy, rundir)
        self._set = labelled.open_set(cfg, "eval")
        card, split = self._set.card, self._set.input.split
        if (fold := card.fold_of(split)) and not cfg.eval.input.split:
            logging.info(
                "%s: fold %s of %d is evaluated (%s); --folds=all runs them all",
                card.name,
                fold,
                len(card.folds()),
                split,
            )
        self._functions = Functions(model, self._set.modalities, self.on_replicas, strategy)
        if cfg.mode != "eval":
            trained = labelled.open_set(cfg, "train")
            labelled.check_same_classes(trained.labels, self._set, f"'{trained.card.name}'")
            return
        folder = fetched(cfg.checkpoint_path or rundir.checkpoints)
        folder = folder if folder.is_dir() else folder.parent
        if (folder / LABELS_FILE).exists():
            names = cards.read_labels(folder / LABELS_FILE)
            labelled.check_same_classes(names, self._set, f"the run in {folder}")

    def measure(self, step: int, checkpoint: str) -> list[Measure]:
        """Classifies the split; keeps predictions, and what the report shows."""
        subject: Subject[Classifier] = Subject(
            cfg=self._cfg,
            input=self._set.input,
            cards=[self._set.card],
            folder=self._rundir.path,
            step=step,
            checkpoint=checkpoint,
            model=self._functions,
        )
        return list(evaluators.named(EVALUATOR)(subject))

    def final(self, step: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """Returns the figures of the run: of its newest checkpoint, or of the best if asked for."""
        last = self._cfg.eval.best_on_test_of_last
        if last == 1:
            return super().final(step, metrics)
        best = selection.chosen(history.read(self._rundir.path / METRICS).measures, last)
        (step,) = best.steps()
        logging.warning("step %d counts, the best on what is reported: too good to compare", step)
        return super().final(step, measures.published_names([measure for _, measure in best]))


class Functions:
    """A classifier as evaluators see it (`vatt.evaluators.subject.Classifier`)."""

    def __init__(
        self,
        model: ClassificationModel,
        modalities: Sequence[str],
        on_replicas: evaluator.OnReplicas,
        strategy: tf.distribute.Strategy,
    ) -> None:
        """Compiles nothing yet; the weights are those that the model has when it is called."""
        self._model, self._on_replicas, self._strategy = model, on_replicas, strategy
        self.modalities = modalities

    def classify(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns logits `[rows, classes]` of clips `[rows, windows, ...]` by modality."""
        return self._on_replicas(self._classify, inputs)["logits"]

    @tf.function(autograph=False)
    def _classify(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return self._strategy.run(self._classify_replica, args=(inputs,))

    def _classify_replica(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        # Of a window with several crops, which come crop by crop, all are seen with the same sound.
        most = max(clips.shape[1] for clips in inputs.values())
        flat = {}
        for modality, clips in inputs.items():
            times = [1, most // clips.shape[1], *[1] * (clips.shape.rank - 2)]
            same = tf.tile(clips, times) if times[1] > 1 else clips
            flat[modality] = tf.reshape(same, [-1, *clips.shape[2:]])
        return {"logits": self._model(labelled.as_inputs(flat), training=False)["logits"]}
