"""What Everything at Once is trained on: tokens of features, sound and words of a clip.

An example is one row, `vatt.configs.tokens.Tokens.shapes`. Of narrated videos a record gives
`tokens.n_clips` of them, which stand one after another in the batch; `batch_size` counts them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import tensorflow as tf

from vatt.configs.tokens import TokenPretrain
from vatt.data import cards, pipeline, sampling
from vatt.data.cards import Card
from vatt.data.examples import Batch, Examples, Maker
from vatt.data.features import TEXT
from vatt.data.tokens.rows import Source
from vatt.errors import DataError

if TYPE_CHECKING:
    from vatt.methods.eao.config import Pretrain


class TokenRows(Examples):
    """Rows of tokens."""

    cfg: TokenPretrain

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes by name of one row, without the batch axis."""
        return self.cfg.tokens.shapes

    @property
    def rows(self) -> int:
        """Rows of a batch that a record becomes."""
        return self.cfg.tokens.rows

    @property
    def record_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """`shapes` with an axis of clips, where a record gives several."""
        if self.rows == 1:
            return self.shapes
        return {name: (self.rows, *shape) for name, shape in self.shapes.items()}

    def maker(self, card: Card) -> Maker:
        """Returns what makes the rows of a record.

        Raises:
          DataError: a set that lacks captions or features, or has others.
        """
        if self.cfg.data_service:
            raise DataError(
                "train.input.data_service: words are looked up in this process; expected null"
            )
        cards.check_modality(card, TEXT)
        tokens, source = self.cfg.tokens, Source.of(self.cfg.tokens, card)

        def make(seed: tf.Tensor, serialized: tf.Tensor) -> Batch:
            record, seeds = source.parse(serialized), sampling.seeds_per_use(seed)
            if not tokens.narrated:
                return source.whole(record, tokens.caption_selection, seeds[sampling.CAPTIONS])
            shares = sampling.uniform(seeds[sampling.OFFSET], (tokens.n_clips,))
            rows = source.narrated(record, shares)
            return rows if self.rows > 1 else {name: value[0] for name, value in rows.items()}

        return make

    def whole_batch(self, batch: Batch, seed: tf.Tensor) -> Batch:
        """Clips of a record one after another, as rows."""
        if self.rows == 1:
            return batch
        return {name: tf.reshape(x, [-1, *self.shapes[name]]) for name, x in batch.items()}


def build(cfg: Pretrain) -> TokenRows:
    """Returns the examples of a run.

    Raises:
      DataError: a set that is missing, or a file of word vectors or merges.
    """
    examples = TokenRows(cfg.train.input)
    for card in pipeline.load_cards(cfg.train.input, cfg.data_dir):
        examples.maker(card)
    return examples
