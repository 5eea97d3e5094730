"""The objective of GDT against the table of hypotheses, recomputed in float64 with NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.golden.replicas import simulate
from vatt.configs.problems import ConfigError
from vatt.methods.gdt import hypotheses
from vatt.methods.gdt.objective import HypothesisLoss
from vatt.objectives.replica import ALONE

RANDOM = np.random.default_rng(0)
T, ROWS, WIDTH = 0.2, 6, 5
SETS = ("V", "VR", "V2", "V2R")
# (kind, one set, the other set); the loss is the mean over them.
TABLE = {
    1: [("base", "V", None)],
    2: [("var", "V", "VR")],
    3: [("base", "V", "VR"), ("inv", "V", "VR")],
    4: [("var", "V", "V2")],
    5: [("base", "V", "V2"), ("inv", "V", "V2")],
    6: [("var", "V", "VR"), ("var", "V2", "V2R"), ("var", "V", "V2"), ("var", "VR", "V2R")],
    7: [
        ("base", "V", "VR"),
        ("inv", "V", "VR"),
        ("inv", "V2", "V2R"),
        ("var", "V", "V2"),
        ("var", "VR", "V2R"),
    ],
    8: [
        ("base", "V", "V2"),
        ("var", "V", "VR"),
        ("var", "V2", "V2R"),
        ("inv", "V", "V2"),
        ("inv", "VR", "V2R"),
    ],
    9: [
        ("base", "V", "VR"),
        ("base", "V", "V2"),
        ("inv", "V", "VR"),
        ("inv", "V2", "V2R"),
        ("inv", "V", "V2"),
        ("inv", "VR", "V2R"),
    ],
}
SENSES = ("video", "audio")


def drawn():
    """Embeddings of length 1 by modality and set, float64 [ROWS, WIDTH]."""
    found = {m: {s: RANDOM.normal(size=(ROWS, WIDTH)) for s in SETS} for m in SENSES}
    return {
        m: {s: x / np.linalg.norm(x, axis=1, keepdims=True) for s, x in sets.items()}
        for m, sets in found.items()
    }


def nce(queries, keys, negatives):
    scores = np.exp(queries @ np.concatenate([keys, *negatives]).T / T)
    return -np.mean(np.log(np.diagonal(scores) / scores.sum(axis=1)))


def expected(number, queries, keys, others, repeated=False):
    """The loss of a replica; `queries` and `keys` are its own embeddings, for their two parts.

    With `repeated` the lists of other replicas' rows grow from term to term.
    """
    lists = {(s, m): [others[m][s]] for s in SETS for m in SENSES}
    terms = []
    for kind, x, y in TABLE[number]:
        if not repeated:
            lists = {(s, m): [others[m][s]] for s in SETS for m in SENSES}
        grown, added = (y, x) if kind == "inv" else (x, y)
        parts = []
        for m in SENSES if y else ():
            lists[grown, m] = lists[grown, m] + lists[added, m]
        for one, two in [(x, y), (y, x)] if y else [(x, x)]:
            for query, key in (("video", "audio"), ("audio", "video")):
                negatives = list(lists[grown, key])
                if kind == "var":
                    negatives.append(keys[key][two])
                sought = keys[key][two if kind == "inv" else one]
                parts.append(nce(queries[query][one], sought, negatives))
        terms.append(np.mean(parts))
    return np.mean(terms)


def part(embeddings, rows):
    return {m: {s: x[rows] for s, x in sets.items()} for m, sets in embeddings.items()}


def tensors(embeddings, hypothesis):
    """Float64 tensors of the sets that a hypothesis needs, and of no others."""
    return {m: {s: tf.constant(sets[s]) for s in hypothesis.sets} for m, sets in embeddings.items()}


HALVES = (slice(0, ROWS // 2), slice(ROWS // 2, ROWS))


@pytest.mark.parametrize("repeated", (False, True))
@pytest.mark.parametrize("number", TABLE)
def test_every_hypothesis_on_two_replicas(number, repeated):
    hypothesis, everyone = hypotheses.of(number), drawn()
    own = [part(everyone, rows) for rows in HALVES]
    loss = HypothesisLoss(hypothesis, T, repeated)
    found = simulate(
        lambda index, replica: loss(tensors(own[index], hypothesis), {}, replica), count=2
    )
    for index in range(2):
        wanted = expected(number, own[index], own[index], own[1 - index], repeated)
        assert tuple(found[index]) == loss.names
        np.testing.assert_allclose(found[index]["total_loss"], wanted, rtol=1e-10)


@pytest.mark.parametrize("number", TABLE)
def test_only_queries_have_gradients(number):
    """On one replica, whose lists of others are empty, against differences of queries alone."""
    hypothesis, own = hypotheses.of(number), drawn()
    given = tensors(own, hypothesis)
    with tf.GradientTape() as tape:
        tape.watch(given)
        total = HypothesisLoss(hypothesis, T)(given, {}, ALONE)["total_loss"]
    gradients = tape.gradient(total, given)
    nobody, step = part(own, slice(0, 0)), 1e-6
    for m in SENSES:
        for s in hypothesis.sets:
            change = RANDOM.normal(size=(ROWS, WIDTH))
            ends = []
            for sign in (1, -1):
                queries = {k: dict(v) for k, v in own.items()}
                queries[m][s] = own[m][s] + sign * step * change
                ends.append(expected(number, queries, own, nobody))
            slope = np.sum(gradients[m][s] * change)
            np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * step), atol=1e-7)


@pytest.mark.parametrize("number", (1, 2, 4, 6))
def test_one_replica_equals_two_where_no_set_is_compared_with_its_own_alone(number):
    """Where sets are invariant, rows of *other* replicas are more negatives (published)."""
    hypothesis, everyone = hypotheses.of(number), drawn()
    loss = HypothesisLoss(hypothesis, T)
    whole = tensors(everyone, hypothesis)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(whole)
        alone = loss(whole, {}, ALONE)["total_loss"]
        halves = simulate(
            lambda index, replica: loss(part(whole, HALVES[index]), {}, replica)["total_loss"], 2
        )
        both = sum(halves) / 2
    np.testing.assert_allclose(alone, both, rtol=1e-10)
    for one, two in zip(
        *(tf.nest.flatten(tape.gradient(x, whole)) for x in (alone, both)), strict=True
    ):
        np.testing.assert_allclose(one, two, atol=1e-10)


def test_sets_and_passes_are_what_the_terms_need():
    for number, terms in TABLE.items():
        hypothesis = hypotheses.of(number)
        assert set(hypothesis.sets) == {s for _, *both in terms for s in both if s}
        assert sorted(hypothesis.passes) == sorted(hypothesis.sets)
    assert hypotheses.of(9).passes == ("V", "V2", "VR", "V2R")
    assert hypotheses.of(9).sets == ("V", "VR", "V2", "V2R")


def test_hypotheses_have_numbers_and_names():
    for number, hypothesis in enumerate(hypotheses.TABLE, start=1):
        assert hypotheses.of(number) is hypotheses.of(str(number)) is hypothesis
        assert hypotheses.of(hypothesis.name.upper()) is hypothesis


@pytest.mark.parametrize("wanted", (0, 10, "v_reversal_i_shif", "", True))
def test_an_unknown_hypothesis_is_told(wanted):
    with pytest.raises(ConfigError) as error:
        hypotheses.of(wanted, "model_config.hypothesis")
    message = str(error.value)
    assert f"model_config.hypothesis = {wanted!r}" in message
    assert "9 i_reversal_i_shift" in message
    assert ("Did you mean 'v_reversal_i_shift'" in message) == (wanted == "v_reversal_i_shif")
