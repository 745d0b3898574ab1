"""The packaged AntMaze datasets: how they are collected, and what is stored of them."""

import dataclasses
import itertools
import os
import subprocess
import sys

import minari
import numpy as np
import pytest
from iql_jax.data.checks import check_dataset

from iql_jax.envs.make import make_environment
from iql_jax.envs.mazes import GOAL_RADIUS
from iql_jax.generation import ant_tasks, antmaze, catalog, workers
from iql_jax.generation.ant_controller import heading_phases, rotation_matrices
from iql_jax.generation.ant_tasks import TASKS, Ants
from iql_jax.training.config import Config
from iql_jax.training.run import load_source

ID = "iql/antmaze/umaze-v0"
STEPS = 2_600  # 2,000 of one ant, 600 of another.


@pytest.fixture(scope="module", autouse=True)
def datasets_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("antmaze")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder / "datasets"))
        patch.setenv("IQL_JAX_CACHE", str(folder / "cache"))
        yield folder / "datasets"


@pytest.fixture(scope="module")
def made(datasets_folder):
    return catalog.make(ID, steps=STEPS, seed=1, progress=False, score_episodes=1)


@pytest.fixture(scope="module")
def episodes(made):
    return list(minari.load_dataset(ID))


class TestHeadingPhases:
    @staticmethod
    def _rotations(degrees):
        half = np.deg2rad(degrees) / 2
        zeros = np.zeros_like(half)
        return rotation_matrices(np.stack([np.cos(half), zeros, zeros, np.sin(half)], axis=1))

    def test_quarter_turns_change_nothing(self):
        degrees = np.array([10.0, 100.0, -170.0, -80.0])
        phases = heading_phases(self._rotations(degrees))
        angle = np.deg2rad(40)
        np.testing.assert_allclose(phases, [[np.sin(angle), np.cos(angle)]] * 4, atol=1e-5)

    def test_with_one_heading_only_the_x_axis_counts(self):
        degrees = np.array([0.0, 10.0, 100.0, -170.0])
        phases = heading_phases(self._rotations(degrees), one_heading=True)
        angles = [0.0, np.deg2rad(40), 2.4, -2.4]  # Beyond 0.6 rad: four times that.
        np.testing.assert_allclose(phases[:, 0], np.sin(angles), atol=1e-5)
        np.testing.assert_allclose(phases[:, 1], np.cos(angles), atol=1e-5)


class TestReproducibility:
    def test_actions_do_not_depend_on_the_number_of_threads(self):
        code = (
            "import hashlib, numpy as np; from iql_jax.generation import ant_tasks as tasks;"
            "ants = tasks.Ants(tasks.build_environment('umaze'), tasks.build_planner('umaze'), 16);"
            "ants.states[:] = np.random.default_rng(0).normal(size=ants.states.shape);"
            "actions = tasks.steer(tasks.load_controller(), ants);"
            "print(hashlib.sha256(actions.tobytes()).hexdigest())"
        )
        found = {
            subprocess.run(
                [sys.executable, "-c", code],
                env=os.environ | {"OPENBLAS_NUM_THREADS": threads},
                check=True,
                capture_output=True,
            ).stdout
            for threads in ("1", "4")
        }
        assert len(found) == 1


class TestCollect:
    def test_lengths(self, episodes):
        lengths = np.array([len(episode) for episode in episodes])
        assert {2_000, 2_600} <= set(np.cumsum(lengths).tolist())
        assert max(lengths) <= 700
        for episode in episodes:
            arrays = [*episode.observations.values(), *episode.infos.values()]
            assert {len(array) for array in arrays} == {len(episode) + 1}

    def test_the_schema_is_minaris(self, episodes):
        episode = episodes[0]
        dtypes = {key: (a.dtype.str, a.shape[1:]) for key, a in episode.observations.items()}
        two = ("<f8", (2,))
        assert dtypes == {
            "observation": ("<f8", (27,)),
            "achieved_goal": two,
            "desired_goal": two,
        }
        dtypes = {key: (a.dtype.str, a.shape[1:]) for key, a in episode.infos.items()}
        assert dtypes == {
            "success": ("|b1", ()),
            "qpos": ("<f8", (15,)),
            "qvel": ("<f8", (14,)),
            "goal": two,
        }
        assert episode.actions.dtype == np.float32
        assert episode.rewards.dtype == np.float64
        assert episode.terminations.dtype == episode.truncations.dtype == np.bool_

    def test_an_episode_has_one_goal_which_ends_nothing(self, episodes):
        for episode in episodes:
            goals = episode.observations["desired_goal"]
            assert (goals == goals[0]).all()
            offsets = episode.observations["achieved_goal"] - goals
            at_goal = np.linalg.norm(offsets, axis=-1) <= GOAL_RADIUS
            np.testing.assert_array_equal(episode.rewards, at_goal[1:])
            np.testing.assert_array_equal(episode.infos["success"], at_goal)
            assert not episode.terminations.any()
            assert np.flatnonzero(episode.truncations).tolist() == [len(episode) - 1]
        assert max(episode.rewards.sum() for episode in episodes) > 30

    def test_an_ant_stays_at_its_goal_for_a_while(self, episodes):
        firsts = [
            int(np.argmax(episode.rewards)) if episode.rewards.any() else None
            for episode in episodes
        ]
        ended = {2_000, 2_600}  # With their ants' steps.
        whole = set(range(len(episodes))) - {
            i for i, end in enumerate(np.cumsum([len(e) for e in episodes])) if end in ended
        }
        assert len(whole) >= 5
        for i in whole:
            assert len(episodes[i]) == firsts[i] + 1 + antmaze.STAY

    def test_infos_hold_the_state(self, episodes):
        for episode in episodes:
            seen, infos = episode.observations, episode.infos
            state = np.concatenate([seen["achieved_goal"], seen["observation"]], axis=1)
            np.testing.assert_array_equal(np.hstack([infos["qpos"], infos["qvel"]]), state)
            np.testing.assert_array_equal(infos["goal"], seen["desired_goal"])

    def test_episodes_lead_from_around_the_start_to_the_middle_of_the_goal(self, episodes):
        starts = np.stack([episode.observations["achieved_goal"][0] for episode in episodes])
        goals = np.stack([episode.observations["desired_goal"][0] for episode in episodes])
        # Within a quarter of a cell, from where random torques may have moved the ant in up to 20
        # steps: how far depends on a processor's rounding. It stays in its cell.
        assert np.median(np.abs(starts - [-4.0, -4.0])) <= 1.0
        assert np.abs(starts - [-4.0, -4.0]).max() <= 2.0
        assert len(np.unique(starts, axis=0)) == len(episodes)
        assert (goals == [-4.0, 4.0]).all()

    def test_the_recorded_actions_lead_to_the_recorded_states(self, episodes):
        env = ant_tasks.build_environment("umaze")
        for episode in episodes:
            qpos, qvel = episode.infos["qpos"], episode.infos["qvel"]
            for t in range(0, len(episode), 50):
                env.reset(seed=0)
                env.ant_env.set_state(qpos[t], qvel[t])
                state, *_ = env.step(episode.actions[t])
                # Not exactly: the solver of the contacts starts from its last solution.
                np.testing.assert_allclose(state["achieved_goal"], qpos[t + 1, :2], atol=1e-3)
                np.testing.assert_allclose(state["observation"][:13], qpos[t + 1, 2:], atol=1e-2)

    def test_actions_are_the_policys_under_noise(self, episodes):
        env, planner = ant_tasks.build_environment("umaze"), ant_tasks.build_planner("umaze")
        ants = Ants(env, planner, 60)
        observations = episodes[0].observations
        for ant in range(60):
            ants.reset(ant, 0)
        ants.states[:] = np.hstack([observations["achieved_goal"], observations["observation"]])[
            :60
        ]
        before = ant_tasks.steer(ant_tasks.load_controller(), ants)
        after = episodes[0].actions[:60]
        assert np.abs(after).max() <= 1.0
        inner = np.abs(after) < 1.0
        noise = (after - before)[inner & (np.abs(before) < 0.5)]
        assert noise.size > 50
        assert 0.15 < noise.std() < 0.25

    def test_metadata(self, episodes):
        dataset = minari.load_dataset(ID)
        assert (dataset.total_steps, dataset.total_episodes) == (STEPS, len(episodes))
        assert dataset.env_spec.id == "AntMaze_UMaze-v4"
        assert dataset.env_spec.max_episode_steps == 700
        env = dataset.recover_environment(eval_env=True).unwrapped
        os.unlink(env.tmp_xml_file_path)
        assert [cell.tolist() for cell in env.maze.unique_goal_locations] == [[-4.0, 4.0]]
        assert [cell.tolist() for cell in env.maze.unique_reset_locations] == [[-4.0, -4.0]]
        assert (env.continuing_task, env.reset_target) == (True, False)
        metadata = dataset.storage.metadata
        assert 0.0 <= metadata["ref_min_score"] < 100 < metadata["ref_max_score"] < 700
        assert metadata["num_episodes_average_score"] == 1
        assert metadata["collection"]["seed"] == 1

    def test_the_bound_on_the_size_holds(self, made):
        size = (made / "data" / "main_data.hdf5").stat().st_size
        assert size <= STEPS * antmaze._FILE_BYTES

    def test_it_holds_where_episodes_are_short(self, datasets_folder):
        short = catalog.make(
            "iql/antmaze/umaze-diverse-v0", steps=STEPS, progress=False, score_episodes=1
        )
        size = (short / "data" / "main_data.hdf5").stat().st_size
        assert size <= STEPS * antmaze._FILE_BYTES

    def test_the_check_finds_no_defect(self, made):
        findings = check_dataset(made, progress=False)
        assert [finding for finding in findings if finding.level == "defect"] == []

    def test_it_loads_with_the_semantics_of_the_evaluation(self, made, episodes):
        config = Config(dataset=ID, reward_transform="minus_one", progress=False)
        found = load_source(config)
        arrays = found.transitions
        assert arrays.observations.shape == arrays.next_observations.shape == (STEPS, 29)
        positions = np.concatenate([e.observations["achieved_goal"][1:] for e in episodes])
        success = np.linalg.norm(positions - [-4.0, 4.0], axis=-1) <= GOAL_RADIUS
        assert success.any()
        np.testing.assert_array_equal(arrays.rewards, success - 1.0)
        np.testing.assert_array_equal(arrays.masks, 1.0 - success)
        np.testing.assert_allclose(arrays.next_observations[:, :2], positions, atol=1e-5)
        assert found.score_rule.kind == "success"
        env = make_environment(found.environment)
        assert env.reset(seed=0)[0].shape == (29,)
        env.close()


class TestShards:
    def test_every_task_has_a_maker_and_is_a_twin(self):
        for task in TASKS:
            maker = catalog.EMBEDDED[f"iql/antmaze/{task}-v0"]
            assert (maker.module, maker.arguments) == ("iql_jax.generation.antmaze", {"task": task})
            assert catalog.twin_of(f"D4RL/antmaze/{task}-v1") == f"iql/antmaze/{task}-v0"
            assert catalog.EMBEDDED[f"iql/antmaze-waiting/{task}-v0"].twin_of is None

    def test_minaris_ants_wait_until_the_time_limit(self):
        arguments = catalog.EMBEDDED["iql/antmaze-waiting/umaze-v0"].arguments
        (shard,) = antmaze.plan("x", steps=1_400, seed=0, **arguments).shards
        recording = antmaze.collect_shard(shard)
        assert recording.lengths.tolist() == [700, 700]

    def test_ways_past_the_evaluations_goal_lead_over_it(self):
        # Not one of the goals that episodes of medium-diverse draw, but on the way to one of them.
        task = "medium-diverse"
        recording = antmaze.collect_shard(antmaze.plan_shards(task, 4 * 2_000, seed=3)[0])
        goal = ant_tasks.build_planner(task).maze.cell_to_xy(TASKS[task].goal_cell)
        ends = np.cumsum(recording.lengths + 1)
        walks = np.split(recording.states[:, :2], ends[:-1])
        nearest = np.array([np.linalg.norm(walk - goal, axis=-1).min() for walk in walks])
        passing = nearest < 2.0
        assert passing.sum() >= 5
        assert (nearest[passing] <= GOAL_RADIUS).mean() >= 0.7

    def test_shards_cover_the_steps(self):
        for task, steps in itertools.product(TASKS, (1, 1999, 4000, 50_000, 123_456, 1_000_000)):
            shards = antmaze.plan_shards(task, steps, seed=3)
            assert sum(shard.ants * shard.steps for shard in shards) == steps
            assert all(1 <= shard.ants <= 16 for shard in shards)
            assert {shard.steps for shard in shards} <= {2_000, steps % 2_000}
            firsts = np.cumsum([0] + [shard.ants for shard in shards])[:-1]
            assert [shard.first_ant for shard in shards] == firsts.tolist()
            assert {shard.seed for shard in shards} == {3}

    def test_content_depends_on_the_seed_and_not_on_the_processes(self):
        shards = [antmaze.Shard("umaze", 0, first, ants=3, steps=25) for first in (0, 3)]
        alone = [antmaze.collect_shard(shard) for shard in shards]
        with workers.run_in_order(antmaze.collect_shard, shards, 2) as results:
            spread = list(results)
        for one, two in zip(alone, spread, strict=True):
            np.testing.assert_array_equal(one.states, two.states)
            np.testing.assert_array_equal(one.actions, two.actions)
        other = antmaze.collect_shard(dataclasses.replace(shards[0], seed=7))
        assert (other.actions != alone[0].actions).any(axis=1).all()
        first_actions = np.concatenate([recording.actions[::25] for recording in alone])
        assert len(np.unique(first_actions, axis=0)) == 6

    def test_an_episode_begins_in_a_pose_of_its_own(self, monkeypatch):
        spreads = []
        for held in (0, antmaze.HELD_STEPS):
            monkeypatch.setattr(antmaze, "HELD_STEPS", held)
            shard = antmaze.Shard("umaze", 0, 0, ants=16, steps=1)
            taken = antmaze.collect_shard(shard)
            assert taken.lengths.tolist() == [1] * 16
            spreads.append(taken.states[::2, 7:15].std(axis=0))
        # The environment draws the joints' angles within 0.1 rad of the same pose.
        assert spreads[0].max() < 0.1
        assert spreads[1].min() > 0.15

    def test_an_ant_that_lies_begins_again_elsewhere(self, monkeypatch):
        shard = antmaze.Shard("umaze", 0, 0, ants=1, steps=30)
        calm = antmaze.collect_shard(shard)
        calls = itertools.count()

        def upright(ants):
            # For as long as it takes to give the episode up.
            return np.array([-1.0 if 5 <= next(calls) < 5 + antmaze.LYING_STEPS else 1.0])

        monkeypatch.setattr(Ants, "upright", upright)
        monkeypatch.setattr(antmaze, "steer", lambda *_: np.zeros((1, 8), np.float32))
        again = antmaze.collect_shard(shard)
        assert again.lengths.tolist() == [30]
        assert (again.states[0, :2] != calm.states[0, :2]).any()
        # Fifteen steps that went, thirty that stayed.
        assert next(calls) == 5 + antmaze.LYING_STEPS + 30
