"""The online phase step by step, on environments of which every number is known."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_environments import ACTION_DIM, OBSERVATION_DIM, Diary, Faulty, dataset_of

from iql_jax.algorithm import AgentConfig, Transitions, create_state, replay_buffer, update
from iql_jax.data.rewards import RewardTransform
from iql_jax.envs.episodes import derived_seed
from iql_jax.training import compilation, online
from iql_jax.training.config import FinetuneConfig
from iql_jax.training.online import Online, act, learn, no_sums
from iql_jax.utils.errors import Diverged, UserError
from iql_jax.utils.streams import Stream, stream_seed

# Every update shows in the numbers. Few different shapes, for each of them is compiled anew.
RATES = {"actor_lr": 0.01, "value_lr": 0.01, "critic_lr": 0.01}
CAPACITY = 20
SMALL = {"hidden_dims": (8,), "batch_size": 8, "replay_buffer_size": CAPACITY, **RATES}


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Start the phase of a run with some settings; returns it and the first state."""
    opened = []
    # Without options, the programs of the tests that call `learn` themselves are the phase's.
    monkeypatch.setattr(compilation, "COMPILER_OPTIONS", {})

    def start(make=lambda description: Diary(), saved=None, folder=tmp_path, data=None, **settings):
        settings = {"dataset": "test/diary-v0", "max_steps": 400, **SMALL, **settings}
        config = FinetuneConfig(**settings)
        phase = Online(config, dataset_of(monkeypatch, make, **(data or {})), folder)
        opened.append(phase)
        phase.restore(saved)
        phase.start(fresh_state())
        return phase, fresh_state()

    yield start
    for phase in opened:
        phase.__exit__(None, None, None)


@functools.cache
def _config():
    return AgentConfig(hidden_dims=(8,), opt_decay_schedule="none", **RATES)


def fresh_state(seed=42):
    return create_state(jax.random.key(seed), OBSERVATION_DIM, ACTION_DIM, _config())


def intervals_of(steps):
    """Intervals that go with a number of environments."""
    intervals = ("log_interval", "eval_interval", "checkpoint_interval")
    return {"max_steps": 40 * steps, **dict.fromkeys(intervals, steps)}


def advance(phase, state, steps):
    """Step the environments, learn, and return the state, the metrics, updates and episodes."""
    episodes, made = [], 0
    while made < steps:
        episodes += phase.step()
        made += phase._config.num_envs
        state = phase.learn(state)
    return state, *phase.take_metrics(), episodes


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


def stored(phase):
    """The environment's transitions in the buffer, where none was overwritten."""
    buffer = phase._buffer
    first, count = int(buffer.num_dataset), int(buffer.added)
    return jax.tree.map(lambda x: np.asarray(x)[first : first + count], buffer.transitions)


def test_the_policy_acts_one_step_late(start):
    phase, state = start()
    advance(phase, state, 15)
    made = stored(phase)
    assert made.size == 15

    # The same once more, one program after the other, with each state kept.
    state = fresh_state()
    key = jax.random.key(stream_seed(42, Stream.ACTIONS))
    data = Transitions(**phase._dataset.transitions)
    buffer = replay_buffer.init(data, CAPACITY, keep_dataset=False)
    sums = no_sums(state, buffer, 8, None)
    actors = [kept(state.actor)]
    for i in range(15):
        new = jax.tree.map(lambda x, i=i: x[i : i + 1], made)
        state, buffer, sums = learn(
            state, buffer, new, sums, np.int32(1), batch_size=8, num_offline=None
        )
        actors.append(kept(state.actor))

    def distance(late):
        """How far the actions are from those of the policy that learned ``late`` steps less."""
        each = []
        for i in range(15):
            actor = actors[max(0, i - late)]
            actions = act(actor, key, np.int32(i), made.observations[i : i + 1])
            each.append(np.abs(made.actions[i] - actions[0]).max())
        return max(each)

    # It has learned from all transitions but the last.
    assert distance(1) < 1e-4
    assert distance(0) > 1e-2
    assert distance(2) > 1e-2


def test_acting_is_asked_for_before_learning(start, monkeypatch):
    order = []

    class Recording(Diary):
        def step(self, action):
            order.append("step")
            return super().step(action)

    phase, state = start(lambda description: Recording())
    compiled, act_now = phase._learn, online.act
    monkeypatch.setattr(online, "act", lambda *args: order.append("act") or act_now(*args))
    phase._learn = lambda *args: order.append("learn") or compiled(*args)
    advance(phase, state, 4)
    assert order == ["step", "act", "learn"] * 4


@pytest.mark.parametrize(
    ("num_envs", "updates_per_step", "start_steps", "expected"),
    [(3, 1, 12, 0), (1, 2, 5, 14), (3, 2, 5, 18)],
)
def test_the_number_of_updates_is_exact(start, num_envs, updates_per_step, start_steps, expected):
    phase, state = start(
        num_envs=num_envs,
        updates_per_step=updates_per_step,
        start_steps=start_steps,
        **intervals_of(6),
    )
    state, _, first, _ = advance(phase, state, 6)
    state, metrics, second, _ = advance(phase, state, 6)
    assert int(state.step) == first + second == expected
    assert bool(metrics) == (second > 0)
    assert stored(phase).size == phase.totals()["env_steps"] == 12


@pytest.mark.parametrize("offline_ratio", [-1.0, 0.5])
def test_the_buffer_holds_what_a_plain_loop_would_store(start, offline_ratio):
    """The policy's actions, replayed in another environment, past the buffer's capacity."""
    transform = RewardTransform(scale=2.0, shift=-3.0)
    phase, state = start(offline_ratio=offline_ratio, data={"reward_transform": transform})
    advance(phase, state, 40)
    phase.save()
    (logged,) = phase._log.read()

    fields = list(Transitions.__dataclass_fields__)[:5]
    data = phase._dataset.transitions
    rows = [[data[name][i] for name in fields] for i in range(5)] + [None] * (CAPACITY - 5)
    env, episode, place = Diary(), 0, 5
    run_seed = stream_seed(42, Stream.RESETS)
    observation = env.reset(seed=derived_seed(run_seed, episode))[0]
    for i in range(40):
        np.testing.assert_array_equal(logged["observations"][i], observation)
        action = logged["actions"][i]
        following, reward, terminated, truncated, _ = env.step(action)
        assert logged["rewards"][i] == np.float32(reward)  # The environment's own.
        if place == CAPACITY:
            place = 5 if offline_ratio >= 0 else 0
        mask = 0.0 if terminated else 1.0
        rows[place] = [observation, action, 2.0 * reward - 3.0, mask, following]
        place += 1
        observation = following
        if terminated or truncated:
            episode += 1
            observation = env.reset(seed=derived_seed(run_seed, episode))[0]
    for column, name in enumerate(fields):
        expected = np.array([row[column] for row in rows], np.float32)
        np.testing.assert_array_equal(getattr(phase._buffer.transitions, name), expected, name)
    assert episode > 4


def test_each_batch_has_the_share_that_was_asked_for_or_the_dataset_fades(start, tmp_path):
    phase, state = start(offline_ratio=0.5, folder=tmp_path / "half")
    for _ in range(3):  # Also after the ring has gone round.
        state, metrics, _, _ = advance(phase, state, 10)
        assert float(metrics["offline_share"]) == 0.5
    phase, state = start(updates_per_step=20, folder=tmp_path / "all")
    shares = []
    for _ in range(4):
        state, metrics, _, _ = advance(phase, state, 7)
        shares.append(float(metrics["offline_share"]))
    # After step n it is 5 of 5 + n, up to the capacity; after 20 steps all are overwritten.
    expected = np.mean([5 / (5 + n) for n in range(1, 8)])
    assert shares[0] == pytest.approx(expected, abs=0.08)  # Of 1,120 drawn.
    assert sorted(shares, reverse=True) == shares
    assert shares[3] == 0.0


@pytest.mark.parametrize("num_offline", [None, 4])
def test_learning_is_adding_then_updating_on_batches_of_the_buffer(monkeypatch, num_offline):
    num_updates = 3
    settings = {"batch_size": 8, "num_offline": num_offline}
    data, made = (
        Transitions(**dataset_of(monkeypatch, Diary, size).transitions) for size in (6, 1)
    )
    first, expected = (
        replay_buffer.init(data, CAPACITY, keep_dataset=num_offline is not None) for _ in range(2)
    )
    expected = replay_buffer.add(expected, made)
    state, totals = fresh_state(), {}
    for _ in range(num_updates):
        key, batch_key = jax.random.split(state.key)
        batch, share = replay_buffer.sample(expected, batch_key, **settings)
        state, metrics = jax.jit(update)(state.replace(key=key), batch)
        for name, value in {**metrics, "offline_share": share}.items():
            totals[name] = totals.get(name, 0.0) + float(value)

    donated = fresh_state()
    sums = no_sums(donated, first, **settings)
    assert {float(zero) for zero in sums.values()} == {0.0}
    learned, filled, sums = learn(donated, first, made, sums, np.int32(num_updates), **settings)
    assert donated.step.is_deleted()
    assert_same_bits(filled, expected)
    close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5)
    jax.tree.map(close, kept(learned), kept(state))
    found = {name: float(total) for name, total in sums.items()}
    assert found == pytest.approx(totals, rel=1e-4, abs=1e-5)


def test_nothing_is_compiled_after_the_first_steps(start, caplog):
    phase, state = start(offline_ratio=0.5, start_steps=8)
    state = advance(phase, state, 10)[0]
    caplog.clear()
    with jax.log_compiles():
        state = advance(phase, state, 10)[0]
    assert [record.getMessage() for record in caplog.records] == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"replay_buffer_size": 4}, "the dataset's 5 transitions, and the 1 .* need 5:"),
        ({"replay_buffer_size": 7, "num_envs": 8}, "the 8 .* need 8:"),
    ],
)
def test_a_buffer_too_small_is_refused(start, settings, message):
    with pytest.raises(UserError, match=f"replay_buffer_size.*{message}.*init_dataset_size"):
        start(**settings)


@pytest.mark.parametrize(("num_envs", "offline_ratio"), [(1, 0.5), (3, -1.0)])
def test_a_resumed_phase_goes_on_to_the_bit(start, capsys, num_envs, offline_ratio):
    settings = {"num_envs": num_envs, "offline_ratio": offline_ratio}
    settings |= {"updates_per_step": 2, "start_steps": 5, **intervals_of(6)}
    settings["data"] = {"reward_transform": RewardTransform(scale=2.0, shift=-3.0)}
    first, state = start(**settings)
    for steps in (6, 33):  # Two files, and the buffer has gone round.
        state, *_ = advance(first, state, steps)
        first.save()
    for _ in range(3):  # A chunk that is stopped before its end.
        first.step()
        state = first.learn(state)
    first.take_metrics(whole=False)
    saved = json.loads(json.dumps(first.save()))
    copied = jax.tree.map(jnp.array, state)
    expected = advance(first, state, 12)
    first.save()  # A kill comes before the checkpoint that goes with it.
    assert "repeated" not in capsys.readouterr().err

    second, _ = start(saved=saved, **settings)
    assert "repeated" in capsys.readouterr().err
    resumed = advance(second, copied, 12)
    assert_same_bits(second._buffer, first._buffer)
    assert_same_bits(resumed[:2], expected[:2])
    assert resumed[2:] == expected[2:]
    assert second.save() == first.save()


def test_an_environment_that_is_not_deterministic_starts_new_episodes(start, capsys):
    class Noisy(Diary):
        def _observation(self, action):
            noise = np.random.default_rng().random(OBSERVATION_DIM, np.float32)
            return super()._observation(action) + noise

    first, state = start(lambda description: Noisy())
    advance(first, state, 7)
    second, _ = start(lambda description: Noisy(), saved=first.save())
    assert "dropping 1 unfinished training episode(s): repeated" in capsys.readouterr().err
    advance(second, fresh_state(), 6)
    assert second.save()["transitions"] == 13


@pytest.mark.parametrize(("fault", "steps"), [("step", 6), ("reset", 3)])
def test_a_failure_leaves_all_that_was_made_before_and_is_not_repeated(start, capsys, fault, steps):
    phase, state = start(lambda description: Faulty(fault, first_bad_episode=1))
    state = advance(phase, state, steps)[0]
    with pytest.raises(UserError):
        phase.step()
    assert int(state.step) == phase.totals()["env_steps"] == steps
    phase.drop_episodes()
    saved = phase.save()
    assert saved["transitions"] == steps
    resumed, _ = start(saved=saved)
    said = capsys.readouterr().err
    assert "dropping 1 unfinished training episode(s);" in said
    assert "repeated" not in said
    numbers = [row["episode"] for row in advance(resumed, fresh_state(), 12)[3]]
    assert numbers[0] == saved["counters"]["episodes_started"] > 1


def test_actions_that_are_not_finite_are_a_divergence(start):
    phase, state = start()
    broken = jax.tree.map(lambda x: x * jnp.nan, state.actor.params)
    phase.start(state.replace(actor=state.actor.replace(params=broken)))
    with pytest.raises(Diverged):
        phase.step()
    assert phase.save()["transitions"] == 0
