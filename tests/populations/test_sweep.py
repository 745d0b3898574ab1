"""Sweeps: members, who trains together, and the plan that a folder keeps."""

import dataclasses
from pathlib import Path

import pytest

from iql_jax.algorithm import Hyperparameters
from iql_jax.populations.folder import PopulationFolder, read_failure
from iql_jax.populations.sweep import TRACED, members_of, populations, read_sweep
from iql_jax.training.config import base_config, from_mapping
from iql_jax.utils.errors import UserError

ROOT = Path(__file__).parents[2]
CONFIG = from_mapping({**base_config(), "dataset": "toy/toy-v0", "seed": 5})


def seeds(number):
    return members_of(dataclasses.replace(CONFIG, num_seeds=number))


def names(groups):
    return [[member.name for member in group] for group in groups]


def sweep_file(tmp_path, text):
    path = tmp_path / "sweep.py"
    path.write_text(text)
    return path


def test_seeds_follow_the_first():
    members = members_of(dataclasses.replace(CONFIG, num_seeds=3, population_size=2))
    assert [member.name for member in members] == ["seed_5", "seed_6", "seed_7"]
    # Each has the settings of a run on its own.
    assert [member.config for member in members] == [
        dataclasses.replace(CONFIG, seed=seed) for seed in (5, 6, 7)
    ]


def test_a_grid_is_every_value_with_every_other(tmp_path):
    path = sweep_file(
        tmp_path,
        "def get_sweep():\n    return {'expectile': [0.5, 0.9], 'hidden_dims': [(8,), [16, 16]]}\n",
    )
    members = members_of(dataclasses.replace(CONFIG, num_seeds=2), read_sweep(path))
    assert [member.name for member in members] == [
        f"expectile_{expectile}-hidden_dims_{widths}-seed_{seed}"
        for expectile in (0.5, 0.9)
        for widths in ("8", "16x16")
        for seed in (5, 6)
    ]
    assert members[-1].config.hidden_dims == (16, 16)
    assert members[-1].setting == {"expectile": 0.9, "hidden_dims": (16, 16)}


def test_a_list_gives_each_member_its_own_overrides(tmp_path):
    path = sweep_file(
        tmp_path,
        "def get_sweep():\n    return [{'dataset': 'a/b c-v0'}, {'seed': 1, 'temperature': 3}]\n",
    )
    first, second = members_of(CONFIG, read_sweep(path))
    assert first.name == "dataset_a-b-c-v0-seed_5"
    assert (second.name, second.config.temperature) == ("temperature_3.0-seed_1", 3.0)


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ([{"expectil": 0.5}], "'expectil'.*'expectile'"),
        ([{"expectile": 1.5}], "expectile is 1.5"),
        ([{"progress": False}], "config.progress .* cannot be swept"),
        ([{"seed": 5}, {"seed": 5}], "a folder: seed_5 and seed_5"),
        ([{"dataset": "a/b-v0"}, {"dataset": "a-b-v0"}], "a folder: dataset_a-b-v0"),
        ([], "no members"),
    ],
)
def test_a_wrong_override_is_refused(sweep, message):
    with pytest.raises(UserError, match=message):
        members_of(CONFIG, sweep)


def test_too_many_members_are_refused_before_they_are_made():
    with pytest.raises(UserError, match="members; at most 10,000"):
        seeds(10**12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_sweep(): return 3\n", "must return a dict"),
        ("x = 1\n", "fails with KeyError: 'get_sweep'"),
        ("def get_sweep(): return 1 / 0\n", "fails with ZeroDivisionError"),
        ("import sys\nsys.exit(0)\n", "fails with SystemExit: 0"),
        ("def get_sweep(): return {c: range and [0] * 99 for c in 'abcdef'}\n", "at most 10,000"),
        ("def get_sweep(): return {c: [0] * 999 for c in range(2000)}\n", "at most 10,000"),
        (None, "fails with FileNotFoundError"),
    ],
)
def test_a_wrong_sweep_file_is_refused(tmp_path, text, message):
    path = tmp_path / "none.py" if text is None else sweep_file(tmp_path, text)
    with pytest.raises(UserError, match=message):
        read_sweep(path)


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "sweeps").glob("*.py")))
def test_the_packaged_sweeps_are_sweeps(path):
    members = members_of(CONFIG, read_sweep(path))
    assert len(populations(members, 0)) == 1
    assert len(members) == {"pointmaze": 24, "expectile": 18}[path.stem]


# Who trains together.


def test_members_that_differ_in_traced_numbers_are_one_population():
    # Every hyperparameter of the learner can be swept, the decay by the name of its schedule.
    assert {*TRACED, "actor_decay_steps"} - {"seed", "opt_decay_schedule"} == set(
        Hyperparameters.__dataclass_fields__
    )
    values = {"seed": 9, "opt_decay_schedule": "none", "dropout_rate": None}
    sweep = [{key: values[key] if key in values else getattr(CONFIG, key) * 0.9} for key in TRACED]
    members = members_of(CONFIG, [override for override in sweep if None not in override.values()])
    assert len(populations(members, 0)) == 1


def test_members_of_other_structure_are_another_population():
    sweep = [
        {"seed": 1},
        {"dropout_rate": 0.1},
        {"hidden_dims": (8,)},
        {"dropout_rate": 0.2},
        {"seed": 2},
        {"batch_size": 8},
        {"max_steps": 8},
        {"dataset": "toy/other-v0"},
    ]
    groups = names(populations(members_of(CONFIG, sweep), 0))
    assert groups[:2] == [
        ["seed_1", "seed_2"],
        ["dropout_rate_0.1-seed_5", "dropout_rate_0.2-seed_5"],
    ]
    assert [len(group) for group in groups] == [2, 2, 1, 1, 1, 1]


def test_data_of_one_layout_train_together_where_members_are_updated_at_once():
    sweep = [
        {"dataset": "toy/a-v0"},
        {"dataset": "toy/wide-v0"},
        {"dataset": "toy/b-v0", "reward_transform": "minus_one", "top_episodes": 0.1},
        {"dataset": "toy/a-v0", "maze_drop": "waiting", "expectile": 0.9},
        {"dataset": "toy/b-v0", "batch_size": 8},
    ]
    members = members_of(CONFIG, sweep)
    groups = populations(members, 0, layout=lambda config: config.dataset == "toy/wide-v0")
    assert [[members.index(member) for member in group] for group in groups] == [
        [0, 2, 3], [1], [4],
    ]  # fmt: skip
    assert [len(group) for group in populations(members, 0)] == [1, 1, 1, 1, 1]


def test_a_plan_stays_and_new_members_follow(tmp_path):
    with PopulationFolder(tmp_path) as folder:
        folder.plan(seeds(3), 2)
        folder.plan(seeds(5), 0)
        planned = folder.read_plan(seeds(5), {})
        assert names(p.members for p in planned) == [
            ["seed_5", "seed_6"], ["seed_7"], ["seed_8", "seed_9"],
        ]  # fmt: skip
        assert [p.folder.name for p in planned] == ["0", "1", "2"]
        with pytest.raises(UserError, match=r"members that this command does not \(seed_9\)"):
            folder.plan(seeds(4), 0)
        with pytest.raises(UserError, match="population_size=1 needs a new folder"):
            folder.plan(seeds(5), 1)


@pytest.mark.parametrize(
    "planned", ["{", '"seed_5"', '["seed_5"]', "[[]]", "[[1]]", "[[null, {}]]", '[["a"], ["a"]]']
)
def test_a_plan_that_is_none_is_refused(tmp_path, planned):
    (tmp_path / "population.json").write_text(f'{{"populations": {planned}}}')
    with pytest.raises(UserError, match=r"population.json .* name another folder"):
        PopulationFolder(tmp_path).recorded()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"update": "5", "reason": "nan"}'])
def test_a_failure_that_says_nothing_is_refused(tmp_path, content):
    assert read_failure(tmp_path) is None
    (tmp_path / "failure.json").write_text('{"update": 5, "reason": "nan"}')
    assert read_failure(tmp_path) == {"update": 5, "reason": "nan"}
    (tmp_path / "failure.json").write_text(content)
    with pytest.raises(UserError, match=r"failure.json .* delete it"):
        read_failure(tmp_path)


def test_checkpoints_of_members_whose_folders_are_gone_are_not_taken(tmp_path):
    with PopulationFolder(tmp_path) as folder:
        folder.plan(seeds(2), 0)
        (tmp_path / "populations" / "0" / "checkpoints").mkdir(parents=True)
        (tmp_path / "seed_5").mkdir()
        (tmp_path / "seed_5" / "config.json").touch()
        with pytest.raises(UserError, match=r"populations/0 holds checkpoints of seed_6, .* gone"):
            folder.plan(seeds(2), 0)
