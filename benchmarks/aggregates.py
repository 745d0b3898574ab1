"""One number for many tasks: the interquartile mean over all runs, with its interval.

As Agarwal et al. 2021 (arXiv 2108.13264, github.com/google-research/rliable) recommend it: the mean
of the middle half of all runs' scores, and a percentile bootstrap that draws runs anew within each
task (stratified), so that the interval is of the seeds' luck and not of the choice of tasks.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.stats

FloatArray = npt.NDArray[np.float64]

RESAMPLES = 50_000  # As rliable draws.


def iqm(tasks: Sequence[FloatArray]) -> float:
    """The interquartile mean: of all runs together, without a quarter at either end.

    Args:
        tasks: the scores of each task's runs, [K] each.
    """
    return float(_pooled_iqm(*tasks, axis=0))


def iqm_interval(tasks: Sequence[FloatArray]) -> tuple[float, float] | None:
    """The 95 % stratified bootstrap interval of ``iqm``; None where a task has one run alone."""
    if min(len(scores) for scores in tasks) < 2:
        return None
    # Samples of several groups are drawn independently of each other: that is the stratification.
    drawn = scipy.stats.bootstrap(
        tasks,
        _pooled_iqm,
        method="percentile",
        n_resamples=RESAMPLES,
        batch=1_000,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    low, high = drawn.confidence_interval
    return float(low), float(high)


def _pooled_iqm(*tasks: FloatArray, axis: int = -1) -> Any:
    return scipy.stats.trim_mean(np.concatenate(tasks, axis=axis), 0.25, axis=axis)
