"""Streams of randomness: apart from one another, from other seeds' and from evaluations'."""

import numpy as np

from iql_jax.utils.streams import Stream, stream_seed


def test_no_two_streams_are_one():
    seeds = range(50)
    streams = [stream_seed(seed, stream) for seed in seeds for stream in Stream]
    # Seeded with (seed, step), as evaluations are.
    evaluations = [
        int(np.random.SeedSequence((seed, step)).generate_state(1)[0])
        for seed in seeds
        for step in range(10)
    ]
    assert len({*streams, *evaluations}) == len(streams) + len(evaluations)
