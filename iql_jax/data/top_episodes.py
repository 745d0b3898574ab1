"""The best episodes of a dataset: what "10 % behavioral cloning" clones."""

import dataclasses
from typing import Any

import numpy as np

from iql_jax.data.rewards import episode_returns
from iql_jax.data.steps import Steps
from iql_jax.utils.arrays import Float64, Int64


def keep_top(steps: Steps, share: float) -> Steps:
    """Returns the steps of the best episodes alone; what is kept goes on record."""
    returns = episode_returns(steps.rewards, steps.lengths)
    best = top_episodes(returns, steps.lengths, share)
    lowest = float(returns[best].min())
    record: dict[str, Any] = {"share": share, "episodes": len(best), "lowest_return": lowest}
    notes = steps.notes
    if len(best) < len(returns):
        chosen = np.repeat(np.isin(np.arange(len(returns)), best), steps.lengths)
        fields = ("observations", "next_observations", "actions", "rewards", "masks", "at_goal")
        arrays = {name: getattr(steps, name) for name in fields}
        kept = {name: array[chosen] for name, array in arrays.items() if array is not None}
        steps = dataclasses.replace(steps, lengths=steps.lengths[best], **kept)
        note = (
            f"the best {len(best):,} of {len(returns):,} episodes are kept, with a return of "
            f"{lowest:g} or more"
        )
        ties = int((returns[best] == lowest).sum())
        if ties < (returns == lowest).sum():
            record["ties"] = ties
            note += f"; {ties:,} of them have the same as some left out, in fewer steps or earlier"
        notes = (*notes, note)
    choices: dict[str, Any] = {**steps.choices, "top_episodes": record}
    if steps.at_goal is not None:
        choices["transitions_at_goal"] = int(steps.at_goal.sum())
    return dataclasses.replace(steps, notes=notes, choices=choices)


def top_episodes(returns: Float64, lengths: Int64, share: float) -> Int64:
    """Returns the episodes of the highest return, in the dataset's order.

    Of equal returns the one that a discount would prefer comes first: a gain in fewer steps, a
    loss in more. In a maze whose episodes end at the goal all that arrive return 1, and so the
    quickest arrivals are kept, as by CORL's "any-percent BC", which compares discounted returns.
    Undiscounted ones go first here because the literature's "10 % BC" compares these.

    Args:
        returns: [E], undiscounted.
        lengths: [E], transitions in each.
        share: of the episodes, in (0, 1]: this many are kept to the nearest, and at least one.

    Returns:
        [K] int64, rising.
    """
    count = max(1, round(share * len(returns)))
    best_first = np.lexsort((np.sign(returns) * lengths, -returns))  # The last key is the first.
    return np.sort(best_first[:count])
