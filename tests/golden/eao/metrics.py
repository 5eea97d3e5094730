"""Golden file of ranks: equal scores, denominators, clips averaged by id."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from tests.golden.checks import Arrays, Check, Checks, absolute
from vatt.evaluation import complete, metrics

EXACT = 1e-9
MEAN = 1e-6  # of float32 embeddings, which the published code adds up in float32
PERCENT = {"R1", "R5", "R10", "R50", "GeometricMean"}
NAMES = {
    **{name: name for name in ("R1", "R5", "R10", "R50")},
    "MedR": "MedianRank",
    "MeanR": "MeanRank",
    "geometric_mean_R1-R5-R10": "GeometricMean",
}
_RANKED = re.compile(r"(?P<set>\w+)/total(?P<total>\d+)/(?P<way>t2v|v2t)/(?P<name>[^/]+)")


def published(values: Mapping[str, float], name: str) -> float:
    """Returns a figure as it is published: shares in percent."""
    ours = NAMES[name]
    return values[ours] * (100 if ours in PERCENT else 1)


def retrieval_metrics_file(arrays: Arrays) -> Checks:
    """`retrieval_metrics.npz`."""
    for path, reference in arrays.items():
        if found := _RANKED.fullmatch(path):
            scores = arrays[f"{found['set']}/sims"]
            scores = scores if found["way"] == "t2v" else scores.T
            ranks, total = metrics.ranks(scores, ties="mean"), int(found["total"])
            yield absolute(path, _of(ranks, total, found["name"]), reference, EXACT)
        elif path.startswith("ties/optimistic/"):
            ranks = metrics.ranks(arrays["ties/sims"], ties="first")
            name = path.rpartition("/")[2]
            yield absolute(path, _of(ranks, len(ranks), name), reference, EXACT)
        elif path.startswith("avg/out/"):
            given = arrays[path.replace("/out/", "/in/")]
            means, names = complete.mean_by_id(given, arrays["avg/ids"])
            yield absolute(path, means, reference, MEAN)
            expected = sorted({*arrays["avg/ids"].tolist()} - {complete.DROPPED})
            yield Check(f"{path}: ids in order", float(names != expected), 0.0)
        elif not path.endswith("/sims") and not path.startswith(("avg/in/", "avg/ids")):
            yield Check(f"{path}: nothing recomputes it", np.inf, 0.0)


def _of(ranks: np.ndarray, total: int, name: str) -> float:
    return published(complete.metrics(ranks, total), name)


HANDLERS = {"retrieval_metrics.npz": retrieval_metrics_file}
