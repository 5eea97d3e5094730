"""What the recipes of all tasks do alike: batches of examples, and one replica's rows of them."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import tensorflow as tf

from vatt import configs
from vatt.data import pipeline
from vatt.data.bad_records import BadRecords
from vatt.data.examples import Examples
from vatt.errors import UserError
from vatt.modeling.layers import batch_norm
from vatt.objectives.replica import Replica
from vatt.training import replica, stored_runs

Batch = Mapping[str, tf.Tensor]


class ExamplesRecipe:
    """The part of `trainer.Recipe` that concerns data.

    Attributes:
      bad_records: what of the data could not be used.
      shapes: of an example by name, without the batch axis.
      batch_size: rows of the global batch.
    """

    def __init__(self, cfg: configs.ExperimentConfig, examples: Examples) -> None:
        """Takes the run and what it is trained on; reads no media yet.

        Raises:
          DataError: a set that is missing or does not fit, before the model costs time.
        """
        self._cfg, self._examples = cfg, examples
        self.shapes, self.batch_size = examples.shapes, examples.cfg.batch_size
        for card in pipeline.load_cards(examples.cfg, cfg.data_dir):
            examples.maker(card)
        self.bad_records = BadRecords.of_run(stored_runs.folder(cfg), examples.cfg)

    def _freeze(self, model: keras.Model) -> None:
        """Freezes what the configuration says.

        Raises:
          UserError: batch norm, of which the model has none.
        """
        if self._cfg.train.freeze_batch_norm and not batch_norm.freeze(model):
            arch = self._cfg.model_arch
            raise UserError(f"train.freeze_batch_norm: true, but {arch} has no batch norm")

    def batches(self, start_step: int, worker: tuple[int, int]) -> tf.data.Dataset:
        """Rows of a worker of the global batches from `start_step` on."""
        if worker[0]:
            cfg = self._examples.cfg
            self.bad_records = BadRecords.of_run(stored_runs.folder(self._cfg), cfg, worker[0])
        return pipeline.training_batches(
            self._examples,
            data_dir=self._cfg.data_dir,
            seed=self._cfg.seed,
            start_step=start_step,
            worker=worker,
            bad_records=self.bad_records,
        )

    def check_input(self) -> None:
        """Raises DataError when too many records were bad."""
        self.bad_records.check()

    def _own_rows(self, batch: Batch) -> tuple[dict[str, tf.Tensor], Replica, tf.Tensor]:
        """Returns this replica's rows with static shapes, the replica, and its first row."""
        this = replica.of_this_step()
        rows = self.batch_size // this.count
        shaped = {
            name: tf.ensure_shape(batch[name], [rows, *shape])
            for name, shape in self.shapes.items()
        }
        return shaped, this, tf.cast(this.index, tf.int32) * rows
