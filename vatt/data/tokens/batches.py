"""Records of a set as batches of tokens, for evaluation."""

from __future__ import annotations

import tensorflow as tf

from vatt.configs.tokens import TokenEvaluation
from vatt.data import clips, sampling, streams
from vatt.data.bad_records import BadRecords
from vatt.data.cards import Card
from vatt.data.features import LABEL
from vatt.data.tokens.rows import Source


def evaluation(
    cfg: TokenEvaluation,
    card: Card,
    split: str,
    batch_size: int,
    bad_records: BadRecords | None = None,
) -> tf.data.Dataset:
    """Every record of a split once, in a fixed order.

    The last batch is filled up with zero rows that have `valid` 0, as has a record that cannot be
    used.

    Returns:
      Finite dataset of batches of rows: what a model gets (`Tokens.shapes` of the set), [rows,
      ...]. With `cut_clips` a record is `n_clips` neighbouring rows, else one. `ids` string [rows]:
      the source of the record, "-1" for clips that do not count. `caption`, `source` and
      `label_text` string [rows], `valid` float32 [rows], `index` int64 [rows], of the record, and,
      for a set with labels, `label` float32 [rows, classes].

    Raises:
      DataError: a set that does not fit the tokens.
    """
    tokens = cfg.of_set(card.name)
    source, parts = Source.of(tokens, card), tokens.n_clips if tokens.cut_clips else 1

    def make_clip(index: tf.Tensor, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        record = source.parse(serialized)
        made = {
            **source.cut(record),
            "caption": tf.concat([record.captions, [""]], axis=0)[0],
            "source": record.source,
            "label_text": tf.strings.reduce_join(record.label_text, separator="|"),
            "index": index,
        }
        if card.classes:
            made[LABEL] = clips.label_of(record, card.classes)
        return made

    def rows(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Clips of records as rows; what is of the record is that of each."""
        cut = {*tokens.shapes, "ids"}
        return {
            name: tf.reshape(x, [-1, *x.shape[2:]]) if name in cut else tf.repeat(x, parts, 0)
            for name, x in batch.items()
        }

    batches = streams.finite_batches(
        cfg, card, split, make_clip, batch_size=batch_size, bad_records=bad_records
    )
    return batches.map(sampling.plain_graph(rows))
