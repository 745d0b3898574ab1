"""Streams of randomness: apart from one another, from other seeds' and from evaluations'."""

from iql_jax.training.config import Config
from iql_jax.training.evaluation import evaluation_seed
from iql_jax.utils.streams import Stream, stream_seed


def test_no_two_streams_are_one():
    streams = [stream_seed(seed, stream) for seed in range(50) for stream in Stream]
    evaluations = [
        evaluation_seed(Config(dataset="a/b-v0", seed=seed), step)
        for seed in range(50)
        for step in range(10)
    ]
    assert len({*streams, *evaluations}) == len(streams) + len(evaluations)


def test_a_stream_is_a_function_of_the_seed_alone():
    assert stream_seed(7, Stream.RESETS) == stream_seed(7, Stream.RESETS)
    assert 0 <= stream_seed(2**32 - 1, Stream.SUBSET) < 2**32
