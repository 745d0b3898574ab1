"""The checks of datasets: each defect is found, and only where it is."""

import copy
import json

import h5py
import numpy as np
import pytest

from iql_jax.data import checks
from iql_jax.data.episodes import FlatEpisodes
from iql_jax.data.maze_task import choose_map
from iql_jax.envs.mazes import MazeMap
from iql_jax.generation.generate import generate
from iql_jax.utils.errors import UserError

CORRIDOR = [[1, 1, 1, 1, 1, 1], [1, 0, 0, 0, "g", 1], [1, 1, 1, 1, 1, 1]]
LENGTHS = (3, 2, 4)
GOAL = (1.5, 0.0)  # The centre of the corridor's marked cell.


def _spec(cells):
    entry_point = "gymnasium_robotics.envs.maze.point_maze:PointMazeEnv"
    spec = {"id": "PointMaze_UMaze-v3", "entry_point": entry_point, "max_episode_steps": 300}
    return json.dumps(spec | {"kwargs": {"maze_map": cells}})


METADATA = {
    "dataset_id": "test/corridor-v0",
    "total_steps": 9,
    "action_space": json.dumps({"type": "Box", "low": [-1.0, -1.0], "high": [1.0, 1.0]}),
    "env_spec": _spec(CORRIDOR),
    "eval_env_spec": _spec(CORRIDOR),
    "ref_min_score": 0.0,
    "ref_max_score": 9.0,
}


@pytest.fixture
def maze_episodes():
    """Three runs along the corridor, 0.4 m a step, the last of which arrives (at x = 1.1)."""
    positions, goals, rewards = [], [], []
    for length, start, goal in zip(LENGTHS, (-1.5, -1.1, -0.5), (1.5, 0.9, 1.5), strict=True):
        x = start + 0.4 * np.arange(length + 1)
        positions.append(np.stack([x, np.zeros_like(x)], axis=1))
        goals.append(np.tile([goal, 0.0], (length + 1, 1)))
        rewards.append(np.abs(x[1:] - goal) <= 0.45)
    position = np.concatenate(positions).astype(np.float32)
    truncations = np.zeros(9, bool)
    truncations[[2, 4, 8]] = True
    return FlatEpisodes(
        observations={
            "observation": np.concatenate([position, 0 * position], axis=1),
            "achieved_goal": position,
            "desired_goal": np.concatenate(goals).astype(np.float32),
        },
        actions=np.linspace(-1, 1, 18, dtype=np.float32).reshape(9, 2),
        rewards=np.concatenate(rewards).astype(np.float32),
        terminations=np.zeros(9, bool),
        truncations=truncations,
        lengths=np.array(LENGTHS),
        is_dict=True,
    )


@pytest.fixture
def plain_episodes():
    """Twenty slow random walks of 50 steps from far-apart starts, without goals."""
    generator = np.random.default_rng(0)
    walks = [
        generator.normal(size=3) + np.cumsum(0.02 * generator.normal(size=(51, 3)), axis=0)
        for _ in range(20)
    ]
    ends = np.arange(1000) % 50 == 49
    return FlatEpisodes(
        observations={"observation": np.concatenate(walks).astype(np.float32)},
        actions=generator.uniform(-1, 1, (1000, 2)).astype(np.float32),
        rewards=generator.normal(size=1000).astype(np.float32),
        terminations=ends,
        truncations=np.zeros(1000, bool),
        lengths=np.full(20, 50),
        is_dict=False,
    )


def _levels(findings):
    return {finding.topic: finding.level for finding in findings}


class TestSoundData:
    def test_a_sound_maze_dataset_has_no_defects(self, maze_episodes):
        findings = checks.check_data(maze_episodes, METADATA)
        assert set(_levels(findings).values()) == {"ok"}
        topics = ["structure", "actions", "endings", "rewards", "jumps", "goals", "success"]
        assert list(_levels(findings)) == [*topics, "walls", "evaluation goal", "references"]

    def test_a_sound_plain_dataset_has_no_defects(self, plain_episodes):
        findings = checks.check_data(plain_episodes, {"total_steps": 1000})
        assert _levels(findings).pop("references") == "note"
        assert {f.level for f in findings if f.topic != "references"} == {"ok"}


class TestStructure:
    def test_episodes_are_described(self, maze_episodes):
        text = checks.check_structure(maze_episodes, METADATA).text
        assert "9 transitions in 3 episodes of 2 to 4 steps (mean 3.0)" in text
        assert "achieved_goal [2], desired_goal [2], observation [4]" in text

    def test_metadata_that_promise_something_else(self, maze_episodes):
        finding = checks.check_structure(maze_episodes, METADATA | {"total_steps": 12})
        assert (finding.level, finding.text) == (
            "defect",
            "the metadata promise 12 transitions, there are 9",
        )


class TestActions:
    def test_the_share_at_the_bounds(self, maze_episodes):
        finding = checks.check_actions(maze_episodes, METADATA)
        assert finding.text == "[2], in [-1, 1], 11 % of the components at a bound"  # 2 of 18.

    def test_outside_their_space(self, maze_episodes):
        maze_episodes.actions[4, 1] = 1.01
        finding = checks.check_actions(maze_episodes, METADATA)
        assert finding.level == "defect"
        assert "11 % of the actions lie outside" in finding.text  # 1 of 9.

    def test_the_bounds_are_those_of_the_space(self, maze_episodes):
        space = {"type": "Box", "low": [-2, -2], "high": [2, 0.5]}
        narrow = METADATA | {"action_space": json.dumps(space)}
        maze_episodes.actions[:, 0] = 2.0
        assert checks.check_actions(maze_episodes, narrow).level == "defect"
        maze_episodes.actions[:, 1] = 0.5
        assert checks.check_actions(maze_episodes, narrow).level == "ok"


class TestEndings:
    def test_ends_are_counted(self, maze_episodes):
        maze_episodes.terminations[4] = True
        maze_episodes.truncations[8] = False
        (finding,) = checks.check_endings(maze_episodes, METADATA)
        assert finding.level == "note"
        text = "1 episodes end by termination, 2 by truncation, 1 without either"
        assert finding.text == text

    @pytest.mark.parametrize(
        ("field", "imported", "level"),
        [
            ("terminations", {}, "defect"),
            ("truncations", {}, "defect"),
            ("terminations", {"d4rl": {}}, "note"),
            ("terminations", {"ogbench": {}}, "note"),
            ("truncations", {"d4rl": {}}, "defect"),
        ],
    )
    def test_an_end_in_the_middle(self, maze_episodes, field, imported, level):
        getattr(maze_episodes, field)[3] = True
        finding = checks.check_endings(maze_episodes, METADATA | imported)[0]
        assert finding.level == level
        assert finding.text == f"1 {field} before the last step of an episode"


class TestRewards:
    def test_few_values_are_counted(self, maze_episodes):
        finding = checks.check_rewards(maze_episodes)
        assert finding.text == "0: 8, 1: 1; returns of episodes 0 to 1 (mean 0.3333)"

    def test_many_values_are_summarised(self, plain_episodes):
        plain_episodes.rewards[:] = np.arange(1000)
        finding = checks.check_rewards(plain_episodes)
        assert "deciles 0 99.9 199.8" in finding.text
        assert "returns of episodes 1225 to 4.872e+04" in finding.text  # Sums of 0-49, 950-999.

    def test_a_constant_reward(self, maze_episodes):
        maze_episodes.rewards[:] = -1
        assert checks.check_rewards(maze_episodes).level == "defect"
        # Where episodes terminate, the longer has the higher return; of zeros it has none.
        maze_episodes.terminations[4] = True
        assert checks.check_rewards(maze_episodes).level == "ok"
        maze_episodes.rewards[:] = 0
        assert checks.check_rewards(maze_episodes).level == "defect"

    def test_where_rewards_are_not_needed_it_is_none(self, maze_episodes, plain_episodes):
        maze_episodes.rewards[:] = 0
        findings = checks.check_data(maze_episodes, {"env_spec": _spec(CORRIDOR)})
        (finding,) = [finding for finding in findings if finding.topic == "rewards"]
        assert finding.level == "note"  # Loading computes others.
        plain_episodes.rewards[:] = 0
        for metadata, level in (({"ogbench": {}}, "note"), ({}, "defect")):
            findings = checks.check_data(plain_episodes, metadata)
            (finding,) = [finding for finding in findings if finding.topic == "rewards"]
            assert finding.level == level


class TestJumps:
    def test_a_step_across_the_maze(self, maze_episodes):
        maze = MazeMap.from_lists(CORRIDOR, 1.0)
        assert "0.400 m on average" in checks.check_maze_jumps(maze_episodes, maze).text
        maze_episodes.observations["achieved_goal"][5:7, 0] += 1.0  # Second episode's last two.
        finding = checks.check_maze_jumps(maze_episodes, maze)
        assert finding.level == "defect"
        assert "1 steps move further than 0.5 m" in finding.text
        assert "1.40 m in episode 1 at step 0" in finding.text

    def test_the_limit_scales_with_the_maze(self, maze_episodes):
        maze = MazeMap.from_lists(CORRIDOR, 4.0)
        maze_episodes.observations["achieved_goal"][5:7, 0] += 1.0
        assert checks.check_maze_jumps(maze_episodes, maze).level == "ok"

    def test_glued_episodes_of_other_tasks(self, plain_episodes):
        assert checks.check_jumps(plain_episodes).level == "ok"
        far = plain_episodes.observations["observation"]
        far[51 + 30 : 51 + 51] += 5.0  # From observation 30 of episode 1 on.
        finding = checks.check_jumps(plain_episodes)
        assert finding.level == "note"
        assert finding.text.endswith("in episode 1 at step 29")


class TestGoals:
    def test_a_wrong_goal_at_the_first_observation(self, maze_episodes):
        maze_episodes.observations["desired_goal"][4] = (1.5, 0.0)  # Episode 1 begins with row 4.
        finding = checks.check_goals(maze_episodes)
        assert finding.level == "defect"
        assert "1 of 3 episodes store another goal with their first" in finding.text

    def test_a_goal_that_changes_on_the_way(self, maze_episodes):
        maze_episodes.observations["desired_goal"][9:] = 0.0
        finding = checks.check_goals(maze_episodes)
        assert (finding.level, finding.text) == (
            "note",
            "1 steps change the goal within an episode",
        )

    def test_different_goals_are_counted(self, maze_episodes):
        assert "2 different" in checks.check_goals(maze_episodes).text

    def test_arrivals_are_counted(self, maze_episodes):
        finding = checks.check_success(maze_episodes)
        assert finding.text == "33.3 % of the episodes reach their goal, 1 steps end there"

    def test_no_arrival(self, maze_episodes):
        maze_episodes.observations["desired_goal"][:] = 99.0
        assert checks.check_success(maze_episodes).level == "defect"

    def test_arrivals_at_the_evaluation_goal(self, maze_episodes):
        maze = MazeMap.from_lists(CORRIDOR, 1.0)
        finding = checks.check_evaluation_goal(maze_episodes, maze, dense=False)
        assert finding.text == "1 steps of 1 episodes end at (1.5, 0)"

    def test_an_evaluation_goal_that_the_data_never_reach(self, maze_episodes):
        cells = copy.deepcopy(CORRIDOR)
        cells[1][1], cells[1][4] = "g", 0
        # The first episode starts at this goal; only ends of steps count.
        maze_episodes.observations["achieved_goal"][1:, 0] = 0.0
        maze = MazeMap.from_lists(cells, 1.0)
        finding = checks.check_evaluation_goal(maze_episodes, maze, dense=False)
        assert finding.level == "defect"
        assert "nothing to learn from" in finding.text
        finding = checks.check_evaluation_goal(maze_episodes, maze, dense=True)
        assert finding.level == "note"
        assert "nothing to learn from" not in finding.text

    def test_several_evaluation_goals(self, maze_episodes):
        cells = [["g" if cell == 0 else cell for cell in row] for row in CORRIDOR]
        maze = MazeMap.from_lists(cells, 1.0)
        finding = checks.check_evaluation_goal(maze_episodes, maze, dense=False)
        assert finding.level == "note"
        assert "marks 4 goals" in finding.text

    @pytest.mark.parametrize("reward_type", ["sparse", "dense"])
    def test_the_kind_of_rewards_is_that_of_the_evaluation(self, maze_episodes, reward_type):
        spec = json.loads(_spec([row[::-1] for row in CORRIDOR]))
        spec["kwargs"]["reward_type"] = reward_type
        maze_episodes.observations["achieved_goal"][:, 0] += 10.0
        metadata = METADATA | {"eval_env_spec": json.dumps(spec)}
        level = _levels(checks.check_data(maze_episodes, metadata))["evaluation goal"]
        assert level == {"sparse": "defect", "dense": "note"}[reward_type]

    @pytest.mark.parametrize("cells", [5, [1, 1], [[1, 2]], []])
    def test_a_broken_map_is_a_finding_and_others_remain(self, maze_episodes, cells):
        metadata = METADATA | {key: _spec(cells) for key in ("env_spec", "eval_env_spec")}
        assert "rewards" in _levels(checks.check_data(maze_episodes, metadata))
        with pytest.raises(UserError, match="the maze map"):
            MazeMap.from_lists(cells, 1.0)


class TestWalls:
    def test_data_of_another_maze(self, maze_episodes):
        metadata = METADATA | {"eval_env_spec": _spec(np.fliplr(_walled()).tolist())}
        assert _levels(checks.check_data(maze_episodes, METADATA))["walls"] == "ok"
        findings = checks.check_data(maze_episodes, metadata)
        walls = next(finding for finding in findings if finding.topic == "walls")
        assert walls.level == "defect"
        # Three of twelve lie left of x = -1.
        assert "25.0 % of the data's positions lie in walls of the evaluation" in walls.text
        # The goal is then that of the maze which the data are from, as in loading.
        goal = next(finding for finding in findings if finding.topic == "evaluation goal")
        assert goal.text == "1 steps of 1 episodes end at (1.5, 0)"

    @pytest.mark.parametrize(
        ("far", "level", "text"),
        [
            (1, "note", "2.5 % of the data's positions lie in walls"),
            (3, "defect", "7.5 % of the data's positions lie in walls of the evaluation maze and"),
        ],
    )
    def test_it_is_what_loading_decides(self, maze_episodes, far, level, text):
        maze = MazeMap.from_lists(CORRIDOR, 1.0)
        positions = np.zeros((40, 2), np.float32)
        positions[:far] = 9.0
        maze_episodes.observations["achieved_goal"] = positions
        finding = checks.check_evaluation(maze_episodes, maze, maze, dense=False)[0]
        assert finding.level == level
        assert finding.text.startswith(text)
        if level == "defect":
            with pytest.raises(UserError, match=r"not that of these data"):
                choose_map(maze, maze, positions)

    def test_a_maze_that_only_the_evaluation_names(self, maze_episodes):
        metadata = {key: value for key, value in METADATA.items() if key != "env_spec"}
        assert _levels(checks.check_data(maze_episodes, metadata))["walls"] == "ok"


def _walled():
    """The corridor, its last cell a wall; mirrored, its first cell is."""
    cells = np.array(CORRIDOR, dtype=object)
    cells[1, 3], cells[1, 4] = "g", 1
    return cells


class TestReferences:
    @pytest.mark.parametrize(
        ("low", "high", "level"),
        [(0.0, 1.0, "ok"), (None, 1.0, "note"), (0.0, None, "note"), (1.0, 1.0, "defect")],
    )
    def test_levels(self, low, high, level):
        metadata = {"ref_min_score": low, "ref_max_score": high}
        assert checks.check_references(metadata).level == level


class TestWholeDatasets:
    @pytest.fixture
    def path(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
        dataset_id = "iql/pointmaze/umaze-v0"
        return generate(dataset_id, steps=1500, progress=False)

    def test_the_packaged_data_are_sound(self, path):
        findings = checks.check_dataset(path, progress=False)
        assert {finding.level for finding in findings} == {"ok"}
        assert {"environment", "evaluation", "versions"} <= _levels(findings).keys()

    @pytest.mark.parametrize(
        ("field", "rows", "message"),
        [
            ("observations/observation", -1, "episode 3 has"),
            ("rewards", np.nan, "episode 3, rewards holds nan"),
        ],
    )
    def test_broken_episodes_are_defects_of_the_structure(self, path, field, rows, message):
        with h5py.File(path / "data" / "main_data.hdf5", "a") as file:
            array = file["episode_3"][field]
            if rows == -1:
                array.resize(len(array) - 1, axis=0)
            else:
                array[0] = rows
        findings = checks.check_dataset(path, progress=False)
        assert _levels(findings)["structure"] == "defect"
        assert message in findings[0].text

    def test_without_metadata(self, tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            checks.check_dataset(tmp_path, progress=False)
