"""Streams of randomness for everything around the learner, all from a run's one seed."""

import enum

import numpy as np


class Stream(enum.IntEnum):
    """The uses of randomness that have streams of their own."""

    RESETS = 1  # Of the training environments.
    ACTIONS = 2  # Of the policy in them.
    SUBSET = 3  # Of the dataset, where not all of it is used.


def stream_seed(seed: int, stream: Stream) -> int:
    """Returns a number in [0, 2**32) for a run's seed and a stream.

    Evaluations are seeded with (seed, step); a spawn key is apart from every one of those.
    """
    return int(np.random.SeedSequence(seed, spawn_key=(stream,)).generate_state(1)[0])
