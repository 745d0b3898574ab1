"""The best episodes of a dataset: what "10 % behavioral cloning" clones."""

import dataclasses
from typing import Any

import numpy as np

from iql_jax.data.episodes import Steps
from iql_jax.data.rewards import episode_returns
from iql_jax.utils.arrays import Float64, Int64


def keep_top(steps: Steps, share: float) -> Steps:
    """Returns the steps of the best episodes alone, with a note and an entry of the record."""
    returns = episode_returns(steps.rewards, steps.lengths)
    best = top_episodes(returns, steps.lengths, share)
    lowest = float(returns[best].min())
    record = {"share": share, "episodes": len(best), "lowest_return": lowest}
    choices: dict[str, Any] = {**steps.choices, "top_episodes": record}
    if len(best) < len(returns):
        chosen = np.repeat(np.isin(np.arange(len(returns)), best), steps.lengths)
        fields = ("observations", "next_observations", "actions", "rewards", "masks", "at_goal")
        arrays = {name: getattr(steps, name) for name in fields}
        kept = {name: array[chosen] for name, array in arrays.items() if array is not None}
        note = (
            f"the best {len(best):,} of {len(returns):,} episodes are kept, with a return of "
            f"{lowest:g} or more"
        )
        notes = (*steps.notes, note)
        steps = dataclasses.replace(steps, lengths=steps.lengths[best], notes=notes, **kept)
    if steps.at_goal is not None:
        choices["transitions_at_goal"] = int(steps.at_goal.sum())
    return dataclasses.replace(steps, choices=choices)


def top_episodes(returns: Float64, lengths: Int64, share: float) -> Int64:
    """Returns the episodes of the highest return, in the dataset's order, at least one.

    Of equal returns the one that a discount would prefer comes first: a gain in fewer steps, a
    loss in more. (In a maze whose episodes end at the goal all that arrive return 1.)
    """
    count = max(1, round(share * len(returns)))
    best_first = np.lexsort((np.sign(returns) * lengths, -returns))  # The last key is the first.
    return np.sort(best_first[:count])
