import dataclasses
from pathlib import Path

import pytest

from iql_jax.config import FinetuneConfig, base_config, from_mapping
from iql_jax.errors import UserError
from iql_jax.learner import Hyperparameters
from iql_jax.population_folder import PopulationFolder
from iql_jax.sweep import TRACED, members_of, populations, read_sweep

ROOT = Path(__file__).parent.parent
CONFIG = from_mapping({**base_config(), "dataset": "toy/toy-v0", "seed": 5})


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
    ("sweep", "said"),
    [
        ([{"expectil": 0.5}], "unknown config key 'expectil'; did you mean 'expectile'"),
        ([{"expectile": 1.5}], "config.expectile is 1.5"),
        ([{"progress": False}], "config.progress is of the whole command"),
        ([{"seed": 5}, {"seed": 5}], "two members of the sweep are the same: seed_5"),
        ([], "no members"),
    ],
)
def test_a_wrong_override_is_said(sweep, said):
    with pytest.raises(UserError, match=said):
        members_of(CONFIG, sweep)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def get_sweep(): return 3\n", "must return a grid"),
        ("def get_sweep(): return {'expectile': 0.5}\n", "must return a grid"),
        ("x = 1\n", r"defines no get_sweep\(\)"),
        ("def get_sweep(): return 1 / 0\n", "fails with ZeroDivisionError"),
    ],
)
def test_a_wrong_sweep_file_is_said(tmp_path, text, said):
    with pytest.raises(UserError, match=said):
        read_sweep(sweep_file(tmp_path, text))


def test_a_missing_sweep_file_is_said(tmp_path):
    with pytest.raises(UserError, match="not a Python file"):
        read_sweep(tmp_path / "none.py")


def test_fine_tuning_refuses_seeds():
    with pytest.raises(UserError, match="one seed at a time"):
        FinetuneConfig(dataset="toy/toy-v0", num_seeds=2)


def test_members_that_differ_in_traced_numbers_are_one_population():
    traced = {
        "seed": 9,
        "expectile": 0.8,
        "temperature": 1.0,
        "max_weight": 50.0,
        "discount": 0.9,
        "tau": 0.01,
        "actor_lr": 1e-3,
        "value_lr": 1e-3,
        "critic_lr": 1e-3,
        "opt_decay_schedule": "none",
    }
    # Every hyperparameter of the learner can be swept, the decay by the name of its schedule.
    swept = {*TRACED, "actor_decay_steps"} - {"seed", "opt_decay_schedule"}
    assert swept == set(Hyperparameters.__dataclass_fields__)
    assert set(traced) <= set(TRACED)
    members = members_of(CONFIG, [{}, *({key: value} for key, value in traced.items())])
    assert len(populations(members, 0)) == 1


def test_the_weight_of_cloning_is_a_number_and_the_extraction_is_structure():
    alphas = [{"extraction": "ddpgbc", "bc_alpha": alpha} for alpha in (0.1, 1.0)]
    groups = populations(members_of(CONFIG, [{}, *alphas]), 0)
    assert [len(group) for group in groups] == [1, 2]


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


def test_a_population_is_cut_into_parts_of_the_given_size():
    members = members_of(dataclasses.replace(CONFIG, num_seeds=5))
    assert [len(group) for group in populations(members, 2)] == [2, 2, 1]


def test_what_was_begun_stays_together_and_new_members_follow(tmp_path):
    three = members_of(dataclasses.replace(CONFIG, num_seeds=3))
    five = members_of(dataclasses.replace(CONFIG, num_seeds=5))
    with PopulationFolder(tmp_path) as folder:
        assert len(folder.plan(five, 0)) == 1  # Not begun: forgotten by the next plan.
        assert names(p.members for p in folder.plan(three, 2)) == [["seed_5", "seed_6"], ["seed_7"]]
        for name in ("seed_5", "seed_7"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "config.json").touch()
        assert names(p.members for p in folder.plan(five, 0)) == [
            ["seed_5", "seed_6"], ["seed_7"], ["seed_8", "seed_9"],
        ]  # fmt: skip
        with pytest.raises(UserError, match=r"members that this command has not \(seed_7\)"):
            folder.plan(three[:2], 0)


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "sweeps").glob("*.py")))
def test_the_packaged_sweeps_are_sweeps(path):
    members = members_of(CONFIG, read_sweep(path))
    assert len(populations(members, 0)) == 1
    assert len(members) == {"pointmaze": 24, "antmaze_expectile": 15}[path.stem]
