"""Evaluation of fine-tuned checkpoints: every clip of a split once, its windows averaged."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf

from vatt import configs
from vatt.data import cards, pipeline
from vatt.evaluation.classification import Classification
from vatt.experiments import evaluator, labelled
from vatt.training.rundir import RunDir

LABELS_FILE = "labels.txt"  # class names of the classifier, in the folder of the run
_HEADLINES = ("top_1_accuracy", "top_5_accuracy", "sklearn_mAP", "sklearn_AUC", "sklearn_d-prime")


class Evaluator(evaluator.Evaluator):
    """Evaluates a classifier on `eval.input`."""

    def __init__(
        self,
        cfg: configs.ExperimentConfig,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        rundir: RunDir,
    ) -> None:
        """Checks that the set has the classes of the classifier; reads no media yet."""
        super().__init__(cfg, model, strategy, rundir)
        self._set = labelled.open_set(cfg, "eval")
        if cfg.mode != "eval":
            trained = labelled.open_set(cfg, "train")
            labelled.check_same_classes(trained.labels, self._set, f"'{trained.card.name}'")
            return
        folder = Path(cfg.checkpoint_path) if cfg.checkpoint_path else rundir.path
        folder = folder if folder.is_dir() else folder.parent
        if (folder / LABELS_FILE).exists():
            names = cards.read_labels(folder / LABELS_FILE)
            labelled.check_same_classes(names, self._set, f"the run in {folder}")

    def measure(self, step: int, checkpoint: str) -> tuple[dict[str, float], str]:
        """Classifies the split; keeps predictions, and what the report shows."""
        opened, ledger = self._set, self.ledger()
        scores = Classification(
            opened.card.name,
            labels=opened.labels,
            modality=opened.modalities[0],
            multi_label=opened.card.multi_label,
        )
        batches = pipeline.evaluation_batches(
            opened.input,
            opened.card.name,
            opened.input.split,
            data_dir=self._cfg.data_dir,
            modalities=opened.modalities,
            ledger=ledger,
        )
        for batch in self.rows(batches, ledger):
            inputs = {modality: batch[modality] for modality in opened.modalities}
            logits = self.on_replicas(self._classify, inputs)["logits"]
            scores.add(batch, logits)
        result = scores.result()
        result.save(self._rundir.path, step)
        shown = {name: result.metrics[name] for name in _HEADLINES if name in result.metrics}
        return result.metrics, "  ".join(f"{name} {value:.4g}" for name, value in shown.items())

    @tf.function
    def _classify(self, inputs):
        return self._strategy.run(self._classify_replica, args=(inputs,))

    def _classify_replica(self, inputs):
        """Logits `[rows, classes]` of clips `[rows, windows, ...]`."""
        flat = {m: tf.reshape(clips, [-1, *clips.shape[2:]]) for m, clips in inputs.items()}
        return {"logits": self._model(labelled.as_inputs(flat), training=False)["logits"]}
