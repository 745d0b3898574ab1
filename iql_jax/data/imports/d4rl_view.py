"""Which rows of a D4RL file are transitions, exactly as D4RL's ``qlearning_dataset`` has it.

That function (github.com/Farama-Foundation/D4RL, ``d4rl/__init__.py``), which IQL's official code
trains on, decides so:

- The next observation is the following row's, after a terminal too (where the mask makes it
  irrelevant). The file's last row is therefore never a transition.
- A row at a time limit is left out, whether it is a terminal as well or not: the following row
  belongs to another episode.
- Files with ``timeouts`` mark time limits. Without, they are counted: the step is 0 at the file's
  first row and after a time limit, and a row whose step is the limit minus 1 is one. After a
  terminal, though, the count goes on at 1, so that an episode that follows a terminal is cut one
  row early and its last row leads into the next episode. This is D4RL's, and is kept.
- The option ``terminate_on_end`` is off, as in IQL.

D4RL never looks at ``next_observations``. Here they are used where a file has them: the same rows
are transitions, a terminal leads to the observation it really led to, and ``keep_timeouts`` brings
back the rows at time limits.
"""

import numpy as np

from iql_jax.data.episodes import BoolArray


def kept_rows(
    terminals: BoolArray, timeouts: BoolArray | None, time_limit: int | None
) -> BoolArray:
    """Find the rows that are transitions to D4RL.

    Args:
        terminals: [N] bool.
        timeouts: [N] bool, or None where the file has none.
        time_limit: the environment's steps an episode; used where ``timeouts`` is None.

    Returns:
        [N] bool.
    """
    if timeouts is None:
        assert time_limit is not None
        timeouts = counted_timeouts(terminals, time_limit)
    kept = ~timeouts
    kept[-1] = False
    return kept


def counted_timeouts(terminals: BoolArray, time_limit: int) -> BoolArray:
    """Count steps as D4RL does where a file has no ``timeouts``; see the module's docstring.

    Args:
        terminals: [N] bool.
        time_limit: steps an episode.

    Returns:
        [N] bool, where D4RL sees a time limit.
    """
    timeouts = np.zeros(len(terminals), dtype=np.bool_)
    step = 0
    for row, terminal in enumerate(terminals.tolist()):
        if step == time_limit - 1:
            timeouts[row] = True
            step = 0
        else:
            step = 1 if terminal else step + 1
    return timeouts
