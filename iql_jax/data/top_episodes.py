"""The best episodes of a dataset: what "10 % behavioural cloning" clones."""

import numpy as np

from iql_jax.data.episodes import FloatArray, IntArray


def episode_returns(rewards: FloatArray, lengths: IntArray) -> FloatArray:
    """The undiscounted return of each episode.

    Args:
        rewards: [n], episode after episode.
        lengths: [E], each at least 1; their sum is n.

    Returns:
        [E] float64.
    """
    starts = np.cumsum(lengths) - lengths
    return np.add.reduceat(rewards.astype(np.float64), starts)


def top_episodes(returns: FloatArray, share: float) -> IntArray:
    """The episodes of the highest return, in the dataset's order.

    Where returns are equal the earlier episode comes first.

    Args:
        returns: [E].
        share: of the episodes, in (0, 1]: this many are kept to the nearest, and at least one.

    Returns:
        [K] int64, rising.
    """
    count = max(1, round(share * len(returns)))
    best_first = np.argsort(-returns, kind="stable")
    return np.sort(best_first[:count])


def transitions_of(episodes: IntArray, lengths: IntArray) -> IntArray:
    """The places of these episodes' transitions.

    Args:
        episodes: [K], rising.
        lengths: [E], of all episodes.

    Returns:
        int64, rising: the places in arrays that hold episode after episode.
    """
    kept = np.zeros(len(lengths), np.bool_)
    kept[episodes] = True
    return np.flatnonzero(np.repeat(kept, lengths))
