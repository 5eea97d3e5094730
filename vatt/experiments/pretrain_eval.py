"""Evaluation of pretraining checkpoints on every set asked for, by what its card offers.

Sets with the task `retrieval` are searched by text, by sound and back. Sets with the task
`video_classification` or `audio_classification` train probes on frozen features of every fold, and
are classified without training by the names of their classes.

Names of metrics are those of `evaluation/retrieval.py`, `probe.py` and `zero_shot.py`. Where both
modalities of a set are probed, the set is called `<set>@audio` in the metrics of its sound.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from vatt import configs
from vatt.data import pipeline
from vatt.data.cards import Card
from vatt.data.features import JOINED
from vatt.errors import DataError
from vatt.evaluation import artefacts, attention, geometry, probe, retrieval, zero_shot
from vatt.experiments import evaluator, features
from vatt.training.rundir import RunDir

_TASKS = {"video": "video_classification", "audio": "audio_classification"}
_HEADLINE = re.compile(
    r".+_(txt2vid|audio2vid)_embd_(R10|MedianRank)"
    r"|(?!.*_(chance|zero_shot|train|test|knn|published_probe)_).+_(top_1_accuracy|mAP)"
)
PROJECTED_CLIPS = 1000


class Evaluator(evaluator.Evaluator):
    """Evaluates a pretrained model without training it."""

    def __init__(
        self,
        cfg: configs.ExperimentConfig,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        rundir: RunDir,
    ) -> None:
        """Checks that every data set can be evaluated; reads no media yet."""
        super().__init__(cfg, model, strategy, rundir)
        self._cards = [pipeline.load_card(name, cfg.data_dir) for name in self._input.name]
        for card in self._cards:
            if "retrieval" in card.tasks:
                pipeline.check_split(card, self._input.split)
            elif not _probed(card):
                raise DataError(
                    f"eval.input.name: '{card.name}' serves {card.tasks}; pretraining is evaluated "
                    "by zero-shot retrieval and by probes, on sets whose card lists one of the "
                    f"tasks retrieval, {', '.join(_TASKS.values())}"
                )
            for split in (split for pair in _folds(card) for split in pair):
                card.shards(split)  # probes read files: sets from code have none

    def measure(self, step: int, checkpoint: str) -> tuple[dict[str, float], str]:
        """Evaluates on every set; keeps what the report shows."""
        metrics: dict[str, float] = {}
        for card in self._cards:
            if "retrieval" in card.tasks:
                result = self._retrieval(card, step)
                metrics |= result.metrics
                result.save(self._rundir.path, step)
            for modality in _probed(card):
                metrics |= self._labelled(card, modality, step, checkpoint)
        main = {name: value for name, value in metrics.items() if _HEADLINE.fullmatch(name)}
        return metrics, "  ".join(f"{name} {value:.4g}" for name, value in main.items())

    # -- retrieval -------------------------------------------------------------------------

    def _retrieval(self, card: Card, step: int) -> retrieval.RetrievalResult:
        scores = retrieval.Retrieval(card.name)
        lacking = tuple(query for query in ("text", "audio") if getattr(card, query) is None)
        ledger, name = self.ledger(), card.name
        batches = pipeline.evaluation_batches(
            self._input,
            name,
            self._input.split,
            data_dir=self._cfg.data_dir,
            modalities=self._model.modalities,
            ledger=ledger,
        )
        shown = attention.Examples(name)
        for batch in self.rows(batches, ledger):
            inputs = {key: batch[key] for key in ("video", "audio", "text") if key in batch}
            outputs = self.on_replicas(self._embed, inputs)
            scores.add(batch, {k: v for k, v in outputs.items() if not k.startswith(lacking)})
            if self._cfg.eval.report and not self._input.space_to_depth:
                there = {key: value for key, value in batch.items() if key not in lacking}
                shown.add(there, self._attention, zero_centred=self._input.zero_centering_image)
        shown.save(self._rundir.path, step)
        return scores.result()

    @tf.function
    def _embed(self, inputs):
        return self._strategy.run(self._embed_replica, args=(inputs,))

    def _embed_replica(self, inputs):
        """Embeddings of every window: video and audio `[rows, windows, d]`, text `[rows, d]`."""
        rows, windows = inputs["video"].shape[:2]
        flat = {key: tf.reshape(value, [-1, *value.shape[2:]]) for key, value in inputs.items()}
        found = self._model.embed(self._model.towers(flat))
        return {
            key: value if key.startswith("text") else tf.reshape(value, [rows, windows, -1])
            for key, value in found.items()
        }

    def _attention(self, modality: str, clips: np.ndarray) -> np.ndarray | None:
        """Attention of the aggregation token of the last layer, None for convolutions.

        Args:
          modality: "video" or "audio".
          clips: [rows, ...].

        Returns:
          float32 [rows, *grid], summing to 1.
        """
        tower = getattr(self._model, modality)
        if not hasattr(tower, "patches"):
            return None
        outputs = tower(tf.constant(clips), training=False, intermediates=True)
        return attention.of_aggregation_token(
            outputs["attention_weights"][-1].numpy(), tower.patches.grid(clips.shape)
        )

    # -- classification --------------------------------------------------------------------

    def _labelled(self, card: Card, modality: str, step: int, checkpoint: str) -> dict[str, float]:
        """Probes on every fold, averaged too, and zero-shot classification of the first one."""
        name = card.name if modality == _probed(card)[0] else f"{card.name}@{modality}"
        metrics: dict[str, float] = {}
        results: dict[str, list[probe.ProbeResult]] = {kind: [] for kind in self._cfg.eval.probes}
        folds = _folds(card)
        splits = zip(*folds, strict=True)  # those to train on, those to test on
        trains, tests = (
            self._features(card, names, modality, part, checkpoint)
            for names, part in zip(splits, ("train", "test"), strict=True)
        )
        for fold, (train, test) in enumerate(zip(trains, tests, strict=True)):
            number = re.sub(r"\D", "", folds[fold][1]) or "0"
            data = probe.probe_set(
                f"{card.name}, fold {number}",
                train.pooled,
                train.labels,
                test.pooled,
                test.labels,
                multi_label=card.multi_label,
                groups=train.index,
            )
            for kind in results:
                if kind == "published_probe" and card.multi_label:
                    logging.info("%s: the published probe is for one label per clip", card.name)
                    continue
                result = probe.PROBES[kind](data)
                results[kind].append(result)
                metrics |= probe.metric_names(name, number, result)
            if fold == 0:
                chance = probe.chance(data.test_labels, data.classes, card.multi_label)
                metrics |= {f"{name}_chance_{measure}": value for measure, value in chance.items()}
                metrics |= self._zero_shot(card, modality, name, test)
                if self._cfg.eval.report:
                    self._project(card, modality, test, step)
        for found in results.values():
            metrics |= probe.average_over_splits(name, found)
        return metrics

    def _features(
        self, card: Card, splits: Sequence[str], modality: str, part: str, checkpoint: str
    ) -> list[features.Features]:
        """Features of splits; `part` "train" gives one window per clip and augmentation."""
        wanted = features.recipe(self._cfg, card, splits, modality, part, checkpoint)
        path = self._rundir.path / "features" / f"{card.name}-{modality}-{part}.npz"
        split = JOINED.join(splits)
        ledger, cfg, folder = self.ledger(), self._input, self._cfg.data_dir
        common = {"data_dir": folder, "ledger": ledger}

        def make() -> features.Features:
            if part == "train":
                batches = pipeline.probe_batches(
                    cfg, card.name, split, modality, seed=self._cfg.seed, **common
                )
            else:
                batches = pipeline.evaluation_batches(
                    cfg, card.name, split, modalities=(modality,), **common
                )
            return features.collect(
                self.rows(batches, ledger),
                lambda clips: self.on_replicas(self._encode, {modality: clips}),
                modality,
            )

        joined = features.kept(path, wanted, make)
        return features.apart(joined, pipeline.split_rows(card, splits))

    @tf.function
    def _encode(self, inputs):
        return self._strategy.run(self._encode_replica, args=(inputs,))

    def _encode_replica(self, inputs):
        """Features of clips `[rows, windows, ...]` of one modality: `[rows, windows, d]`."""
        ((modality, clips),) = inputs.items()
        rows, windows = clips.shape[:2]
        flat = {modality: tf.reshape(clips, [-1, *clips.shape[2:]])}
        towers = self._model.towers(flat)
        pooled = towers[modality][features.LAYER]
        embedded = self._model.embed(towers).get(f"{modality}_totxt")
        if embedded is None:
            embedded = tf.zeros([rows * windows, 0])
        return {
            name: tf.reshape(tf.cast(value, tf.float32), [rows, windows, value.shape[-1]])
            for name, value in (("pooled", pooled), ("beside_text", embedded))
        }

    def _zero_shot(
        self, card: Card, modality: str, name: str, test: features.Features
    ) -> dict[str, float]:
        if not (self._cfg.eval.zero_shot and test.beside_text.shape[-1]):
            return {}
        if not card.labels:
            logging.info("%s: no names of classes, no zero-shot classification", card.name)
            return {}
        sentences = self._sentences(card, modality)
        ends = np.cumsum([len(texts) for texts in sentences])[:-1]
        tokenize = pipeline.make_tokenizer(self._input)
        words = tokenize(
            tf.constant([text for texts in sentences for text in texts]), self._input.max_num_words
        ).numpy()
        alike = len(sentences) - len({part.tobytes() for part in np.split(words, ends)})
        if alike:
            logging.warning(
                "%s: %d of %d classes are for the vocabulary the same as another one (unknown words"
                "): zero-shot figures say little; the card can give sentences (prompts)",
                card.name,
                alike,
                len(sentences),
            )
        vectors = np.split(self._embed_text(words), ends)
        found = zero_shot.zero_shot(
            name, test.beside_text, vectors, test.labels, multi_label=card.multi_label
        )
        return found.metrics

    def _sentences(self, card: Card, modality: str) -> list[list[str]]:
        """Sentences of every class: those of the card, else templates around its name."""
        others = zero_shot.prompts(card.labels, zero_shot.TEMPLATES[modality])
        pairs = zip(card.labels, others, strict=True)
        return [card.prompts.get(label, texts) for label, texts in pairs]

    def _embed_text(self, words: np.ndarray) -> np.ndarray:
        """Embeddings [rows, d] of sentences int32 [rows, words], a batch at a time."""
        size, parts = self._input.batch_size, []
        for start in range(0, len(words), size):
            rows = words[start : start + size]
            filled = np.zeros((size, words.shape[1]), words.dtype)
            filled[: len(rows)] = rows
            found = self.on_replicas(self._encode_text, {"text": filled})["text"]
            parts.append(found[: len(rows)])
        return np.concatenate(parts)

    @tf.function
    def _encode_text(self, inputs):
        def replica(inputs):
            return {"text": self._model.embed(self._model.towers(inputs))["text_tovid"]}

        return self._strategy.run(replica, args=(inputs,))

    def _project(self, card: Card, modality: str, test: features.Features, step: int) -> None:
        """Keeps the features of test clips in the plane, for the report."""
        try:
            pca = geometry.project(test.pooled, "pca", most=PROJECTED_CLIPS)
            tsne = geometry.project(test.pooled, "tsne", most=PROJECTED_CLIPS)
        except ValueError as error:
            logging.info("%s is not projected: %s", card.name, error)
            return
        labels = test.labels[pca.rows]
        arrays = {
            "dataset": np.array(card.name),
            "modality": np.array(modality),
            "step": np.int64(step),
            "rows": pca.rows,
            "label": np.where(labels.any(axis=1), labels.argmax(axis=1), -1),
            "classes": np.array(card.labels or [str(c) for c in range(card.classes)], np.str_),
            "pca": pca.points,
            "pca_explained": np.array(pca.explained, np.float32),
            "tsne": tsne.points,
        }
        folder = self._rundir.path / "eval" / "projections"
        artefacts.save(folder / f"{card.name}-{modality}-{step}.npz", arrays)


def _probed(card: Card) -> list[str]:
    """Modalities in which a set is classified, the first one that its card lists first."""
    found = [m for task in card.tasks for m, name in _TASKS.items() if name == task]
    return [m for m in found if getattr(card, m) is not None and card.classes and _folds(card)]


def _folds(card: Card) -> list[tuple[str, str]]:
    return card.folds() if set(card.tasks) & set(_TASKS.values()) else []
