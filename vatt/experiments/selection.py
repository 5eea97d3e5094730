"""Which checkpoint's figures count as those of a fine-tuning: `eval.best_on_test_of_last`."""

from __future__ import annotations

import numpy as np

from vatt.evaluation import measures
from vatt.reporting.history import Measures


def chosen(found: Measures, last: int) -> Measures:
    """Returns the classification of the last checkpoint, or of the best out of `last` ones.

    The best has the highest first figure, top-1 accuracy or mAP; of equal ones, the earliest. It is
    chosen on the very split that is reported, so that its figures are too good.
    """
    own = found.where(lambda measure: measure.task == measures.CLASSIFICATION)
    if last == 1 or not len(own):
        return own
    first = next(measure.name for _, measure in own)
    steps, values = own.select(name=first).series()
    best = int(np.argmax(np.nan_to_num(values[-last:], nan=-np.inf)))
    return own.at_step(int(steps[-last:][best]))
