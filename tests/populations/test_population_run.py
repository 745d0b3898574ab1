"""Whole populations, small, on a real environment: each member is what its run alone is."""

import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from minari_datasets import box, coded_episodes, write_dataset
from tables import untimed_rows

from iql_jax import evaluate
from iql_jax.data.download import DownloadFailed
from iql_jax.generation import provide
from iql_jax.generation.generate import generate
from iql_jax.outputs.folder import read_record
from iql_jax.populations import folder as population_folder
from iql_jax.populations import run as offline_sweep
from iql_jax.populations import train as population_run
from iql_jax.populations.mapped import stack
from iql_jax.populations.run import train_sweep
from iql_jax.populations.sweep import members_of
from iql_jax.training import report
from iql_jax.training.config import from_mapping
from iql_jax.training.evaluation import PopulationEvaluation
from iql_jax.training.offline import train_offline
from iql_jax.training.run import initial_state, load_source, load_state, open_runs
from iql_jax.utils.errors import UserError
from iql_jax.utils.locks import locked
from iql_jax.utils.signals import Interrupted, StopRequest

ROOT = Path(__file__).parents[2]

CONFIG = from_mapping(
    {
        "dataset": "iql/pointmaze/umaze-v0",
        "seed": 3,
        "reward_transform": "minus_one",
        "hidden_dims": (8,),
        "batch_size": 16,
        "max_steps": 60,
        "log_interval": 20,
        "eval_interval": 30,
        "eval_episodes": 2,
        "eval_envs": 2,
        "checkpoint_interval": 20,
        "progress": False,
    }
)
OTHER_DATASET = "iql/pointmaze/medium-v0"
SWEEP = [{"expectile": 0.6}, {"expectile": 0.9, "critic_lr": 1e-3}]
NAMES = [
    f"expectile_{e}-{more}seed_{seed}"
    for e, more in ((0.6, ""), (0.9, "critic_lr_0.001-"))
    for seed in (3, 4)
]


@pytest.fixture(scope="module", autouse=True)
def datasets(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        patch.setenv("IQL_JAX_CACHE", str(root / "cache"))
        for dataset in (CONFIG.dataset, OTHER_DATASET):
            generate(dataset, steps=1_500, seed=0, progress=False)
        yield


def members(num_seeds=2):
    return members_of(dataclasses.replace(CONFIG, num_seeds=num_seeds), SWEEP)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, datasets):
    folder = tmp_path_factory.mktemp("population")
    return folder, train_sweep(members(), folder)


def numbers(path):
    return [{name: float(cell) for name, cell in row.items()} for row in untimed_rows(path)]


def leaves(folder, config):
    state, step = load_state(folder, config, load_source(config))
    assert step == 60
    return jax.tree.leaves(state.replace(key=jax.random.key_data(state.key)))


def assert_same_member(folder, expected, config=None):
    for table in ("metrics.csv", "evaluations.csv"):
        for row, alone in zip(numbers(folder / table), numbers(expected / table), strict=True):
            assert row == pytest.approx(alone, rel=1e-5, abs=1e-6)
    if config is not None:
        for x, y in zip(leaves(folder, config), leaves(expected, config), strict=True):
            np.testing.assert_allclose(x, y, atol=1e-5)


@pytest.mark.parametrize("i", [0, 3])
def test_a_member_is_the_very_run_on_its_own(finished, tmp_path, i):
    member = members()[i]
    summary = train_offline(member.config, tmp_path)
    own = finished[0] / NAMES[i]
    assert {path.name for path in own.iterdir()} == {path.name for path in tmp_path.iterdir()}
    assert_same_member(own, tmp_path, member.config)
    records = [json.loads((folder / "config.json").read_text()) for folder in (own, tmp_path)]
    for record in records:
        del record["run_id"]
    assert records[0] == records[1]
    theirs = json.loads((own / "summary.json").read_text())
    for key in ("score", "return_mean", "updates", "seed", "eval_episodes", "dataset"):
        assert theirs[key] == summary[key]
    # A run on its own has nothing left to do here, and leaves it alone.
    before = (own / "metrics.csv").read_text()
    train_offline(member.config, own)
    assert (own / "metrics.csv").read_text() == before


def test_members_with_data_of_their_own_train_together(tmp_path, monkeypatch):
    # As where members are updated at once; in turn, for the sake of the same numbers.
    monkeypatch.setattr(population_folder, "maps_in_turn", lambda: False)
    sweep = [
        {"dataset": CONFIG.dataset},
        {"dataset": OTHER_DATASET, "maze_terminate_at_success": False},
        {"dataset": OTHER_DATASET, "maze_goal": "episode"},  # Observed: of another layout.
    ]
    mixed = members_of(CONFIG, sweep)
    rows = train_sweep(mixed, tmp_path / "together")
    assert [row["dataset"] for row in rows] == [member["dataset"] for member in sweep]
    planned = json.loads((tmp_path / "together" / "population.json").read_text())
    assert planned["populations"] == [[mixed[0].name, mixed[1].name], [mixed[2].name]]
    for member in mixed:
        alone = tmp_path / f"alone-{member.name}"
        train_offline(member.config, alone)
        own = tmp_path / "together" / member.name
        assert_same_member(own, alone, member.config)
        records = [json.loads((folder / "config.json").read_text()) for folder in (own, alone)]
        assert records[0]["dataset"] == records[1]["dataset"]
        assert (own / "value_map.png").exists()


def test_data_of_other_shapes_do_not_train_together(tmp_path):
    configs = [CONFIG, dataclasses.replace(CONFIG, maze_goal="episode")]
    with (
        pytest.raises(UserError, match=r"\(iql.*: 4 and 2; iql.*: 6 and 2\); --config.population_"),
        open_runs(configs, [tmp_path / "a", tmp_path / "b"]),
    ):
        pass
    assert not list(tmp_path.glob("*/config.json"))


def test_a_member_can_be_evaluated(finished, capsys):
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(workdir=str(finished[0] / NAMES[1])):
        evaluate.main([])
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    expected = json.loads((finished[0] / NAMES[1] / "summary.json").read_text())
    assert float(printed["length_mean"]) > 0
    assert float(printed["return_mean"]) == pytest.approx(expected["return_mean"], rel=1e-3)


def test_the_table_has_a_row_for_each_member(finished):
    folder, rows = finished
    assert [row["member"] for row in rows] == NAMES
    with (folder / "members.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [(row["expectile"], row["critic_lr"], row["seed"]) for row in written] == [
        ("0.6", "0.0003", "3"), ("0.6", "0.0003", "4"), ("0.9", "0.001", "3"), ("0.9", "0.001", "4")
    ]  # fmt: skip
    for row, name in zip(written, NAMES, strict=True):
        scores = [line["score"] for line in numbers(folder / name / "evaluations.csv")]
        assert (float(row["score"]), float(row["best_score"])) == (scores[-1], max(scores))
        assert (row["status"], row["failure"]) == ("finished", "")
    for picture in ("learning_curve.png", "sweep.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    summary = json.loads((folder / "populations" / "0" / "summary.json").read_text())
    assert (summary["members"], summary["failed"], summary["updates"]) == (4, 0, 240)


def stop_at(monkeypatch, update, stop):
    """Call ``stop`` instead of the evaluation at an update count, once."""
    evaluate_members = PopulationEvaluation.__call__

    def patched(self, actors, step, request, skipped=()):
        if step == update:
            monkeypatch.setattr(PopulationEvaluation, "__call__", evaluate_members)
            stop()
            request.check()
        return evaluate_members(self, actors, step, request, skipped)

    monkeypatch.setattr(PopulationEvaluation, "__call__", patched)


class Crash(Exception):
    """Stands for a kill: nothing catches it."""


def crash():
    raise Crash


@pytest.mark.parametrize("kind", ["killed", "stopped"])
def test_it_goes_on_exactly_where_it_was(finished, tmp_path, monkeypatch, kind):
    if kind == "killed":
        stop_at(monkeypatch, 60, crash)
        with pytest.raises(Crash):
            train_sweep(members(), tmp_path)
    else:
        stop_at(monkeypatch, 30, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted, match="SIGTERM at update 30; saved in") as caught:
            train_sweep(members(), tmp_path)
        assert caught.value.resumable
    assert not any(tmp_path.glob("*/summary.json"))
    rows = train_sweep(members(), tmp_path)
    assert rows == finished[1]
    for name in NAMES:
        for table in ("metrics.csv", "evaluations.csv"):
            assert numbers(tmp_path / name / table) == numbers(finished[0] / name / table)


def test_in_parts_and_with_a_member_that_came_later(finished, tmp_path, monkeypatch):
    stop_at(monkeypatch, 30, crash)
    with pytest.raises(Crash):
        train_sweep(members()[:2], tmp_path, limit=1)
    trained = []
    train = population_run.train_population
    monkeypatch.setattr(
        offline_sweep,
        "train_population",
        lambda population: (
            trained.append([m.name for m in population.members]) or train(population)
        ),
    )
    rows = train_sweep([*members()[:2], members()[3]], tmp_path, limit=2)
    assert trained == [[NAMES[0]], [NAMES[1], NAMES[3]]]
    assert rows == [row for row in finished[1] if row["member"] != NAMES[2]]
    for i in (0, 1, 3):
        assert_same_member(tmp_path / NAMES[i], finished[0] / NAMES[i])
    assert train_sweep([*members()[:2], members()[3]], tmp_path) == rows
    assert len(trained) == 2  # What is finished is not trained again.


def test_a_member_that_came_later_has_the_others_data(tmp_path, monkeypatch):
    """Even where the dataset that all ask for can be had by then, and its twin was trained on."""

    def fail(dataset_id, root):
        raise DownloadFailed("no network today")

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.setattr(provide, "download", fail)
    generate(CONFIG.dataset, steps=1_500, seed=0, progress=False)
    wanted = "D4RL/pointmaze/umaze-v2"
    config = dataclasses.replace(CONFIG, dataset=wanted, eval_episodes=0)
    folder = tmp_path / "runs"
    # As where members are updated at once, whose data's shapes decide who trains together.
    monkeypatch.setattr(population_folder, "maps_in_turn", lambda: False)
    looked_at = []
    monkeypatch.setattr(population_folder, "layout", lambda *args: looked_at.append(args))
    train_sweep(members_of(config), folder)
    write_dataset(wanted, coded_episodes(), box(4))
    both = members_of(dataclasses.replace(config, num_seeds=2))
    train_sweep(both, folder)
    for member in both:
        record = read_record(folder / member.name)["dataset"]
        assert (record["id"], record["requested_id"]) == (CONFIG.dataset, wanted)
    assert looked_at == [(CONFIG.dataset, "eval")] * 2


def test_checkpoints_of_runs_that_are_gone_are_not_taken(finished, tmp_path):
    two = members()[:2]
    train_sweep(two, tmp_path)
    shutil.rmtree(tmp_path / NAMES[0])
    before = (tmp_path / NAMES[1] / "metrics.csv").read_text()
    with pytest.raises(UserError, match=f"checkpoints of other runs of {NAMES[0]}; delete"):
        train_sweep(two, tmp_path)
    assert not (tmp_path / NAMES[0]).exists()
    assert (tmp_path / NAMES[1] / "metrics.csv").read_text() == before
    # All of them gone, they are trained anew.
    shutil.rmtree(tmp_path / NAMES[1])
    train_sweep(two, tmp_path)
    for name in NAMES[:2]:
        assert_same_member(tmp_path / name, finished[0] / name)


def test_a_stop_while_the_policies_are_shown_can_be_resumed(tmp_path, monkeypatch):
    shown = report.shown_paths

    def stopped(*args):
        monkeypatch.setattr(report, "shown_paths", shown)
        os.kill(os.getpid(), signal.SIGTERM)
        return shown(*args)

    monkeypatch.setattr(report, "shown_paths", stopped)
    with pytest.raises(Interrupted, match="SIGTERM") as caught:
        train_sweep(members()[:1], tmp_path)
    assert caught.value.resumable
    assert [row["status"] for row in train_sweep(members()[:1], tmp_path)] == ["finished"]


def test_an_environment_that_fails_in_an_evaluation_costs_no_updates(tmp_path, monkeypatch):
    def fail():
        raise UserError("the hinge broke")

    stop_at(monkeypatch, 30, fail)
    with pytest.raises(UserError, match="the hinge broke; update 30 is saved in"):
        train_sweep(members()[:2], tmp_path)
    assert [row["status"] for row in train_sweep(members()[:2], tmp_path)] == ["finished"] * 2


def test_a_policy_whose_actions_are_not_finite_has_no_result(datasets):
    configs = [member.config for member in members()[:2]]
    data = [load_source(config) for config in configs]
    actors = stack([initial_state(*pair) for pair in zip(configs, data, strict=True)]).actor
    spoilt = jax.tree.map(
        lambda x: np.concatenate([x[:1], np.full_like(x[1:], np.nan)]), actors.params
    )
    with StopRequest() as stop, PopulationEvaluation(configs, data, 2, 2) as evaluation:
        good, _ = evaluation(actors, 30, stop)
        found = evaluation(actors.replace(params=spoilt), 30, stop)
    assert found == [good, None]


def test_a_member_without_a_result_has_failed_and_gets_no_score(finished, tmp_path, monkeypatch):
    evaluate_members = PopulationEvaluation.__call__

    def spoil(self, actors, step, request, skipped=()):
        first, second = evaluate_members(self, actors, step, request, skipped)
        return [first, None] if step == 30 else [first, second]

    monkeypatch.setattr(PopulationEvaluation, "__call__", spoil)
    good, bad = train_sweep(members()[:2], tmp_path)
    assert (good["status"], bad["status"]) == ("finished", "failed")
    assert bad["failure"] == "actions not finite at update 30"
    assert not (tmp_path / NAMES[1] / "evaluations.csv").exists()
    assert_same_member(tmp_path / NAMES[0], finished[0] / NAMES[0])


def test_a_member_that_diverges_is_marked_and_the_others_go_on(finished, tmp_path, capsys):
    broken = members_of(CONFIG, [{"expectile": 0.6, "value_lr": 1e30, "critic_lr": 1e30}])
    rows = train_sweep([members()[0], *broken], tmp_path)
    good, bad = rows
    assert (good["status"], bad["status"]) == ("finished", "failed")
    assert "not finite between updates 0 and 20" in bad["failure"]
    assert f"member {bad['member']} has failed, the others go on" in capsys.readouterr().err
    assert_same_member(tmp_path / NAMES[0], finished[0] / NAMES[0])
    folder = tmp_path / bad["member"]
    assert (folder / "diagnosis" / "20").is_dir()
    assert not (folder / "summary.json").exists()
    # All of a population.
    rows = train_sweep(broken, tmp_path / "all")
    assert [row["status"] for row in rows] == ["failed"]


def test_a_command_whose_members_diverge_fails_again_and_again(tmp_path):
    settings = {**CONFIG.to_dict(), "num_seeds": 2, "value_lr": 1e30, "eval_episodes": 0}
    command = [
        sys.executable,
        "train_offline.py",
        "--config=configs/base.py",
        f"--workdir={tmp_path / 'runs'}",
        *(f"--config.{key}={setting}" for key, setting in settings.items()),
    ]
    for _ in range(2):
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert ended.returncode == 1
        (said,) = ended.stderr.splitlines()[-1:]
        assert "2 of 2 members have failed (seed_3, seed_4); " in said
        assert "runs/members.csv says why" in said


def test_a_folder_of_another_kind_is_refused(finished, tmp_path):
    folder = finished[0]
    with pytest.raises(UserError, match="holds a population of runs"):
        train_offline(CONFIG, folder)
    with pytest.raises(UserError, match="holds a single run"):
        train_sweep(members(), folder / NAMES[0])
    with pytest.raises(UserError, match="members that this command does not"):
        train_sweep(members()[:1], folder)


def test_finished_members_are_not_taken_for_those_of_other_settings(finished):
    folder = finished[0]
    config = dataclasses.replace(CONFIG, num_seeds=2, discount=CONFIG.discount - 0.01)
    with pytest.raises(UserError, match=f"{NAMES[0]} belongs to a run with other settings"):
        train_sweep(members_of(config, SWEEP), folder)


def start_processes(workdir, num_members, **changes):
    """Two processes with two devices each train the first members, of a changed config."""
    config = dataclasses.replace(CONFIG, num_seeds=2, **changes)
    script = f"""
import sys
from iql_jax import cli
from iql_jax.utils import hosts
from iql_jax.training.config import from_mapping
from iql_jax.populations.run import train_sweep
from iql_jax.populations.sweep import members_of
from pathlib import Path
config = from_mapping({dataclasses.asdict(config)!r})
members = members_of(config, {SWEEP!r})[:{num_members}]
hosts.start("localhost:" + sys.argv[1], 2, int(sys.argv[2]))
cli.guard(lambda: train_sweep(members, Path({str(workdir)!r})))
"""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    return [
        subprocess.Popen(
            [sys.executable, "-c", script, port, str(i)],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]


def ended(processes):
    """What processes return and say."""
    said = [process.communicate(timeout=300)[1] for process in processes]
    return [process.returncode for process in processes], said


# Of one member, one of the two processes evaluates none.
@pytest.mark.parametrize("num_members", [3, 1])
def test_processes_train_a_population_together(finished, tmp_path, num_members):
    codes, said = ended(start_processes(tmp_path, num_members))
    assert codes == [0, 0], said
    # One of them writes and speaks.
    assert f"{num_members} members done" in said[0]
    assert "done" not in said[1]
    for i in range(num_members):
        assert_same_member(tmp_path / NAMES[i], finished[0] / NAMES[i], members()[i].config)
    summary = json.loads((tmp_path / "populations" / "0" / "summary.json").read_text())
    assert summary["processes"] == 2
    assert summary["device"].endswith("x 4")


def test_of_processes_none_waits_for_one_that_fails(finished, tmp_path):
    """Another command holds the folder of a member, which only the writer would open."""
    (tmp_path / "population.json").write_text('{"populations": []}')
    with locked(tmp_path / NAMES[0] / ".lock"):
        codes, said = ended(start_processes(tmp_path, 1))
    assert codes == [1, 1], said
    for text in said:
        assert "another process is training in" in text.splitlines()[-1]


def test_of_processes_none_waits_for_one_that_the_system_refuses(tmp_path):
    """The writer cannot replace its record, which is a folder that holds something."""
    (tmp_path / "population.json").write_text('{"populations": []}')
    (tmp_path / NAMES[0] / ".config.partial.json" / "in the way").mkdir(parents=True)
    codes, said = ended(start_processes(tmp_path, 1))
    assert codes == [1, 1], said
    assert "Is a directory" in said[0].splitlines()[-1]
    assert "another process failed: IsADirectoryError" in said[1].splitlines()[-1]


def test_of_processes_none_waits_for_one_without_its_environment(tmp_path):
    """Of one member, the second process evaluates, and the first has nothing to build."""
    write_dataset("test/nowhere-v0", coded_episodes(), box(4))
    codes, said = ended(start_processes(tmp_path, 1, dataset="test/nowhere-v0"))
    assert codes == [1, 1], said
    for text in said:
        assert "test/nowhere-v0 names no environment" in text.splitlines()[-1]


def test_a_signal_to_one_process_stops_all(tmp_path):
    processes = start_processes(tmp_path, 2, max_steps=10**6, eval_interval=10**6)
    deadline = time.monotonic() + 200
    while not (tmp_path / "populations" / "0" / "checkpoints" / "20").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)
    codes, said = ended(processes)
    assert codes == [128 + signal.SIGTERM] * 2, said
    steps = {re.search(r"at update ([\d,]+); saved in", text)[1] for text in said}
    assert len(steps) == 1
    newest = max(int(path.name) for path in (tmp_path / "populations/0/checkpoints").iterdir())
    assert steps == {f"{newest:,}"}
