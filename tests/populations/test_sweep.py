import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from iql_jax.algorithm.learner import Hyperparameters
from iql_jax.populations import plots as population_plots
from iql_jax.populations import report as population_report
from iql_jax.populations.folder import PopulationFolder
from iql_jax.populations.sweep import TRACED, members_of, populations, read_sweep
from iql_jax.training.config import FinetuneConfig, base_config, from_mapping
from iql_jax.utils.errors import UserError

ROOT = Path(__file__).parents[2]
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


def test_numbers_may_be_numpys():
    sweep = [{"expectile": x, "seed": s} for x in np.array([0.5, 0.75]) for s in np.arange(2)]
    members = members_of(CONFIG, sweep)
    assert [member.name for member in members[:2]] == [
        "expectile_0.5-seed_0",
        "expectile_0.5-seed_1",
    ]
    assert [type(value) for value in members[0].overrides.values()] == [float, int]
    # As a record holds them.
    assert from_mapping(json.loads(json.dumps(members[3].config.to_dict()))) == members[3].config


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ([{"expectil": 0.5}], "unknown config key 'expectil'; did you mean 'expectile'"),
        ([{"expectile": 1.5}], "config.expectile is 1.5"),
        ([{"progress": False}], "config.progress is of the whole command"),
        ([{"eval_envs": 3}], "config.eval_envs is of the whole command"),
        ([{"num_envs": 4}], "config key 'num_envs' is one of fine-tuning"),
        ([{"seed": 5}, {"seed": 5}], r"two members of the sweep are the same: seed_5$"),
        ([{}, {"expectile": 0.7}], "the same: seed_5 and expectile_0.7-seed_5"),
        ([{"dataset": "a/b-v0"}, {"dataset": "a-b-v0"}], "would have one folder, dataset_a-b-v0"),
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
        with pytest.raises(UserError, match=r"members that this command does not \(seed_7\)"):
            folder.plan(three[:2], 0)


def begin(population):
    """As a population's run does: each member has a record from then on."""
    for path in population.folders:
        path.mkdir()
        (path / "config.json").touch()


def test_what_is_too_large_is_divided_while_it_has_no_checkpoint(tmp_path, capsys):
    members = members_of(dataclasses.replace(CONFIG, num_seeds=3))
    with PopulationFolder(tmp_path) as folder:
        (whole,) = folder.plan(members, 0)
        begin(whole)
        (whole.folder / "checkpoints" / "5.orbax-checkpoint-tmp").mkdir(parents=True)
        parts = folder.plan(members, 2)
        assert names(p.members for p in parts) == [["seed_5", "seed_6"], ["seed_7"]]
        assert whole.folder not in [part.folder for part in parts]
        (parts[0].folder / "checkpoints" / "5").mkdir(parents=True)
        assert capsys.readouterr().err == ""
        assert names(p.members for p in folder.plan(members, 1)) == names(p.members for p in parts)
    assert "2 members go on together, more than the 1 of population_size" in capsys.readouterr().err


def test_what_has_ended_is_not_divided(tmp_path):
    members = members_of(dataclasses.replace(CONFIG, num_seeds=2))
    with PopulationFolder(tmp_path) as folder:
        (whole,) = folder.plan(members, 0)
        begin(whole)
        for path in whole.folders:
            (path / "failure.json").touch()
        assert len(folder.plan(members, 1)) == 1


def test_no_population_gets_the_checkpoints_of_another(tmp_path):
    members = members_of(dataclasses.replace(CONFIG, num_seeds=2))

    def plan():
        with PopulationFolder(tmp_path) as folder:
            return {p.members[0].name: p.folder for p in folder.plan(members, 1)}

    def begin(planned):
        for name, folder in planned.items():
            folder.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "config.json").touch()

    first = plan()
    begin(first)
    assert plan() == first
    shutil.rmtree(tmp_path / "seed_5")
    second = plan()
    assert second["seed_6"] == first["seed_6"]
    assert second["seed_5"] not in first.values()
    assert plan() == second  # It is not begun: the number is still free.
    begin(second)
    for member in members:
        shutil.rmtree(tmp_path / member.name)
    assert not set(plan().values()) & {*first.values(), *second.values()}


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "sweeps").glob("*.py")))
def test_the_packaged_sweeps_are_sweeps(path):
    members = members_of(CONFIG, read_sweep(path))
    assert len(populations(members, 0)) == 1
    assert len(members) == {"pointmaze": 24, "antmaze_expectile": 15}[path.stem]


# What is told of them.


def write_run(workdir, member, score, success_rate=None):
    folder = workdir / member.name
    folder.mkdir(parents=True)
    cells = ["" if cell is None else str(cell) for cell in (score, success_rate)]
    (folder / "evaluations.csv").write_text(
        f"update,score,success_rate,return_mean\n10,{','.join(cells)},5.0\n"
    )
    (folder / "summary.json").write_text("{}")


def test_pictures_of_several_datasets_say_so_and_what_they_leave_out(tmp_path, monkeypatch):
    drawn = []
    for picture in ("curves", "sweep"):
        monkeypatch.setattr(population_plots, picture, lambda *args: drawn.append(args))
    sweep = [{"dataset": f"toy/{name}-v0"} for name in ("maze", "hopper", "plain")]
    members = members_of(dataclasses.replace(CONFIG, num_seeds=2), sweep)
    for member, score in zip(members, (10.0, 30.0, 120.0, 90.0, None, None), strict=True):
        write_run(tmp_path, member, score, score / 100 if score and score < 50 else None)
    population_report.write(tmp_path, members)
    for _, found, label, title in drawn:
        assert title == "3 datasets, 6 members (1 setting without a score left out)"
        assert label == "score"
        assert [s.values["dataset"] for s in found] == ["toy/maze-v0", "toy/hopper-v0"]
        # A success rate lies between 0 and 100, another score need not.
        assert [s.bounds for s in found] == [(0.0, 100.0), (-np.inf, np.inf)]
    assert len(drawn) == 2


def test_pictures_count_the_members_that_they_lack(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(population_plots, "curves", lambda *args: drawn.append(args))
    members = members_of(dataclasses.replace(CONFIG, num_seeds=4))
    for member in members[:2]:
        write_run(tmp_path, member, 10.0)
    population_report.write(tmp_path, members)
    (tmp_path / members[2].name).mkdir()
    (tmp_path / members[2].name / "failure.json").write_text('{"reason": "not finite"}')
    population_report.write(tmp_path, members)
    titles = [args[-1] for args in drawn]
    assert titles == ["toy/toy-v0, 2 of 4 members", "toy/toy-v0, 2 of 4 members, 1 failed"]


def test_pictures_of_one_dataset_name_it(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(population_plots, "curves", lambda *args: drawn.append(args))
    members = members_of(dataclasses.replace(CONFIG, num_seeds=2))
    for member in members:
        write_run(tmp_path, member, 10.0)
    population_report.write(tmp_path, members)
    assert [args[-1] for args in drawn] == ["toy/toy-v0, 2 members"]
