"""The packaged makers: PointMaze collection, evaluation goals, catalog."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys

import minari
import numpy as np
import pytest
from minari_datasets import UMAZE

from iql_jax.envs.mazes import GOAL_RADIUS, MazeMap
from iql_jax.generation import catalog, collecting, point_tasks, pointmaze
from iql_jax.generation.plan import ScoreRun
from iql_jax.utils.errors import UserError

ID = "iql/pointmaze/umaze-v0"

pytestmark = pytest.mark.usefixtures("data_folders")


def _arrays(dataset_id):
    """Every array of every episode, by name."""
    found = {}
    for episode in minari.load_dataset(dataset_id):
        for group in ("observations", "infos"):
            for key, array in getattr(episode, group).items():
                found[f"{episode.id}/{group}/{key}"] = array
        for key in ("actions", "rewards", "terminations", "truncations"):
            found[f"{episode.id}/{key}"] = getattr(episode, key)
    return found


class TestCollect:
    @pytest.fixture
    def episodes(self):
        catalog.make(ID, steps=2500, seed=1, progress=False, score_episodes=2)
        return list(minari.load_dataset(ID))

    def test_lengths(self, episodes):
        assert sum(len(episode) for episode in episodes) == 2500
        for episode in episodes:
            assert len(episode.observations["observation"]) == len(episode) + 1
            assert {len(array) for array in episode.infos.values()} == {len(episode) + 1}

    def test_the_schema_is_minaris(self, episodes):
        episode = episodes[0]
        dtypes = {key: (a.dtype.str, a.shape[1:]) for key, a in episode.observations.items()}
        two, four = ("<f8", (2,)), ("<f8", (4,))
        assert dtypes == {"observation": four, "achieved_goal": two, "desired_goal": two}
        dtypes = {key: (a.dtype.str, a.shape[1:]) for key, a in episode.infos.items()}
        assert dtypes == {"success": ("|b1", ()), "qpos": two, "qvel": two, "goal": two}
        assert episode.actions.dtype == np.float32
        assert episode.rewards.dtype == np.float64
        assert episode.terminations.dtype == episode.truncations.dtype == np.bool_

    def test_each_episode_has_one_goal_and_ends_where_it_is_reached(self, episodes):
        cut = 0
        for episode in episodes:
            goals = episode.observations["desired_goal"]
            assert (goals == goals[0]).all()
            offsets = episode.observations["achieved_goal"] - goals
            at_goal = np.linalg.norm(offsets, axis=-1) <= GOAL_RADIUS
            np.testing.assert_array_equal(episode.rewards, at_goal[1:])
            np.testing.assert_array_equal(episode.infos["success"], at_goal)
            assert not episode.rewards[:-1].any()
            assert not episode.terminations.any()
            assert np.flatnonzero(episode.truncations).tolist() == [len(episode) - 1]
            cut += not episode.rewards[-1]
        assert cut <= 5  # Of five shards of 500 steps only the last episodes.
        assert len(episodes) > 20

    def test_episodes_of_a_shard_follow_on_one_another(self, episodes):
        followed = 0
        for before, after in itertools.pairwise(episodes):
            if before.rewards[-1]:
                last, first = before.observations, after.observations
                followed += (last["observation"][-1] == first["observation"][0]).all()
                assert (last["desired_goal"][-1] != first["desired_goal"][0]).any()
        reached = sum(bool(episode.rewards[-1]) for episode in episodes)
        assert followed >= reached - 5

    def test_positions_are_free_and_actions_are_noisy(self, episodes):
        maze = MazeMap.from_lists(UMAZE, 1.0)
        for episode in episodes:
            assert maze.is_free(episode.observations["achieved_goal"]).all()
        actions = np.concatenate([episode.actions for episode in episodes])
        assert np.abs(actions).max() == 1.0
        assert 0.2 < (np.abs(actions) == 1.0).mean() < 0.6

    def test_the_recorded_actions_lead_to_the_recorded_states(self, episodes):
        env = point_tasks.build_environment("umaze")
        episode = episodes[3]
        states = episode.observations["observation"]
        env.reset(seed=0)
        for t, action in enumerate(episode.actions):
            env.point_env.set_state(states[t, :2], states[t, 2:])
            observation = env.step(action)[0]
            np.testing.assert_allclose(observation["observation"], states[t + 1], atol=1e-6)

    def test_metadata(self, episodes):
        dataset = minari.load_dataset(ID)
        assert (dataset.total_steps, dataset.total_episodes) == (2500, len(episodes))
        assert dataset.env_spec.max_episode_steps == 1_000_000
        assert dataset.env_spec.kwargs["continuing_task"]
        assert dataset.env_spec.kwargs["reset_target"]
        env = dataset.recover_environment(eval_env=True).unwrapped
        os.unlink(env.tmp_xml_file_path)
        assert [cell.tolist() for cell in env.maze.unique_goal_locations] == [[-1.0, 1.0]]
        assert (env.continuing_task, env.reset_target) == (True, False)
        metadata = dataset.storage.metadata
        assert 0 <= metadata["ref_min_score"] < 100 < metadata["ref_max_score"] < 300
        assert metadata["collection"]["seed"] == 1
        assert json.dumps(metadata["description"]).count("\\n") == 0

    def test_the_planner_beats_the_random_policy_in_every_task(self):
        for task in point_tasks.TASKS:
            run = ScoreRun(task, seed=0, first_episode=0, episodes=3, planned=True)
            best = pointmaze.score_run(run).values.mean()
            worst = pointmaze.score_run(dataclasses.replace(run, planned=False)).values.mean()
            assert worst < best / 2

    def test_the_randomness_of_a_score_is_its_episodes_own(self):
        run = ScoreRun("umaze", seed=0, first_episode=0, episodes=3, planned=False)
        last = dataclasses.replace(run, first_episode=2, episodes=1)
        assert pointmaze.score_run(run).values[2] == pointmaze.score_run(last).values[0]

    def test_content_depends_on_the_seed_and_not_on_the_processes(self):
        made = {}
        for name, seed, processes in [("a", 0, 1), ("b", 0, 2), ("c", 7, 1)]:
            made[name] = f"test/{name}-v0"
            collecting.collect(
                pointmaze.plan(made[name], task="umaze", steps=1500, seed=seed),
                progress=False,
                workers=processes,
                score_episodes=1,
            )
        one, two, other = (_arrays(dataset_id) for dataset_id in made.values())
        assert one.keys() == two.keys()
        for key, array in one.items():
            np.testing.assert_array_equal(array, two[key], err_msg=key)
        shared = [key for key in one if key in other and key.endswith("/actions")]
        assert all(not np.array_equal(one[key], other[key]) for key in shared)

    @pytest.mark.parametrize(
        ("steps", "score_episodes", "expected"),
        [(19_000, 1, 1), (19_000, 2, 3), (20_000, 0, 3), (600, 100, 3)],
    )
    def test_processes_are_worth_it_for_the_reference_scores_too(
        self, monkeypatch, steps, score_episodes, expected
    ):
        """Of 20,000 steps they are; an episode has 300, and there are two policies."""
        seen = []
        monkeypatch.setattr(collecting, "available_cores", lambda: 3)
        monkeypatch.setattr(collecting, "_make", lambda *arguments: seen.append(arguments[4]))
        plan = pointmaze.plan(ID, task="umaze", steps=steps, seed=0)
        collecting.collect(plan, progress=False, score_episodes=score_episodes)
        assert seen == [expected]

    def test_shards_cover_the_steps(self):
        for steps in (1, 499, 500, 1999, 123_456, 1_000_000):
            shards = pointmaze.plan_shards("umaze", steps, seed=0)
            assert sum(shard.steps for shard in shards) == steps
            assert min(shard.steps for shard in shards) >= min(steps, 500)
            assert len(shards) <= 100
            assert [shard.index for shard in shards] == list(range(len(shards)))

    def test_a_new_goal_after_the_last_step_makes_no_empty_episode(self):
        shard = pointmaze.Shard("umaze", seed=1, index=0, steps=500)
        first = int(pointmaze.collect_shard(shard).lengths[0])
        recording = pointmaze.collect_shard(dataclasses.replace(shard, steps=first))
        assert recording.rewards[-1] == 1.0
        assert recording.lengths.tolist() == [first]
        assert recording.goals.shape == (1, 2)


class TestEvaluationGoals:
    @pytest.mark.parametrize("task", point_tasks.TASKS)
    def test_the_goal_cell_is_free_and_alone(self, task):
        maps = [
            MazeMap.from_lists(spec.kwargs["maze_map"], 1.0)
            for spec in (point_tasks.collecting_spec(task), point_tasks.evaluation_spec(task))
        ]
        assert maps[0].is_free_cell(*point_tasks.TASKS[task].goal_cell)
        assert maps[0].marked("g").size == 0  # The registered map is left as it was.
        assert maps[1].marked("g").tolist() == [list(point_tasks.TASKS[task].goal_cell)]
        np.testing.assert_array_equal(maps[0].walls, maps[1].walls)


class TestCatalog:
    def test_twins(self):
        assert catalog.twin_of("D4RL/pointmaze/umaze-v2") == ID
        assert catalog.twin_of("D4RL/pointmaze/large-v2") == "iql/pointmaze/large-v0"
        assert catalog.twin_of("D4RL/door/human-v2") is None
        assert catalog.twin_of(ID) is None

    def test_make_keeps_what_exists_unless_forced(self, data_folders):
        path = catalog.make(ID, steps=300, progress=False, score_episodes=1)
        assert path == data_folders / ID
        catalog.make(ID, steps=400, progress=False, score_episodes=1)
        assert minari.load_dataset(ID).total_steps == 300
        catalog.make(ID, steps=400, progress=False, score_episodes=1, force=True)
        assert minari.load_dataset(ID).total_steps == 400
        assert list(minari.list_local_datasets()) == [ID]
        assert [p.name for p in data_folders.iterdir()] == ["iql"]

    def test_minari_opens_the_discrete_umaze(self):
        catalog.make("iql/discrete-umaze-v0", progress=False)
        dataset = minari.load_dataset("iql/discrete-umaze-v0")
        assert dataset.total_episodes == 100
        assert dataset.storage.metadata["author"] == {"iql_jax"}
        listed = minari.list_local_datasets(compatible_minari_version=True)
        assert list(listed) == ["iql/discrete-umaze-v0"]

    def test_an_unknown_id_names_near_ones(self):
        with pytest.raises(UserError, match="iql/pointmaze/large-v0"):
            catalog.make("iql/pointmaze/larg-v0")

    @pytest.mark.parametrize(("steps", "seed"), [(0, 0), (-5, 0), (5, -1)])
    def test_numbers_out_of_range(self, steps, seed):
        with pytest.raises(UserError, match="steps must be at least 1"):
            catalog.make(ID, steps=steps, seed=seed)

    def test_reference_scores_need_an_episode(self):
        with pytest.raises(UserError, match="score_episodes must be at least 1, not 0"):
            catalog.make(ID, score_episodes=0)

    def test_it_imports_neither_jax_nor_gymnasium(self):
        code = (
            "import sys, iql_jax.generation.catalog as c; assert c.EMBEDDED;"
            "heavy = {'jax', 'gymnasium', 'minari', 'mujoco'} & sys.modules.keys();"
            "assert not heavy, heavy"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_the_makers_do_not_import_jax(self):
        code = (
            "import sys, iql_jax.generation.pointmaze as p;"
            "p.collect_shard(p.Shard('umaze', 0, 0, 9));"
            "assert 'jax' not in sys.modules and 'flax' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
