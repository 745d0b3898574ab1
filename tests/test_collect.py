"""The packaged makers: planner, PointMaze collection, storage and catalog."""

import contextlib
import dataclasses
import errno
import itertools
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from iql_jax.collect import catalog, collecting, point_tasks, pointmaze, storage, workers
from iql_jax.collect.plan import ScoreRun
from iql_jax.collect.planner import UNREACHABLE, MazePlanner
from iql_jax.collect.workspace import open_workspace
from iql_jax.errors import UserError
from iql_jax.maze import GOAL_RADIUS, MazeMap

UMAZE = [
    [1, 1, 1, 1, 1],
    [1, 0, 0, 0, 1],
    [1, 1, 1, 0, 1],
    [1, 0, 0, 0, 1],
    [1, 1, 1, 1, 1],
]
SPLIT = [[0, 0, 1, 0], [0, 0, 1, 0]]
ID = "iql/pointmaze/umaze-v0"


@pytest.fixture(autouse=True)
def datasets_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


def _planner(cells=UMAZE, scaling=1.0):
    return MazePlanner(MazeMap.from_lists(cells, scaling))


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


class TestPlanner:
    def test_distances_in_the_u_maze(self):
        x = UNREACHABLE
        np.testing.assert_array_equal(
            _planner().distances((1, 1)),
            [[x, x, x, x, x], [x, 0, 1, 2, x], [x, x, x, 3, x], [x, 6, 5, 4, x], [x, x, x, x, x]],
        )

    def test_distances_leave_out_what_cannot_be_reached(self):
        x = UNREACHABLE
        expected = [[0, 1, x, x], [1, 2, x, x]]
        np.testing.assert_array_equal(_planner(SPLIT).distances((0, 0)), expected)

    @pytest.mark.parametrize("cell", [(0, 0), (9, 1), (-1, 1)])
    def test_a_goal_in_a_wall_is_refused(self, cell):
        with pytest.raises(ValueError, match="not a free cell"):
            _planner().distances(cell)

    def test_following_the_next_cells_arrives_in_the_distance(self):
        planner = MazePlanner(point_tasks.build_planner("large").maze)
        cells = planner.maze.free_cells()
        for goal in map(tuple, cells[::7]):
            distances, following = planner.distances(goal), planner.next_cells(goal)
            for cell in map(tuple, cells):
                at, moves = cell, 0
                while at != goal:
                    step = following[at] - np.array(at)
                    assert np.abs(step).sum() == 1
                    at, moves = tuple(following[at]), moves + 1
                assert moves == distances[cell]

    def test_unreachable_cells_lead_to_themselves_and_walls_out(self):
        following = _planner(SPLIT).next_cells((0, 0))
        assert following[0, 3].tolist() == [0, 3]
        # The wall's nearest free cell (first of two at distance 1) is (0, 1), which leads left.
        assert following[0, 2].tolist() == [0, 0]

    def test_waypoints_are_next_centres_and_at_last_the_goal_itself(self):
        planner = _planner(scaling=4.0)
        goal = np.array([-3.5, 4.5])  # In cell (1, 1), whose centre is (-4, 4).
        xy = np.array([[-4.0, -4.0], [4.9, 0.3], [0.1, 3.0], [-4.9, 3.0]])
        expected = [[0.0, -4.0], [4.0, 4.0], goal, goal]
        np.testing.assert_allclose(planner.waypoints(xy, np.tile(goal, (4, 1))), expected)

    def test_waypoints_for_mixed_goals_agree_with_the_tables(self):
        planner = point_tasks.build_planner("medium")
        generator = np.random.default_rng(0)
        centres = planner.maze.cell_to_xy(planner.maze.free_cells())
        xy, goals = (
            generator.choice(centres, (5, 9)) + generator.uniform(-0.4, 0.4, (5, 9, 2))
            for _ in range(2)
        )
        waypoints = planner.waypoints(xy, goals)
        for index in np.ndindex(5, 9):
            row, col = planner.maze.xy_to_cell(xy[index])
            expected = planner.waypoint_table(goals[index])[row, col]
            np.testing.assert_array_equal(waypoints[index], expected)

    def test_positions_outside_the_map_find_back(self):
        planner = _planner()
        waypoint = planner.waypoints(np.array([-99.0, 1.0]), np.array([0.0, 1.0]))
        np.testing.assert_allclose(waypoint, [0.0, 1.0])

    def test_shapes_must_agree(self):
        with pytest.raises(ValueError, match="differ in shape"):
            _planner().waypoints(np.zeros((3, 2)), np.zeros(2))


class TestController:
    def test_the_action_is_proportional_to_the_offset_and_damped(self):
        controller = point_tasks.PointController(_planner())
        controller.head_for(np.array([0.25, 1.0]))  # In cell (1, 2).
        # From cell (1, 1) to the goal: 10 * 0.09 - 0.5 and 10 * -0.02 - (-0.1).
        np.testing.assert_allclose(
            controller.action([-0.5 - 1e-9, 1.02, 7.0, -0.1]), (0.5, -0.1), atol=1e-6
        )
        assert controller.action([-1.0, 1.0, 0.0, 0.0])[0] == 1.0

    def test_without_noise_it_reaches_every_goal_of_the_large_maze(self):
        run = ScoreRun("large", seed=3, first_episode=0, episodes=10, planned=True)
        returns = pointmaze.score_run(run).values
        assert returns.shape == (10,)
        assert returns.min() > 300  # Of 800 steps; the longest way takes under 500.


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

    def test_make_keeps_what_exists_unless_forced(self, datasets_folder):
        path = catalog.make(ID, steps=300, progress=False, score_episodes=1)
        assert path == datasets_folder / ID
        catalog.make(ID, steps=400, progress=False, score_episodes=1)
        assert minari.load_dataset(ID).total_steps == 300
        catalog.make(ID, steps=400, progress=False, score_episodes=1, force=True)
        assert minari.load_dataset(ID).total_steps == 400
        assert list(minari.list_local_datasets()) == [ID]
        assert [p.name for p in datasets_folder.iterdir()] == ["iql"]

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

    def test_it_imports_neither_jax_nor_gymnasium(self):
        code = (
            "import sys, iql_jax.collect.catalog as c; assert c.EMBEDDED;"
            "heavy = {'jax', 'gymnasium', 'minari', 'mujoco'} & sys.modules.keys();"
            "assert not heavy, heavy"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_the_makers_do_not_import_jax(self):
        code = (
            "import sys, iql_jax.collect.pointmaze as p;"
            "p.collect_shard(p.Shard('umaze', 0, 0, 9));"
            "assert 'jax' not in sys.modules and 'flax' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


class TestStorage:
    @contextlib.contextmanager
    def _new(self, dataset_id="test/it-v0", expected_bytes=1000):
        env = point_tasks.build_environment("umaze")
        with (
            open_workspace(dataset_id, "digest") as workspace,
            storage.new_dataset(
                dataset_id,
                workspace.folder,
                env_spec=point_tasks.collecting_spec("umaze"),
                observation_space=env.observation_space,
                action_space=env.action_space,
                expected_bytes=expected_bytes,
            ) as data,
        ):
            yield data

    def _leftovers(self, folder):
        return [path for path in folder.rglob("*") if path.is_file()]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
    def test_nothing_remains_of_a_dataset_that_was_just_begun(self, error, datasets_folder):
        def interrupted():
            with self._new() as data:
                (data.data_path / "half").write_text("made")
                raise error

        with pytest.raises(error):
            interrupted()
        assert self._leftovers(datasets_folder) == []

    def test_an_interrupted_replacement_leaves_the_old_one(self, monkeypatch):
        catalog.make(ID, steps=300, progress=False, score_episodes=1)
        monkeypatch.setattr(pointmaze, "score_run", lambda _: sys.exit(1))
        with pytest.raises(SystemExit):
            catalog.make(ID, steps=400, progress=False, force=True, score_episodes=1)
        assert minari.load_dataset(ID).total_steps == 300

    def test_a_folder_of_other_datasets_is_left_alone(self, datasets_folder):
        with self._new("test/it-v0/inner-v0"):
            pass
        with (
            pytest.raises(UserError, match=r"test/it-v0 holds other datasets, .*: choose another"),
            self._new("test/it-v0"),
        ):
            pytest.fail("that would be the end of the other one")
        assert list(minari.list_local_datasets()) == ["test/it-v0/inner-v0"]

    def test_no_dataset_lies_in_another(self):
        with self._new("test/it-v0"):
            pass
        with (
            pytest.raises(UserError, match=r"would lie in the dataset .*test/it-v0"),
            self._new("test/it-v0/more/inner-v0"),
        ):
            pytest.fail("nobody would find it")

    def test_an_empty_folder_gives_way(self, datasets_folder):
        (datasets_folder / "test" / "it-v0").mkdir(parents=True)
        with self._new("test/it-v0"):
            pass
        assert list(minari.list_local_datasets()) == ["test/it-v0"]

    def test_another_disk_is_said_before_anything_is_begun(self, datasets_folder):
        memory = pathlib.Path("/dev/shm")
        datasets_folder.mkdir()
        if not memory.is_dir() or memory.stat().st_dev == datasets_folder.stat().st_dev:
            pytest.skip("there is one disk only")
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            (datasets_folder / "test").symlink_to(folder)
            with (
                pytest.raises(UserError, match=rf"from {datasets_folder}, .* to .*another disk"),
                self._new("test/it-v0"),
            ):
                pytest.fail("it could not be put in place")

    def test_a_folder_that_may_not_be_written_is_said_before_too(
        self, datasets_folder, monkeypatch
    ):
        (datasets_folder / "test").mkdir(parents=True)
        # Not by its mode, which does not bind the superuser.
        monkeypatch.setattr(os, "access", lambda path, mode: path != datasets_folder / "test")
        with (
            pytest.raises(UserError, match=r"cannot be put in .*test: the folder is not writable"),
            self._new("test/it-v0"),
        ):
            pytest.fail("it could not be put in place")

    def test_a_move_that_fails_is_said(self, datasets_folder, monkeypatch):
        def fail(source, target):
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        def begun():
            with self._new("test/it-v0"):
                monkeypatch.setattr(os, "replace", fail)

        message = rf"from {datasets_folder}/.*new to {datasets_folder}/test/it-v0: Invalid"
        with pytest.raises(UserError, match=message):
            begun()

    def test_no_room_is_said_before_anything_is_begun(self, datasets_folder):
        def begun():
            with self._new(expected_bytes=10**18):
                pytest.fail("there is no such room")

        with pytest.raises(UserError, match=r"no space left to make the dataset in .* MB more"):
            begun()
        assert self._leftovers(datasets_folder) == []

    def test_no_room_for_more_episodes(self, datasets_folder):
        episode = EpisodeBuffer(
            observations={"observation": np.zeros((200_001, 4))},
            actions=np.zeros((200_000, 2), np.float32),
            rewards=np.zeros(200_000),
            terminations=np.zeros(200_000, bool),
            truncations=np.zeros(200_000, bool),
        )

        def begun():
            with self._new() as data:
                storage.add_episodes(data, [episode])

        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, hard))
        try:
            with pytest.raises(UserError, match=r"MB more are needed \(File too large"):
                begun()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert self._leftovers(datasets_folder) == []

    def test_a_folder_that_cannot_be_made(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "file"))

        def begun():
            with self._new():
                pytest.fail("this is no folder")

        with pytest.raises(UserError, match="cannot write to Minari's folder"):
            begun()

    def test_the_bound_on_the_size_holds(self):
        shard = pointmaze.Shard("umaze", seed=0, index=0, steps=3000)
        episodes = pointmaze.cut_episodes(pointmaze.collect_shard(shard))
        with self._new() as data:
            storage.add_episodes(data, episodes)
            size = (data.data_path / "main_data.hdf5").stat().st_size
        assert size <= sum(map(storage._stored_bytes, episodes)) <= 2 * size
        assert size <= 3000 * pointmaze._FILE_BYTES


def _double(number):
    return 2 * number


def _die(number):
    if number == 1:
        os._exit(9)
    return number


def _sleep(seconds):
    time.sleep(seconds)


class TestWorkers:
    @pytest.mark.parametrize("processes", [1, 2])
    def test_results_come_in_order(self, processes):
        with workers.run_in_order(_double, range(20), processes) as results:
            assert list(results) == list(range(0, 40, 2))

    @pytest.mark.parametrize("processes", [1, 2])
    def test_nothing_to_do(self, processes):
        with workers.run_in_order(_double, [], processes) as results:
            assert list(results) == []

    def test_a_killed_process_is_said(self):
        with (
            pytest.raises(UserError, match="process was killed"),
            workers.run_in_order(_die, range(4), 2) as results,
        ):
            list(results)

    def test_tasks_under_way_are_left_where_the_block_is(self):
        start = time.monotonic()
        with workers.run_in_order(_sleep, [0, 600, 600, 600, 600], 2) as results:
            next(results)
        assert time.monotonic() - start < 60

    @pytest.mark.parametrize("processes", [1, 2])
    def test_a_check_stops_the_work(self, processes):
        def check():
            if done:
                raise KeyboardInterrupt

        def work():
            with workers.run_in_order(_sleep, [0, 600, 600], processes, check) as results:
                done.append(next(results))
                next(results)

        done = []
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            work()
        assert time.monotonic() - start < 60

    def test_a_signal_to_all_processes_is_not_taken_for_a_lack_of_memory(self, monkeypatch):
        def check():
            calls.append(None)
            if len(calls) > 1:  # Not before the processes are started.
                raise KeyboardInterrupt

        def work():
            with workers.run_in_order(_die, [1, 1], 2, check) as results:
                next(results)

        calls = []
        monkeypatch.setattr(workers, "_CHECK_SECONDS", 600)
        with pytest.raises(KeyboardInterrupt):
            work()
