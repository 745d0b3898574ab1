"""What training environments leave behind, against a plain loop over the same environments."""

import functools
import itertools

import jax
import numpy as np
import pytest
from training_environments import ACTION_DIM, SEEDS, Diary, Faulty, dataset_of

from iql_jax.algorithm import replay_buffer
from iql_jax.data.rewards import RewardTransform
from iql_jax.envs import mazes as maze
from iql_jax.envs import rollout as interaction
from iql_jax.envs.episodes import episode_seed
from iql_jax.envs.make import make_environment
from iql_jax.envs.rollout import Counters, Interaction
from iql_jax.generation.generate import generate
from iql_jax.training.config import Config
from iql_jax.training.run import load_source
from iql_jax.utils.errors import UserError
from iql_jax.utils.streams import Stream, stream_seed

STEPS = 40
SEED = 3
FIELDS = ("observations", "actions", "rewards", "masks", "next_observations")


def diary(recipe, **arguments):
    return Diary(**arguments)


def some_actions(num_envs, steps=STEPS):
    rng = np.random.default_rng(num_envs)
    return rng.uniform(-1, 1, (steps, num_envs, ACTION_DIM)).astype(np.float32)


def plain_loop(actions, terminates=True, seed=SEED, first_episode=0):
    """Transitions, and episodes, as one writes them down who steps environments one by one.

    The reset after an ending gives the next observation to act on, and to nothing else.
    """
    num_envs = actions.shape[1]
    envs = [Diary() for _ in range(num_envs)]
    numbers = itertools.count(first_episode)
    run_seed = stream_seed(seed, Stream.RESETS)
    transitions, episodes, endings = [], [], set()

    def begin(i):
        number = next(numbers)
        observations[i] = envs[i].reset(seed=episode_seed(run_seed, number))[0]
        books[i] = {"episode": number, "return": 0.0, "length": 0, "success": 0.0}

    observations, books = [None] * num_envs, [None] * num_envs
    for i in range(num_envs):
        begin(i)
    for at_once in actions:
        ended = []
        for i, action in enumerate(at_once):
            following, reward, terminated, truncated, info = envs[i].step(action)
            mask = 0.0 if terminated and terminates else 1.0
            transitions.append((observations[i], action, reward, mask, following))
            observations[i] = following
            books[i]["return"] += reward
            books[i]["length"] += 1
            books[i]["success"] = max(books[i]["success"], float(info["success"]))
            if terminated or truncated:
                ended.append(i)
                endings.add((terminated, truncated))
        for i in ended:
            episodes.append(books[i])
            failures = sum(1 - episode["success"] for episode in episodes)
            books[i]["regret"] = failures / len(episodes)
            begin(i)
    return transitions, episodes, endings


def interact(dataset, actions, counters=None):
    """The steps' transitions and the episodes' rows of an ``Interaction``."""
    live = Interaction(dataset, actions.shape[1], SEED)
    if counters is not None:
        live.counters = counters
    try:
        live.begin()
        steps = [live.step(at_once) for at_once in actions]
    finally:
        live.close()
    return [made for made, _ in steps], [row for _, rows in steps for row in rows], live


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("keep_dataset", [False, True])
@pytest.mark.parametrize("terminates", [True, False])
def test_what_is_stored_is_what_a_plain_loop_would_store(
    monkeypatch, num_envs, keep_dataset, terminates
):
    monkeypatch.setattr(interaction, "available_cores", lambda: 1)
    transform = RewardTransform(scale=4.0, shift=-1.0)
    dataset = dataset_of(
        monkeypatch, diary, size=5, terminates=terminates, reward_transform=transform
    )
    actions = some_actions(num_envs)
    capacity = 5 + 17  # Three environments do not end a round of 17 or 22 rows evenly.

    made, _, _ = interact(dataset, actions)
    buffer = replay_buffer.init(dataset.transitions, capacity, keep_dataset=keep_dataset)
    add = jax.jit(replay_buffer.add)
    for step in made:
        buffer = add(buffer, step.replace(rewards=transform(step.rewards)), step.size)

    transitions, _, endings = plain_loop(actions, terminates)
    assert endings == {(True, False), (False, True), (True, True)}
    assert len(transitions) > capacity  # It goes round.
    stored = [tuple(getattr(dataset.transitions, f)[i] for f in FIELDS) for i in range(5)]
    stored += [None] * 17
    place = 5
    for observation, action, reward, mask, following in transitions:
        if place == capacity:
            place = 5 if keep_dataset else 0
        stored[place] = (observation, action, reward * 4.0 - 1.0, mask, following)
        place += 1

    assert int(buffer.size) == capacity
    for column, field in enumerate(FIELDS):
        expected = np.array([row[column] for row in stored], np.float32)
        np.testing.assert_array_equal(getattr(buffer.transitions, field), expected, err_msg=field)
    assert {0.0, 1.0} == set(buffer.transitions.masks.tolist()) or not terminates


def test_a_step_and_what_it_returns():
    """The plain loop itself, by hand: it must not share a mistake with what it checks."""
    transitions, episodes, _ = plain_loop(some_actions(1))
    lengths = [episode["length"] for episode in episodes]
    name = transitions[0][0][0]
    first = transitions[: lengths[0]]
    assert [row[0][1] for row in first] == list(range(lengths[0]))
    assert [row[4][1] for row in first] == list(range(1, lengths[0] + 1))
    assert {row[0][0] for row in first} == {row[4][0] for row in first} == {name}
    assert [row[2] for row in first] == [name / 8 + step + 1 for step in range(lengths[0])]
    assert transitions[lengths[0]][0][1] == 0  # The next episode begins at its reset.
    assert transitions[lengths[0]][0][0] != name


@pytest.mark.parametrize(
    ("num_envs", "cores"),
    [(1, 1), (2, 1), (3, 2)],  # With two, in processes of their own.
)
def test_episodes_are_accounted_for(monkeypatch, num_envs, cores):
    monkeypatch.setattr(interaction, "available_cores", lambda: cores)
    actions = some_actions(num_envs)
    made, rows, live = interact(dataset_of(monkeypatch, diary), actions)
    transitions, episodes, _ = plain_loop(actions)
    assert len(rows) > 5
    assert rows == [pytest.approx(episode) for episode in episodes]
    for column, field in enumerate(FIELDS):
        expected = np.array([row[column] for row in transitions], np.float32)
        actual = np.concatenate([getattr(step, field) for step in made])
        np.testing.assert_array_equal(actual, expected, err_msg=field)
        assert actual.dtype == np.float32
    assert live.counters == Counters(
        env_steps=STEPS * num_envs,
        episodes_started=len(episodes) + num_envs,
        episodes_ended=len(episodes),
        successes=sum(episode["success"] == 1 for episode in episodes),
    )
    assert 0 < live.counters.successes < len(episodes)
    assert all(type(value) is int for value in vars(live.counters).values())


def test_an_episode_begins_alike_whatever_came_before_it(monkeypatch):
    monkeypatch.setattr(interaction, "available_cores", lambda: 1)
    dataset = dataset_of(monkeypatch, diary)
    run_seed = stream_seed(SEED, Stream.RESETS)
    expected = [episode_seed(run_seed, episode) for episode in range(130)]
    assert len(set(expected)) == 130
    for num_envs in (1, 3):
        SEEDS.clear()
        interact(dataset, some_actions(num_envs))
        assert len(SEEDS) > 8
        assert expected[: len(SEEDS)] == SEEDS
    # A resumed run begins with the episode after the last that was begun before.
    SEEDS.clear()
    _, rows, _ = interact(dataset, some_actions(3), Counters(100, 30, 27, 9))
    assert expected[30 : 30 + len(SEEDS)] == SEEDS
    assert min(row["episode"] for row in rows) == 30
    assert rows[0]["regret"] == 1 - (9 + rows[0]["success"]) / 28


def test_begun_again_the_open_episodes_are_dropped(monkeypatch):
    dataset = dataset_of(monkeypatch, diary)
    live = Interaction(dataset, 1, SEED)
    live.begin()
    live.begin()
    assert live.counters.episodes_started == 2
    rows = [row for action in some_actions(1) for row in live.step(action)[1]]
    assert [row["episode"] for row in rows[:2]] == [1, 2]
    assert plain_loop(some_actions(1), first_episode=1)[1][0]["length"] == rows[0]["length"]
    live.close()


def test_without_reported_success_there_is_none_and_no_regret(monkeypatch):
    dataset = dataset_of(monkeypatch, functools.partial(diary, reports_success=False))
    _, rows, live = interact(dataset, some_actions(1))
    assert {row["success"] for row in rows} == {row["regret"] for row in rows} == {None}
    assert live.counters.successes == 0


# A real maze.


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        patch.setenv("IQL_JAX_CACHE", str(root / "cache"))
        generate("iql/pointmaze/umaze-v0", steps=600, progress=False)
        yield


@pytest.mark.parametrize("terminates", [True, False])
def test_in_a_maze_the_config_says_whether_success_ends_the_bootstrap(
    datasets, monkeypatch, terminates
):
    monkeypatch.setattr(maze, "GOAL_RADIUS", 100.0)  # The goal is wherever the point is.
    dataset = load_source(
        Config(
            dataset="iql/pointmaze/umaze-v0",
            maze_terminate_at_success=terminates,
            progress=False,
        )
    )
    made, rows, _ = interact(dataset, some_actions(1, steps=4))
    assert [row["length"] for row in rows] == [1, 1, 1, 1]
    assert [row["success"] for row in rows] == [1, 1, 1, 1]
    assert [float(step.masks[0]) for step in made] == [0.0 if terminates else 1.0] * 4
    # The very observations of the environment: those that the steps led to.
    env = make_environment(dataset.environment)
    for number, step in enumerate(made):
        first = env.reset(seed=episode_seed(stream_seed(SEED, Stream.RESETS), number))[0]
        np.testing.assert_array_equal(step.observations[0], first)
        following = env.step(step.actions[0])[0]
        np.testing.assert_array_equal(step.next_observations[0], following)
    env.close()


# Failures.


def run_to_failure(dataset):
    """The transitions before the failure, what was raised, and the counters then."""
    live = Interaction(dataset, 1, SEED)
    made = []
    try:
        live.begin()
        for action in some_actions(1):
            made.append(live.step(action)[0])
    except UserError as error:
        return made, str(error), live.counters
    finally:
        live.close(force=True)
    return pytest.fail("nothing was raised")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("step", "failed in training episode 1 at step 3: RuntimeError: the hinge broke"),
        ("observation", "observation in training episode 1 at step 3 is not finite"),
        ("reward", "reward in training episode 1 at step 3 is not finite"),
    ],
)
def test_a_step_that_fails_does_not_count(monkeypatch, fault, said):
    dataset = dataset_of(monkeypatch, lambda recipe: Faulty(fault, first_bad_episode=1))
    made, message, counters = run_to_failure(dataset)
    assert said in message
    assert "\n" not in message
    assert len(made) == counters.env_steps == 6  # An episode of four, and two steps.
    assert (counters.episodes_started, counters.episodes_ended) == (2, 1)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("reset", "failed in training episode 2 at its reset: OSError: no such maze"),
        ("first observation", "first observation is not finite"),
    ],
)
def test_the_step_before_a_reset_that_fails_counts(monkeypatch, fault, said):
    dataset = dataset_of(monkeypatch, lambda recipe: Faulty(fault, first_bad_episode=2))
    made, message, counters = run_to_failure(dataset)
    assert said in message
    assert "\n" not in message
    assert len(made) == counters.env_steps == 8  # Two episodes of four, to their ends.
    assert counters.episodes_ended == 2


def test_the_first_reset_that_fails_is_said_at_once(monkeypatch):
    dataset = dataset_of(monkeypatch, lambda recipe: Faulty("reset"))
    live = Interaction(dataset, 1, SEED)
    with pytest.raises(UserError, match="training episode 0 at its reset"):
        live.begin()
    live.close()


def test_a_dataset_without_an_environment_is_refused(monkeypatch):
    with pytest.raises(UserError, match=r"test/diary-v0 names no environment to fine-tune in"):
        Interaction(dataset_of(monkeypatch, diary, recipe=None), 1, SEED)


def test_environments_are_closed(monkeypatch):
    monkeypatch.setattr(interaction, "available_cores", lambda: 1)
    closed = []

    class Counting(Diary):
        def close(self):
            closed.append(1)

    live = Interaction(dataset_of(monkeypatch, lambda recipe: Counting()), 2, SEED)
    live.close()
    live.close()
    assert closed == [1]  # The second is built when it gets its first episode.
