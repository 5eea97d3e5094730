"""GDT's objective: noise-contrastive terms between sets of transformed clips, as a hypothesis says.

Each term compares two sets X and Y of clips of the same videos. In it a clip of X is found among
keys, one for each video of this replica, and further negatives:

| kind | keys | further negatives |
|---|---|---|
| base | the other modality of X | that of other replicas, X and Y |
| variant | the other modality of X | the same, and that of Y of this replica |
| invariant | the other modality of Y | that of other replicas, X and Y |

and so with X and Y exchanged. Only queries are differentiated through.
"""

from __future__ import annotations

from collections.abc import Mapping

from keras import ops

from vatt.methods.gdt.hypotheses import INVARIANT, VARIANT, Hypothesis, Term
from vatt.modeling.random import Randomness
from vatt.objectives.contrastive import diagonal_nce
from vatt.objectives.replica import ALONE, Replica
from vatt.typing import Tensor

# Embeddings by modality, of each by the set of clips, [rows, d].
Embeddings = Mapping[str, Mapping[str, Tensor]]
# Rows of other replicas that are negatives, in blocks, by set of clips and modality.
Blocks = dict[tuple[str, str], list[Tensor]]


class HypothesisLoss:
    """The mean over the terms of a hypothesis (`vatt.methods.Objective`).

    Args:
      hypothesis: which terms.
      temperature: what similarities are divided by.
      repeated: negatives of other replicas pile up from term to term, as published: before a term
        the blocks of one set are appended to those of the other for good, so that later terms count
        some rows two or three times.
    """

    def __init__(self, hypothesis: Hypothesis, temperature: float = 0.07, repeated: bool = False):
        self.terms, self.temperature, self.repeated = hypothesis.terms, temperature, repeated
        self._sets = hypothesis.sets
        self.names = (*(_name(term) for term in self.terms), "total_loss")

    def __call__(
        self,
        outputs: Embeddings,
        batch: Mapping[str, Tensor] | None = None,
        replica: Replica = ALONE,
        rng: Randomness | None = None,
    ) -> dict[str, Tensor]:
        """Returns the losses of the terms and, as `total_loss`, their mean.

        Args:
          outputs: of two modalities the embeddings of the hypothesis' sets of clips. They are
            compared as they are.
          batch: not used.
          replica: the way to rows of other replicas.
          rng: not used, nothing here is random.
        """
        elsewhere, losses, blocks = self._others(outputs, replica), {}, {}
        for term in self.terms:
            if not blocks or not self.repeated:
                blocks = {key: [rows] for key, rows in elsewhere.items()}
            losses[_name(term)] = self._term(term, outputs, blocks)
        return {**losses, "total_loss": sum(losses.values()) / len(losses)}

    def _others(self, outputs: Embeddings, replica: Replica) -> dict[tuple[str, str], Tensor]:
        """Returns the rows of other replicas, gathered all at once."""
        keys = [(name, modality) for modality in outputs for name in self._sets]
        own = ops.stack([outputs[modality][name] for name, modality in keys], axis=1)
        others = replica.gather_others(ops.stop_gradient(own))  # [rows elsewhere, keys, d]
        return {key: others[:, index] for index, key in enumerate(keys)}

    def _term(self, term: Term, outputs: Embeddings, blocks: Blocks) -> Tensor:
        """Returns the loss of a term; changes the blocks of one of its sets."""
        longer, shorter = term.one, term.two
        if term.kind == INVARIANT:
            longer, shorter = shorter, longer
        if longer != shorter:
            for modality in outputs:
                blocks[longer, modality] += blocks[shorter, modality]
        parts = [
            self._part(term.kind, x, y, outputs, {m: blocks[longer, m] for m in outputs})
            for x, y in dict.fromkeys(((term.one, term.two), (term.two, term.one)))
        ]
        return sum(parts) / len(parts)

    def _part(
        self, kind: str, x: str, y: str, outputs: Embeddings, blocks: Mapping[str, list[Tensor]]
    ) -> Tensor:
        """Returns the mean of both directions with queries of set `x`."""
        losses = []
        for query, key in zip(outputs, reversed(list(outputs)), strict=True):
            sought = outputs[key][y if kind == INVARIANT else x]
            near = [outputs[key][y]] if kind == VARIANT else []
            negatives = [*blocks[key], *near]
            losses.append(diagonal_nce(outputs[query][x], sought, negatives, self.temperature))
        return sum(losses) / len(losses)


def _name(term: Term) -> str:
    """Returns what the loss of a term is called."""
    if term.one == term.two:
        return f"{term.kind}/{term.one}_loss"
    return f"{term.kind}/{term.one}_{term.two}_loss"
