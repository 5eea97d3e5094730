"""Golden file of whole evaluations: all directions, from embeddings of clips to figures."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tests.golden.checks import Arrays, Check, Checks, absolute
from tests.golden.eao.metrics import EXACT, published
from vatt.evaluation.measures import COMPLETE, RETRIEVAL
from vatt.evaluation.retrieval import Retrieval
from vatt.modeling.pretraining import Pair

MODALITIES = {"t": "text", "v": "video", "a": "audio"}
BATCH = 7  # clips of one id fall into several batches


def evaluation_file(arrays: Arrays) -> Checks:
    """`evaluation.npz`."""
    total, tasks = int(arrays["total"]), [str(task) for task in arrays["tasks"]]
    for case in dict.fromkeys(path.partition("/")[0] for path in arrays if "/in/" in path):
        found = _evaluated(arrays, case, tasks, total)
        for task in tasks:
            prefix = f"{case}/out/{task}/"
            names = [path.removeprefix(prefix) for path in arrays if path.startswith(prefix)]
            if not names:
                yield Check(f"{prefix}: no figures", np.inf, 0.0)
            for name in names:
                ours = published(found[_sides(task)], name)
                yield absolute(f"{prefix}{name}", ours, arrays[prefix + name], EXACT)


def _evaluated(
    arrays: Arrays, case: str, tasks: list[str], total: int
) -> Mapping[tuple[str, str], Mapping[str, float]]:
    """Figures by what is given and what is looked for."""
    # of both directions of a pair, the one that stands first
    ways = {frozenset(_sides(task)): task for task in reversed(tasks)}
    pairs = [Pair(*_sides(task), *(_key(x) for x in task.split("2"))) for task in ways.values()]
    scores = Retrieval("set", pairs, total=total)
    ids = arrays[f"{case}/ids"]
    for start in range(0, len(ids), BATCH):
        rows = slice(start, start + BATCH)
        keys = {key for pair in pairs for key in (pair.left, pair.right)}
        scores.add({"ids": ids[rows]}, {key: arrays[f"{case}/in/{key}"][rows] for key in keys})
    found: dict[tuple[str, str], dict[str, float]] = {}
    for measure in scores.result().measures:
        if (measure.task, measure.variant) == (RETRIEVAL, COMPLETE):
            found.setdefault((measure.query, measure.target), {})[measure.name] = measure.value
    return found


def _sides(task: str) -> tuple[str, str]:
    """Returns what is given and looked for in a task: "t2va" -> ("text", "video&audio")."""
    given, wanted = task.split("2")
    return _side(given), _side(wanted)


def _side(letters: str) -> str:
    joint = "+" if "+" in letters else "&"
    return joint.join(MODALITIES[letter] for letter in letters if letter != "+")


def _key(letters: str) -> str:
    return f"{MODALITIES.get(letters, letters)}_embed"


HANDLERS = {"evaluation.npz": evaluation_file}
