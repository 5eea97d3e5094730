"""Evaluation of pretraining checkpoints: zero-shot retrieval on every set asked for."""

from __future__ import annotations

import json
import time

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from vatt import configs
from vatt.data import pipeline
from vatt.data.bad_records import BadRecords
from vatt.errors import DataError, UserError
from vatt.evaluation import retrieval
from vatt.files import replace_text
from vatt.reporting import report
from vatt.training import transfer
from vatt.training.checkpoints import CheckpointStore, restore
from vatt.training.loop import variable_map
from vatt.training.rundir import RunDir


class Evaluator:
    """Evaluates one model's checkpoints, each once, in order."""

    def __init__(
        self,
        cfg: configs.ExperimentConfig,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        rundir: RunDir,
    ) -> None:
        """Checks that every data set can be evaluated; reads no media yet."""
        self._cfg, self._input = cfg, cfg.eval.input
        self._model, self._strategy, self._rundir = model, strategy, rundir
        self._store = CheckpointStore(rundir.path)
        names = self._input.name
        self._names = [names] if isinstance(names, str) else list(names)
        for name in self._names:
            card = pipeline.load_card(name, cfg.data_dir)
            if "retrieval" not in card.tasks:
                raise DataError(
                    f"eval.input.name: '{name}' serves {card.tasks}; pretraining is evaluated by "
                    "zero-shot retrieval, on sets whose card lists the task 'retrieval'"
                )
            pipeline.check_split(card, self._input.split)

    # -- which checkpoints -----------------------------------------------------------------

    def run(self) -> int:
        """`--mode=eval`: the checkpoint asked for once, else every one until the final step."""
        if self._cfg.checkpoint_path:
            report = transfer.load(self._cfg.checkpoint_path, self._model)
            self.evaluate(report.source.step)
            return 0
        final = self._cfg.train.optimizer.learning_rate.total_steps
        last_new = time.monotonic()
        while True:
            if self.catch_up():
                last_new = time.monotonic()
            if final in self._evaluated():
                return 0
            if time.monotonic() - last_new > self._cfg.eval.timeout_s:
                logging.warning(
                    "no new checkpoint in %s for %.0f s, leaving (eval.timeout_s)",
                    self._rundir.path,
                    self._cfg.eval.timeout_s,
                )
                return 0
            time.sleep(self._cfg.eval.poll_interval_s)

    def catch_up(self) -> int:
        """Evaluates every committed checkpoint that has not been; returns how many."""
        count = 0
        for step in self._store.steps():
            if step in self._evaluated():
                continue
            damage = self._store.verify(step)
            if damage is not None:
                logging.warning("ckpt-%d is not evaluated: %s", step, damage)
                continue
            restore(self._store.path(step), variable_map(self._model))
            self.evaluate(step)
            count += 1
        return count

    def _evaluated(self) -> list[int]:
        try:
            return json.loads((self._rundir.path / "evaluated.json").read_text())
        except FileNotFoundError:
            return []

    # -- one checkpoint --------------------------------------------------------------------

    def evaluate(self, step: int) -> dict[str, float]:
        """Evaluates the model as it is, as checkpoint `step`; writes metrics and the report."""
        metrics: dict[str, float] = {}
        for name in self._names:
            result = self._retrieval(name)
            metrics |= result.metrics
            result.save(self._rundir.path, step)
        self._rundir.write_metrics("eval", step, metrics)
        done = sorted({*self._evaluated(), step})
        if step == done[-1]:  # an earlier checkpoint evaluated once more is not the final figure
            self._rundir.write_final(metrics | {"step": step})
        replace_text(self._rundir.path / "evaluated.json", json.dumps(done))
        main = {n: v for n, v in metrics.items() if n.endswith(("embd_R10", "embd_MedianRank"))}
        logging.info("step %d: %s", step, "  ".join(f"{n} {v:.4g}" for n, v in main.items()))
        if self._cfg.eval.report:
            report.write(self._rundir.path)
        return metrics

    def _retrieval(self, name: str) -> retrieval.RetrievalResult:
        scores = retrieval.Retrieval(name)
        card = pipeline.load_card(name, self._cfg.data_dir)
        lacking = {query for query in ("text", "audio") if getattr(card, query) is None}
        replicas = self._strategy.num_replicas_in_sync
        size = self._input.batch_size
        if size % replicas:
            raise UserError(
                f"eval.input.batch_size: {size} is not divisible by {replicas} replicas"
            )
        ledger = BadRecords(self._rundir.path / "bad_records.csv", self._input.max_bad_fraction)
        batches = pipeline.evaluation_batches(
            self._input, name, self._input.split, data_dir=self._cfg.data_dir, ledger=ledger
        )
        try:
            for batch in batches.as_numpy_iterator():
                inputs = {key: batch[key] for key in ("video", "audio", "text") if key in batch}
                outputs = self._embed_batch(inputs)
                for query in lacking:
                    outputs[f"{query}_tovid"] = None
                scores.add(batch, outputs)
        except tf.errors.OpError:
            ledger.check()
            raise
        return scores.result()

    def _embed_batch(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        replicas = self._strategy.num_replicas_in_sync

        def rows(context: tf.distribute.ValueContext) -> dict[str, tf.Tensor]:
            part, count = context.replica_id_in_sync_group, context.num_replicas_in_sync
            return {key: tf.constant(np.split(value, count)[part]) for key, value in inputs.items()}

        values = self._strategy.experimental_distribute_values_from_function(rows)
        outputs = self._embed(values)
        local = self._strategy.experimental_local_results
        assert replicas >= 1
        return {
            key: np.concatenate([part.numpy() for part in local(value)])
            for key, value in outputs.items()
        }

    @tf.function
    def _embed(self, inputs):
        return self._strategy.run(self._embed_replica, args=(inputs,))

    def _embed_replica(self, inputs):
        """Embeddings of every window: video and audio `[rows, windows, d]`, text `[rows, d]`."""
        rows, windows = inputs["video"].shape[:2]
        flat = {key: tf.reshape(value, [-1, *value.shape[2:]]) for key, value in inputs.items()}
        head = self._model(flat, training=False)["head"]
        per_window = {
            "video_totxt": head["video"]["totxt"],
            "video_toaud": head["video"]["toaud"],
            "audio_tovid": head["audio"]["tovid"],
        }
        outputs = {
            key: tf.reshape(tf.cast(value, tf.float32), [rows, windows, -1])
            for key, value in per_window.items()
        }
        return outputs | {"text_tovid": tf.cast(head["text"]["tovid"], tf.float32)}
