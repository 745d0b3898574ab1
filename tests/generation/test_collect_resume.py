"""A making that is interrupted goes on from what is finished, to the same bits."""

import errno
import functools
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import minari
import pytest

from iql_jax.generation import catalog, collecting, parts, pointmaze, reproducibility
from iql_jax.generation.workspace import is_being_made, open_workspace
from iql_jax.utils.errors import UserError
from iql_jax.utils.processes import available_cores
from iql_jax.utils.signals import Interrupted

ID = "iql/pointmaze/umaze-v0"
OTHER_ID = "iql/pointmaze/medium-v0"
STEPS = 3000  # Six shards of 500.
MAKE = functools.partial(catalog.make, ID, steps=STEPS, progress=False, score_episodes=2)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The files of a dataset that was made in one go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("uninterrupted")))
        return _contents(MAKE())


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


@pytest.fixture
def collected(monkeypatch):
    """The indices of the shards that are collected, in this process."""
    indices = []
    _before_each_shard(monkeypatch, lambda shard: indices.append(shard.index))
    return indices


def _before_each_shard(monkeypatch, action):
    collect_shard = pointmaze.collect_shard

    @functools.wraps(collect_shard)
    def acting(shard):
        action(shard)
        return collect_shard(shard)

    monkeypatch.setattr(pointmaze, "collect_shard", acting)


def _contents(path):
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file()
    }


def _parts(root, kind="shard"):
    return sorted(root.glob(f".iql_jax-making-*/parts-*/{kind}-*.npz"))


def _interrupt_after(count, **arguments):
    """Begin the dataset, and stop it with Ctrl-C while a number of shards is made."""
    with pytest.MonkeyPatch.context() as patch:
        _before_each_shard(
            patch, lambda shard: shard.index == count - 1 and signal.raise_signal(signal.SIGINT)
        )
        with pytest.raises(Interrupted):
            MAKE(**arguments)


def _hidden(root):
    return [path for path in root.iterdir() if path.name.startswith(".")]


def collect_shard_and_kill(shard):
    """What workers run in the test below: the fourth shard kills the making process."""
    if shard.index == 3:
        os.kill(multiprocessing.parent_process().pid, signal.SIGKILL)
        time.sleep(600)
    return pointmaze.collect_shard(shard)


def _await_end_of_group(group):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    pytest.fail("the workers do not end by themselves")


def test_a_killed_making_goes_on(root, uninterrupted, collected, capsys):
    code = (
        "import dataclasses, test_collect_resume;"
        "from iql_jax.generation import collecting, pointmaze;"
        f"plan = pointmaze.plan({ID!r}, task='umaze', steps={STEPS}, seed=0);"
        "killing = test_collect_resume.collect_shard_and_kill;"
        "plan = dataclasses.replace(plan, collect_shard=killing);"
        "collecting.collect(plan, progress=False, workers=2, score_episodes=2)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(__file__))},
        start_new_session=True,
    )
    assert process.wait(timeout=120) == -signal.SIGKILL
    _await_end_of_group(process.pid)
    kept = _parts(root)
    assert 2 <= len(kept) <= 5
    assert "shard-00003.npz" not in [path.name for path in kept]
    assert list(root.glob(".iql_jax-making-*/new"))
    assert _contents(MAKE()) == uninterrupted
    assert f"{ID}: going on with {500 * len(kept):,} of 3,000 steps" in capsys.readouterr().err
    assert len(collected) == 6 - len(kept)
    assert _hidden(root) == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_is_finished(root, uninterrupted, monkeypatch, capsys, signum):
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        _before_each_shard(patch, lambda shard: shard.index == 3 and signal.raise_signal(signum))
        with pytest.raises(Interrupted, match=r"2,000 of 3,000 steps of .* made and kept") as error:
            MAKE()
    assert (error.value.signum, error.value.resumable) == (signum, True)
    assert signal.getsignal(signal.SIGTERM) == before
    assert [path.name for path in root.iterdir()] == [".iql_jax-making-iql.pointmaze.umaze-v0"]
    assert list(minari.list_local_datasets()) == []
    assert _contents(MAKE()) == uninterrupted
    assert capsys.readouterr().err == f"{ID}: going on with 2,000 of 3,000 steps already made\n"


def test_a_signal_too_late_to_stop_anything_still_ends_the_program(
    uninterrupted, root, monkeypatch
):
    score_run = pointmaze.score_run

    def signal_at_last(run):
        if run.planned:
            signal.raise_signal(signal.SIGINT)
        return score_run(run)

    monkeypatch.setattr(pointmaze, "score_run", signal_at_last)
    with pytest.raises(Interrupted) as error:
        MAKE()
    assert not error.value.resumable
    assert _contents(root / ID) == uninterrupted


def test_it_is_made_in_any_thread(uninterrupted):
    with ThreadPoolExecutor(1) as executor:
        assert _contents(executor.submit(MAKE).result()) == uninterrupted


def test_a_crash_keeps_what_is_finished_too(uninterrupted, collected):
    def crash(shard):
        if shard.index == 3:
            raise RuntimeError

    with pytest.MonkeyPatch.context() as patch:
        _before_each_shard(patch, crash)
        with pytest.raises(RuntimeError):
            MAKE()
    collected.clear()
    assert _contents(MAKE()) == uninterrupted
    assert collected == [3, 4, 5]


def test_scores_go_on_too(root, uninterrupted, monkeypatch, collected):
    def stop(run):
        if not run.planned:
            signal.raise_signal(signal.SIGINT)
        return score_run(run)

    score_run = pointmaze.score_run
    with monkeypatch.context() as patch:
        patch.setattr(pointmaze, "score_run", stop)
        with pytest.raises(Interrupted):
            MAKE()
    assert len(_parts(root, "score")) == 1
    collected.clear()
    runs = []
    monkeypatch.setattr(pointmaze, "score_run", lambda run: runs.append(run) or score_run(run))
    assert _contents(MAKE()) == uninterrupted
    assert collected == []
    assert [run.planned for run in runs] == [True]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(path, path.stat().st_size - 100),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes().replace(b"actions", b"factual")),
        lambda path: path.write_bytes(path.read_bytes()[:9000] + b"?" + path.read_bytes()[9001:]),
    ],
    ids=["truncated", "empty", "other names", "a byte"],
)
def test_a_damaged_part_is_made_again(root, uninterrupted, collected, capsys, damage):
    _interrupt_after(3)
    damage(_parts(root)[1])
    (_parts(root)[0].parent / "shard-00005.123").write_text("half")
    collected.clear()
    assert _contents(MAKE()) == uninterrupted
    assert collected == [1, 3, 4, 5]
    said = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"the part .*shard-00001.npz is damaged \(.*\); making it again", said[0])
    assert said[1] == f"{ID}: going on with 1,000 of 3,000 steps already made"


@pytest.mark.parametrize("change", [{"seed": 1}, {"steps": 2999}, {"score_episodes": 1}])
def test_parts_of_other_content_are_removed(root, collected, change, capsys):
    _interrupt_after(3)
    before = _parts(root)[0].parent
    collected.clear()
    _interrupt_after(2, **change)
    assert collected == [0, 1]
    assert not before.exists()
    assert len(_parts(root)) == 2
    assert capsys.readouterr().err == ""


def test_parts_of_other_versions_are_removed(monkeypatch, collected):
    _interrupt_after(3)
    collected.clear()
    monkeypatch.setattr(reproducibility, "package_versions", lambda: {"mujoco": "9"})
    MAKE()
    assert collected == [0, 1, 2, 3, 4, 5]


def test_parts_of_other_code_are_removed(monkeypatch, collected):
    _interrupt_after(3)
    collected.clear()
    monkeypatch.setattr(collecting, "code_digest", lambda: "another")
    MAKE()
    assert collected == [0, 1, 2, 3, 4, 5]


def test_what_dead_processes_left_is_swept(root):
    _interrupt_after(1)
    (other,) = _hidden(root)
    other = other.rename(other.with_name(".iql_jax-making-iql.pointmaze.medium-v0"))
    for folder in (other, root / ".iql_jax-making-x1y2z3"):
        (folder / "new" / "data").mkdir(parents=True)
        (folder / "new" / "data" / "main_data.hdf5").write_text("half")
    (root / ".iql_jax-making-x1y2z3" / "parts-of-nothing").mkdir()
    _interrupt_after(1)
    assert {path.name for path in _hidden(root)} == {
        ".iql_jax-making-iql.pointmaze.umaze-v0",
        ".iql_jax-making-iql.pointmaze.medium-v0",
    }
    assert {path.name.partition("-")[0] for path in other.iterdir()} == {"lock", "parts"}
    assert len(_parts(root)) == 2


def test_what_other_processes_are_making_is_left_alone(root):
    with open_workspace(OTHER_ID, "digest") as workspace:
        (workspace.folder / "new").mkdir()
        (workspace.folder / "new" / "file").write_text("half")
        MAKE()
        assert (workspace.folder / "new" / "file").exists()
    assert _hidden(root) == []


def test_a_second_process_is_refused(root):
    with open_workspace(ID, "digest"):
        (root / ".iql_jax-making-iql.pointmaze.umaze-v0" / "new").mkdir()
        with pytest.raises(UserError, match=f"another process is making {ID} in {root}: wait"):
            MAKE()
        assert (root / ".iql_jax-making-iql.pointmaze.umaze-v0" / "new").exists()
    assert MAKE().exists()


def test_whether_a_dataset_is_being_made(root):
    assert not is_being_made(ID)
    with open_workspace(ID, "digest"):
        assert is_being_made(ID)
        assert not is_being_made(OTHER_ID)
    assert not is_being_made(ID)
    _interrupt_after(2)
    assert _parts(root)
    assert not is_being_made(ID)


def test_a_dataset_that_is_a_link_is_replaced_and_what_it_leads_to_left(root, uninterrupted):
    elsewhere = root.parent / "elsewhere"
    MAKE(steps=300).rename(elsewhere)
    (root / ID).symlink_to(elsewhere)
    before = _contents(elsewhere)
    assert _contents(MAKE(force=True)) == uninterrupted
    assert not (root / ID).is_symlink()
    assert _contents(elsewhere) == before
    assert _hidden(root) == []


def test_a_relative_link_is_put_back_where_the_replacement_fails(root, monkeypatch):
    MAKE(steps=300).rename(root.parent / "elsewhere")
    (root / ID).symlink_to("../../../elsewhere")
    move = os.replace

    def fail(source, target):
        if Path(source).name == "new":
            raise PermissionError(errno.EACCES, "not allowed")
        move(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError, match="cannot be moved"):
        MAKE(force=True)
    assert (root / ID).is_symlink()
    assert minari.load_dataset(ID).total_steps == 300


def test_what_another_process_has_just_made_is_not_made_again(root, monkeypatch):
    plan = pointmaze.plan

    def beaten(*args, **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(pointmaze, "plan", plan)
            MAKE(steps=300)
        return plan(*args, **kwargs)

    monkeypatch.setattr(pointmaze, "plan", beaten)
    MAKE()
    assert minari.load_dataset(ID).total_steps == 300
    assert _hidden(root) == []


SCRIPT = """
from iql_jax.generation import catalog, pointmaze
catalog.make("iql/pointmaze/umaze-v0", 200_000, progress=False)
"""


@pytest.mark.skipif(available_cores() == 1, reason="one core collects without workers")
def test_a_script_that_its_own_workers_begin_anew_says_what_is_wrong(root, tmp_path):
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    ended = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 1
    assert "below `if __name__ == '__main__':`" in ended.stderr
    assert "a worker process ended without a result; what it said is above" in ended.stderr
    assert _hidden(root) == []


def test_a_replacement_that_fails_leaves_the_dataset_where_it_was(root, monkeypatch):
    before = _contents(MAKE(steps=300))
    move = os.replace

    def fail(source, target):
        if Path(source).name == "new":
            raise PermissionError(errno.EACCES, "not allowed")
        move(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(UserError, match=f"to {root / ID}: not allowed"):
            MAKE(force=True)
    assert _contents(root / ID) == before


@pytest.mark.parametrize("other", [ID, OTHER_ID])
def test_a_kill_between_the_two_moves_of_a_replacement_is_mended(root, other):
    before = _contents(MAKE(steps=300))
    folder = root / ".iql_jax-making-iql.pointmaze.umaze-v0"
    folder.mkdir()
    (root / ID).rename(folder / "old")
    # Whichever dataset is made next.
    with pytest.raises(RuntimeError, match="the next making"), open_workspace(other, "digest"):
        raise RuntimeError("the next making fails too")
    assert _contents(root / ID) == before
    assert _hidden(root) == []


def test_a_full_disk_keeps_what_is_finished(root, uninterrupted, monkeypatch):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(shard):
        if shard.index == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))

    try:
        with monkeypatch.context() as patch:
            _before_each_shard(patch, fill)
            with pytest.raises(UserError, match=r"no space left .* \(1,500 of 3,000 steps of"):
                MAKE()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(_parts(root)) == 3
    assert _contents(MAKE()) == uninterrupted


def test_the_room_that_is_left_to_fill_is_asked_for(monkeypatch):
    _interrupt_after(2)
    asked = []

    def refuse(*_, expected_bytes, **__):
        asked.append(expected_bytes)
        raise UserError("no space left")

    monkeypatch.setattr(collecting, "new_dataset", refuse)
    with pytest.raises(UserError, match=r"no space left \(1,000 of 3,000 steps"):
        MAKE()
    assert asked == [3000 * pointmaze._FILE_BYTES + 2000 * pointmaze._PART_BYTES]


def test_the_bound_on_the_size_of_parts_holds(root):
    root.mkdir()
    shards = pointmaze.plan_shards("umaze", 100_000, seed=0)[:5]
    for shard in shards:
        parts.write_part(root / f"{shard.index}.npz", pointmaze.collect_shard(shard))
    size = sum(path.stat().st_size for path in root.glob("*.npz"))
    assert size <= 5000 * pointmaze._PART_BYTES


def test_the_progress_bar_starts_at_what_is_made(capsys):
    _interrupt_after(4)
    MAKE(progress=True)
    bars = re.findall(r"(\d+)/3000 \[", capsys.readouterr().err)
    assert bars[0] == "2000"
    assert bars[-1] == "3000"
