"""What the online phase stores, saves and restores, also where it fails or is stopped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from online_phase import CAPACITY, advance, assert_same_bits, fresh_state, in_multiples_of, kept
from training_environments import Diary, Faulty

from iql_jax.algorithm.types import Transitions
from iql_jax.data.rewards import RewardTransform
from iql_jax.envs.episodes import episode_seed
from iql_jax.outputs.transitions import TransitionLog
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import StopRequest
from iql_jax.utils.streams import Stream, stream_seed

# What goes into the buffer.


@pytest.mark.parametrize("offline_ratio", [-1.0, 0.5])
def test_what_is_stored_is_what_a_plain_loop_would_store(begin, offline_ratio):
    """The policy's actions, replayed in another environment, past the buffer's capacity."""
    begun, state = begin(
        offline_ratio=offline_ratio,
        dataset={"reward_transform": RewardTransform(scale=2.0, shift=-3.0)},
    )
    advance(begun, state, 40)
    begun.save()
    (logged,) = (Transitions(**made) for made in begun._log.read())

    rows = [[field[i] for field in jax.tree.leaves(begun._dataset.transitions)] for i in range(5)]
    rows += [None] * (CAPACITY - 5)
    env, episode, place = Diary(), 0, 5
    run_seed = stream_seed(42, Stream.RESETS)
    observation = env.reset(seed=episode_seed(run_seed, episode))[0]
    for i in range(40):
        np.testing.assert_array_equal(logged.observations[i], observation)
        following, reward, terminated, truncated, _ = env.step(logged.actions[i])
        assert logged.rewards[i] == np.float32(reward)  # The environment's own.
        if place == CAPACITY:
            place = 5 if offline_ratio >= 0 else 0
        rows[place] = [
            observation,
            logged.actions[i],
            2.0 * reward - 3.0,
            0.0 if terminated else 1.0,
            following,
        ]
        place += 1
        observation = following
        if terminated or truncated:
            episode += 1
            observation = env.reset(seed=episode_seed(run_seed, episode))[0]

    stored = begun._begun.buffer.transitions
    for column, (path, field) in enumerate(jax.tree_util.tree_leaves_with_path(stored)):
        name = jax.tree_util.keystr(path)
        expected = np.array([row[column] for row in rows], np.float32)
        np.testing.assert_array_equal(field, expected, err_msg=name)
    assert episode > 4


def test_each_batch_has_the_share_that_was_asked_for(begin):
    begun, state = begin(offline_ratio=0.5)
    for _ in range(3):  # Also after the ring has gone round.
        stretch = advance(begun, state, 10)
        state = stretch.state
        assert float(stretch.metrics["offline_share"]) == 0.5


def test_without_a_share_the_dataset_fades_as_transitions_come(begin):
    begun, state = begin(updates_per_step=20)
    shares = []
    for _ in range(4):
        stretch = advance(begun, state, 7)
        state = stretch.state
        shares.append(float(stretch.metrics["offline_share"]))
    # After step n it is 5 of 5 + n, up to the capacity; after 20 steps all are overwritten.
    expected = np.mean([5 / (5 + n) for n in range(1, 8)])
    assert shares[0] == pytest.approx(expected, abs=0.08)  # Of 1,120 drawn.
    assert sorted(shares, reverse=True) == shares
    assert shares[3] == 0.0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"replay_buffer_size": 4}, "the dataset's 5 transitions, and the 1 .* need 5:"),
        ({"replay_buffer_size": 5, "offline_ratio": 0.5}, "need 6:"),
        ({"replay_buffer_size": 8, "offline_ratio": 0.5, "num_envs": 4}, "need 9:"),
        ({"replay_buffer_size": 8, "offline_ratio": 0.5, "num_envs": 2, "train_freq": 2}, "9:"),
        ({"replay_buffer_size": 11, "num_envs": 4, "train_freq": 3}, "the 12 .* need 12:"),
    ],
)
def test_a_buffer_too_small_is_one_clear_line(begin, settings, said):
    with pytest.raises(UserError, match=said) as caught:
        begin(**settings)
    assert "replay_buffer_size" in str(caught.value)
    assert "init_dataset_size" in str(caught.value)


# Saving and going on.


@pytest.mark.parametrize(("offline_ratio", "num_envs"), [(-1.0, 1), (-1.0, 3), (0.5, 1)])
def test_a_resumed_phase_has_the_same_buffer_and_counters(begin, capsys, offline_ratio, num_envs):
    settings = {
        "offline_ratio": offline_ratio,
        "num_envs": num_envs,
        "dataset": {"reward_transform": RewardTransform(scale=2.0, shift=-3.0)},
        **in_multiples_of(6),
    }
    first, state = begin(**settings)
    for steps in (6, 30):  # Two files.
        state = advance(first, state, steps).state
        saved = first.save()
    before = kept(first._begun.buffer)
    rows = first.rows()
    episodes = first.interaction.counters.episodes_started
    assert "dropping" not in capsys.readouterr().err

    second, _ = begin(saved=saved, **settings)
    assert_same_bits(second._begun.buffer, before)
    assert "dropping" in capsys.readouterr().err
    counters = second.interaction.counters
    assert counters.env_steps == 36
    assert counters.episodes_ended == len(rows)
    assert counters.episodes_started == episodes + num_envs
    assert second.rows() == []
    # It goes on with new episodes, and their transitions come after the others.
    advance(second, fresh_state(), 6)
    assert second.save()["transitions"] == 42
    assert sum(len(piece["rewards"]) for piece in second._log.read()) == 42


def test_updates_that_are_due_at_a_checkpoint_are_made_after_it(begin):
    first, state = begin(train_freq=4)
    stretch = advance(first, state, 6)
    assert stretch.updates == 4
    saved = first.save()
    assert saved["transitions"] == 6
    second, _ = begin(train_freq=4, saved=saved)
    assert int(second._begun.buffer.added) == 6
    stretch = advance(second, fresh_state(), 4)
    assert stretch.updates == 2 + 4
    assert int(second._begun.buffer.added) == 10


def test_what_was_made_after_the_checkpoint_is_made_anew(begin):
    first, state = begin()
    state = advance(first, state, 10).state
    saved = first.save()
    before = kept(first._begun.buffer)
    advance(first, state, 10)
    first.save()  # A kill comes before the checkpoint that goes with it.
    second, _ = begin(saved=saved)
    assert_same_bits(second._begun.buffer, before)
    assert second.interaction.counters.env_steps == 10


# Failures and stops.


@pytest.mark.parametrize(
    ("fault", "steps"), [("step", 6), ("observation", 6), ("reward", 6), ("reset", 4)]
)
def test_a_failure_ends_the_stretch_with_all_that_was_made(begin, tmp_path, fault, steps):
    begun, state = begin(lambda recipe: Faulty(fault, first_bad_episode=1))
    stretch = advance(begun, state, 20)
    assert isinstance(stretch.failure, UserError)
    assert stretch.steps == stretch.updates == int(stretch.state.step) == steps
    assert begun.interaction.counters.env_steps == steps
    assert begun.save()["transitions"] == steps
    log = TransitionLog(tmp_path / "transitions")
    log.restore(steps)
    assert sum(len(piece["rewards"]) for piece in log.read()) == steps
    assert len(begun.rows()) == 1


def test_a_stop_request_ends_the_stretch_and_is_no_failure(begin):
    stop = StopRequest()

    class Stopping(Diary):
        made = 0

        def step(self, action):
            Stopping.made += 1
            if Stopping.made == 7:
                stop.signum = 15
            if Stopping.made == 8:
                raise RuntimeError("ended by the same signal")
            return super().step(action)

    begun, state = begin(lambda recipe: Stopping())
    stretch = advance(begun, state, 20, stop)
    assert (stretch.steps, stretch.failure) == (7, None)
    assert int(stretch.state.step) == 7
    begun._begun.actions.block_until_ready()
    stop = StopRequest()
    stretch = advance(begun, stretch.state, 20, stop)
    assert stretch.failure is not None
    stop.signum = 15  # The signal reached the environments first.
    assert advance(begun, stretch.state, 20, stop).failure is None


def test_actions_that_are_not_finite_are_reported_as_divergence(begin):
    begun, state = begin()
    broken = state.actor.replace(params=jax.tree.map(lambda x: x * jnp.nan, state.actor.params))
    begun.phase().begin(state.replace(actor=broken))
    stretch = advance(begun, state, 20)
    assert stretch.steps == 0
    assert stretch.failure is None  # Nothing of it may be saved as a good state.
    assert np.isnan(float(stretch.metrics["actions"]))
