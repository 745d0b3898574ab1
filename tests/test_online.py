"""The online phase step by step, on environments of which every number is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_environments import ACTION_DIM, OBSERVATION_DIM, Diary, Faulty, dataset_of

from iql_jax import compilation, interaction, online, replay_buffer
from iql_jax.config import FinetuneConfig
from iql_jax.data.rewards import RewardTransform
from iql_jax.errors import UserError
from iql_jax.evaluation import episode_seed
from iql_jax.interaction import Counters
from iql_jax.interrupts import StopRequest
from iql_jax.learner import create_state, update
from iql_jax.online import Online, act, learn, no_sums
from iql_jax.streams import Stream, stream_seed
from iql_jax.transition_log import TransitionLog
from iql_jax.types import Transitions

FIRST_STEP = 500  # Of the phase in the run.
RATES = {"actor_lr": 0.01, "value_lr": 0.01, "critic_lr": 0.01}  # Every update shows.
# Few different shapes in this file, for each of them is compiled anew.
CAPACITY = 20
SMALL = {"hidden_dims": (8,), "batch_size": 8, "replay_buffer_size": CAPACITY, **RATES}


@pytest.fixture(autouse=True)
def one_process_and_few_programs(monkeypatch):
    monkeypatch.setattr(interaction, "available_cores", lambda: 1)
    # Without options, the programs of the tests that call ``learn`` themselves are the phase's.
    monkeypatch.setattr(compilation, "COMPILER_OPTIONS", {})


@pytest.fixture
def begin(monkeypatch, tmp_path):
    """Begin the phase of a run with some settings; gives the phase and the first state."""
    opened = []

    def begin(make=lambda recipe: Diary(), saved=None, folder=tmp_path, dataset=None, **settings):
        config = FinetuneConfig(
            **{"dataset": "test/diary-v0", "max_steps": 400, **SMALL, **settings}
        )
        dataset = dataset_of(monkeypatch, make, **(dataset or {}))
        begun = Online(config, dataset, folder, FIRST_STEP)
        opened.append(begun)
        begun.restore(saved or {})
        state = fresh_state(config.seed)
        begun.phase().begin(state)
        return begun, state

    yield begin
    for begun in opened:
        begun.interaction.close()


def fresh_state(seed=42):
    return create_state(
        jax.random.key(seed),
        OBSERVATION_DIM,
        ACTION_DIM,
        hidden_dims=SMALL["hidden_dims"],
        actor_decay_steps=None,
        **RATES,
    )


def in_multiples_of(steps):
    """Intervals that go with a number of environments."""
    intervals = ("log_interval", "eval_interval", "checkpoint_interval")
    return {"max_steps": 40 * steps, **dict.fromkeys(intervals, steps)}


def advance(begun, state, steps, stop=None):
    return begun.phase().advance(state, steps, stop or StopRequest())


def kept(tree):
    """A copy on the host: what is given to a program that donates it is gone."""
    return jax.tree.map(
        lambda x: np.array(
            jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        ),
        tree,
    )


def assert_same_bits(first, second):
    jax.tree.map(np.testing.assert_array_equal, kept(first), kept(second))


def stored(begun):
    """The environment's transitions in the buffer, where none was overwritten."""
    buffer = begun._begun.buffer
    first, count = int(buffer.num_dataset), int(buffer.added)
    assert first + count <= buffer.capacity
    return jax.tree.map(lambda x: np.asarray(x)[first : first + count], buffer.transitions)


# The order of things.


@pytest.mark.parametrize("train_freq", [1, 3])
def test_the_policy_acts_one_stretch_of_learning_late(begin, train_freq):
    begun, state = begin(train_freq=train_freq)
    advance(begun, state, 15)
    made = stored(begun)
    assert made.size == 15

    # The same once more, one program after the other, with each state kept.
    state = fresh_state()
    key = jax.random.key(stream_seed(42, Stream.ACTIONS))
    buffer = replay_buffer.init(begun._dataset.transitions, CAPACITY, keep_dataset=False)
    sums = no_sums(state, buffer, 8, None)
    count = np.int32(train_freq)
    actors = [kept(state.actor)]
    for i in range(0, 15, train_freq):
        new = jax.tree.map(lambda x, i=i: x[i : i + train_freq], made)
        state, buffer, sums = learn(
            state, buffer, new, count, sums, count, batch_size=8, num_offline=None
        )
        actors.append(kept(state.actor))

    def distance(late):
        """Of the actions made from those of the policy that has yet to learn ``late`` times."""
        each = []
        for i in range(15):
            actor = actors[max(0, i // train_freq - late)]
            actions = act(actor, key, np.int32(i), made.observations[i : i + 1])
            each.append(np.abs(made.actions[i] - actions[0]).max())
        return max(each)

    # It has learned from all transitions but those since and those just before.
    assert distance(1) < 1e-4
    assert distance(0) > 1e-2
    assert distance(2) > 1e-2


@pytest.mark.parametrize(
    ("train_freq", "expected"),
    [
        (1, ["step", "act", "learn"] * 4),
        (2, ["step", "act", "step", "act", "learn"] * 2),
        # The fourth step waits for two more.
        (3, ["step", "act", "step", "act", "step", "act", "learn", "step", "act"]),
    ],
)
def test_acting_is_asked_for_before_learning_and_the_environment_steps_meanwhile(
    begin, monkeypatch, train_freq, expected
):
    order = []

    class Recording(Diary):
        def step(self, action):
            order.append("step")
            return super().step(action)

    begun, state = begin(lambda recipe: Recording(), train_freq=train_freq)
    compiled, act_now = begun._begun.learn, online.act
    monkeypatch.setattr(online, "act", lambda *args: order.append("act") or act_now(*args))
    begun._begun.learn = lambda *args: order.append("learn") or compiled(*args)
    advance(begun, state, 4)
    assert order == expected


@pytest.mark.parametrize("train_freq", [1, 3])
@pytest.mark.parametrize("cuts", [(1,) * 20, (4, 6, 10), (19, 1)])
def test_it_does_not_matter_how_the_steps_are_cut_into_stretches(begin, tmp_path, cuts, train_freq):
    settings = {"train_freq": train_freq, "max_steps": 20}
    whole, state = begin(folder=tmp_path / "whole", **settings)
    at_once = advance(whole, state, 20)
    assert at_once.updates == 20  # Also after the last steps, which make no three.
    cut, state = begin(folder=tmp_path / "cut", **settings)
    for steps in cuts:
        state = advance(cut, state, steps).state
    assert_same_bits(state, at_once.state)
    assert_same_bits(cut._begun.buffer, whole._begun.buffer)
    assert cut.rows() == whole.rows()


@pytest.mark.parametrize(
    ("num_envs", "updates_per_step", "start_steps", "train_freq", "expected"),
    [
        (1, 1, 0, 1, 12),
        (1, 3, 0, 1, 36),
        (1, 2, 5, 1, 14),  # After steps 6 to 12.
        (3, 1, 0, 1, 12),  # The ratio of updates to data is kept.
        (3, 2, 5, 1, 18),  # After steps 6, 9 and 12.
        (3, 1, 12, 1, 0),
        (1, 3, 0, 4, 36),
        (1, 2, 5, 4, 14),
        (3, 2, 5, 2, 18),
    ],
)
def test_the_number_of_updates_is_exact(
    begin, num_envs, updates_per_step, start_steps, train_freq, expected
):
    begun, state = begin(
        train_freq=train_freq,
        num_envs=num_envs,
        updates_per_step=updates_per_step,
        start_steps=start_steps,
        **in_multiples_of(6),
    )
    stretches = [advance(begun, state, 6)]
    stretches.append(advance(begun, stretches[0].state, 6))
    assert int(stretches[1].state.step) == expected
    assert sum(stretch.updates for stretch in stretches) == expected
    assert [stretch.steps for stretch in stretches] == [6, 6]
    assert [bool(stretch.metrics) for stretch in stretches] == [
        stretch.updates > 0 for stretch in stretches
    ]
    assert stored(begun).size == begun.interaction.counters.env_steps == 12


def test_metrics_are_means_over_the_updates(begin):
    begun, state = begin(updates_per_step=3)
    stretch = advance(begun, state, 5)
    begun, state = begin(updates_per_step=3)
    sums = {}
    for _ in range(5):
        one = advance(begun, state, 1)
        state = one.state
        for name, mean in one.metrics.items():
            sums[name] = sums.get(name, 0.0) + 3 * float(mean)
    assert {name: float(mean) for name, mean in stretch.metrics.items()} == pytest.approx(
        {name: total / 15 for name, total in sums.items()}, rel=1e-4, abs=1e-5
    )


# One program.

compiled_update = jax.jit(update)


def transitions(first, count):
    rng = np.random.default_rng(first)
    return Transitions(
        observations=rng.normal(size=(count, OBSERVATION_DIM)).astype(np.float32),
        actions=rng.uniform(-1, 1, (count, ACTION_DIM)).astype(np.float32),
        rewards=rng.normal(size=count).astype(np.float32),
        masks=np.ones(count, np.float32),
        next_observations=rng.normal(size=(count, OBSERVATION_DIM)).astype(np.float32),
    )


@pytest.mark.parametrize("num_offline", [None, 4])
@pytest.mark.parametrize("num_updates", [0, 1, 3])
def test_learning_is_adding_then_updating_on_batches_of_the_buffer(num_offline, num_updates):
    settings = {"batch_size": 8, "num_offline": num_offline}
    draw = functools.partial(replay_buffer.sample, **settings)
    data, made = transitions(0, 6), transitions(1, 1)
    buffer = replay_buffer.init(data, CAPACITY, keep_dataset=num_offline is not None)
    buffer = replay_buffer.add(buffer, made, 1)
    state, totals = fresh_state(), {}
    for _ in range(num_updates):
        key, batch_key = jax.random.split(state.key)
        batch, share = draw(buffer, batch_key)
        state, metrics = compiled_update(state.replace(key=key), batch)
        for name, value in {**metrics, "offline_share": share}.items():
            totals[name] = totals.get(name, 0.0) + float(value)

    again = replay_buffer.init(data, CAPACITY, keep_dataset=num_offline is not None)
    first = fresh_state()
    sums = no_sums(first, again, **settings)
    assert {float(zero) for zero in sums.values()} == {0.0}
    learned, filled, sums = learn(
        first, again, made, np.int32(1), sums, np.int32(num_updates), **settings
    )
    assert first.step.is_deleted()
    assert again.transitions.rewards.is_deleted()
    assert_same_bits(filled, buffer)
    assert int(learned.step) == num_updates
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5),
        kept(learned),
        kept(state),
    )
    if num_updates:
        assert {name: float(total) for name, total in sums.items()} == pytest.approx(
            totals, rel=1e-4, abs=1e-5
        )
    if num_offline is not None and num_updates:
        assert float(sums["offline_share"]) == pytest.approx(num_updates / 2)


@pytest.mark.parametrize("settings", [{}, {"offline_ratio": 0.5, "start_steps": 8}])
def test_nothing_is_compiled_after_the_first_steps(begin, settings, caplog):
    begun, state = begin(**settings)
    state = advance(begun, state, 10).state
    with jax.log_compiles():
        for _ in range(3):
            state = advance(begun, state, 10).state
    assert [record.getMessage() for record in caplog.records] == []
    with jax.log_compiles():
        jax.jit(lambda x: x - 7)(np.ones(3))
    assert caplog.records  # It would have been seen.


def test_the_programs_are_compiled_when_the_phase_begins(begin, caplog):
    begun, state = begin()
    with jax.log_compiles():
        advance(begun, state, 3)
    compiled = [record.getMessage() for record in caplog.records]
    assert not [line for line in compiled if "jit(learn)" in line or "jit(act)" in line]


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
    (logged,) = begun._log.read()

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
    assert sum(piece.size for piece in second._log.read()) == 42


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
    assert sum(piece.size for piece in log.read()) == steps
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


# What is logged.


def test_rows_of_episodes_come_once_with_the_runs_steps(begin):
    begun, state = begin()
    advance(begun, state, 30)
    rows = begun.rows()
    assert begun.rows() == []
    lengths = [row["length"] for _, _, row in rows]
    assert [table for table, _, _ in rows] == ["episodes"] * len(rows)
    assert [step for _, step, _ in rows] == (FIRST_STEP + np.cumsum(lengths)).tolist()
    assert list(rows[0][2]) == ["episode", "return", "length", "success", "regret"]


def test_columns_say_what_the_batches_were_before_the_first_environment_step(begin):
    begun, state = begin()
    assert begun.columns(300.0, 300.0) == {
        "offline_share": 1.0,
        "updates_per_second": 300.0,
        "env_steps_per_second": None,
    }
    advance(begun, state, 1)
    assert begun.columns(300.0, 150.0) == {
        "updates_per_second": 300.0,
        "env_steps_per_second": 150.0,
    }


def test_the_regret_of_evaluations_is_over_those_of_the_phase(begin):
    begun, _ = begin()
    row = {"score": 10.0, "success_rate": 0.1}
    assert begun.add_regret(row) == {**row, "regret": None}  # Still before.
    begun.interaction.counters = Counters(env_steps=1)
    for success, regret in ((0.2, 0.8), (0.6, 0.6), (1.0, 0.4)):
        row = {"success_rate": success}
        assert begun.add_regret(row) == {**row, "regret": pytest.approx(regret)}
    assert begun.add_regret({"success_rate": None}) == {"success_rate": None, "regret": None}
    resumed, _ = begin(saved=begun.save())
    resumed.interaction.counters = Counters(env_steps=1)
    assert resumed.add_regret({"success_rate": 0.0})["regret"] == pytest.approx(0.55)
