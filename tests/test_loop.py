"""The training loop on a toy state: what happens when, and that interruptions leave no trace."""

import contextlib
import csv
import itertools
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from iql_jax.checkpointing import Checkpoints
from iql_jax.config import from_mapping
from iql_jax.errors import Diverged, UserError
from iql_jax.interrupts import Interrupted
from iql_jax.loop import Loop
from iql_jax.metrics import TIMED
from iql_jax.phases import Phase, Stretch

ROOT = Path(__file__).parent.parent

CONFIG = {
    "dataset": "toy/toy-v0",
    "max_steps": 5_300,
    "log_interval": 700,
    "eval_interval": 1_200,
    "checkpoint_interval": 900,
    "progress": False,
}


def settings_of(changes):
    return {**CONFIG, **(changes or {})}


class Crash(Exception):
    """Stands for a kill: nothing of the loop catches it."""


class Toy:
    """A state whose trajectory depends on every update, and a record of what was asked of it."""

    def __init__(self, folder, settings=None, fail_at=None, signal_at=None, signal_in_eval=None):
        self.fail_at, self.signal_at, self.signal_in_eval = fail_at, signal_at, signal_in_eval
        self.calls = itertools.count(1)
        self.evaluated = []
        self.made = []
        self.loop = Loop(
            config=from_mapping(settings_of(settings)),
            folder=folder,
            record={"run_id": "1", "config": {}},
            phases=[Phase(settings_of(settings)["max_steps"], self.stretch)],
            evaluate=self.evaluate,
            template=(jnp.ones(3, jnp.float32), jnp.zeros((), jnp.int32)),
            started=0.0,
        )

    def stretch(self, state, num_updates, stop):
        state, metrics = self.advance(state, num_updates)
        return Stretch(state, metrics, steps=num_updates, updates=num_updates)

    def advance(self, state, num_updates):
        call = next(self.calls)
        if call == self.fail_at:
            raise Crash
        if call == self.signal_at:
            os.kill(os.getpid(), signal.SIGTERM)
        self.made.append(num_updates)
        x, step = np.asarray(state[0]), int(state[1])
        losses = []
        for _ in range(num_updates):
            step += 1
            x = np.sin(x * np.float32(1.1) + np.float32(step))
            losses.append(x.mean())
        metrics = {"loss": jnp.asarray(np.mean(losses), jnp.float32)}
        return (jnp.asarray(x), jnp.asarray(step, jnp.int32)), metrics

    def evaluate(self, state, update, stop):
        assert int(state[1]) == update
        if update == self.signal_in_eval:
            os.kill(os.getpid(), signal.SIGINT)
            stop.check()
            pytest.fail("the stop request did not come through")
        self.evaluated.append(update)
        return {"score": None, "return_mean": float(state[0][0])}


def rows(folder, table):
    with (folder / f"{table}.csv").open(newline="") as file:
        return [
            {name: cell for name, cell in row.items() if name not in TIMED}
            for row in csv.DictReader(file)
        ]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    toy = Toy(folder)
    state, progress = toy.loop.run()
    return folder, state, progress, toy


def assert_same_run(folder, state, uninterrupted):
    whole, expected, *_ = uninterrupted
    np.testing.assert_array_equal(state[0], expected[0])
    for table in ("metrics", "evaluations"):
        assert rows(folder, table) == rows(whole, table)


def test_each_thing_happens_at_its_interval_and_at_the_end(uninterrupted):
    folder, state, progress, toy = uninterrupted
    assert int(state[1]) == progress.step == 5_300
    assert toy.evaluated == [1_200, 2_400, 3_600, 4_800, 5_300]
    assert [int(row["update"]) for row in rows(folder, "metrics")] == [
        700, 1_400, 2_100, 2_800, 3_500, 4_200, 4_900, 5_300,
    ]  # fmt: skip
    saved = sorted(int(path.name) for path in (folder / "checkpoints").iterdir())
    assert saved == [3_600, 4_500, 5_300]


def test_logged_metrics_are_means_over_the_updates_since_the_row_before(uninterrupted):
    x, means = np.ones(3, np.float32), []
    for step in range(1, 1_401):
        x = np.sin(x * np.float32(1.1) + np.float32(step))
        means.append(x.mean())
    logged = [float(row["loss"]) for row in rows(uninterrupted[0], "metrics")[:2]]
    np.testing.assert_allclose(logged, [np.mean(means[:700]), np.mean(means[700:])], atol=1e-6)


@pytest.mark.parametrize("crash", [1, 2, 5, 9, 13, 17])
def test_a_killed_run_resumes_to_the_same_end(tmp_path, uninterrupted, crash):
    with pytest.raises(Crash):
        Toy(tmp_path, fail_at=crash).loop.run()
    state, _ = Toy(tmp_path).loop.run()
    assert_same_run(tmp_path, state, uninterrupted)


def test_a_run_killed_again_and_again_resumes_to_the_same_end(tmp_path, uninterrupted):
    for crash in (6, 3, 4, 2, 5):
        with pytest.raises(Crash):
            Toy(tmp_path, fail_at=crash).loop.run()
    state, _ = Toy(tmp_path).loop.run()
    assert_same_run(tmp_path, state, uninterrupted)


@pytest.mark.parametrize("call", [1, 4, 8, 12])
def test_sigterm_saves_and_says_where(tmp_path, uninterrupted, call):
    stopped = Toy(tmp_path, signal_at=call)
    with pytest.raises(Interrupted) as caught:
        stopped.loop.run()
    assert caught.value.signum == signal.SIGTERM
    assert str(tmp_path) in str(caught.value)
    assert "SIGTERM" in str(caught.value)
    resumed = Toy(tmp_path)
    state, _ = resumed.loop.run()
    assert_same_run(tmp_path, state, uninterrupted)
    # Nothing done before the signal is done twice.
    assert sum(stopped.made) + sum(resumed.made) == 5_300


def test_ctrl_c_during_an_evaluation_repeats_that_evaluation_alone(tmp_path, uninterrupted):
    with pytest.raises(Interrupted) as caught:
        Toy(tmp_path, signal_in_eval=2_400).loop.run()
    assert caught.value.signum == signal.SIGINT
    toy = Toy(tmp_path)
    state, _ = toy.loop.run()
    assert toy.evaluated == [2_400, 3_600, 4_800, 5_300]
    assert_same_run(tmp_path, state, uninterrupted)


def test_a_stop_in_the_last_stretch_is_one(tmp_path, uninterrupted):
    stretches = len(uninterrupted[3].made)
    with pytest.raises(Interrupted, match="SIGTERM at update 5,300; saved in") as caught:
        Toy(tmp_path, signal_at=stretches).loop.run()
    assert caught.value.resumable
    state, _ = Toy(tmp_path, fail_at=1).loop.run()
    assert_same_run(tmp_path, state, uninterrupted)


def test_an_environment_that_fails_in_an_evaluation_costs_no_updates(tmp_path, uninterrupted):
    toy = Toy(tmp_path)

    def fail(state, update, stop):
        if update == 2_400:
            raise UserError("the hinge broke")
        return toy.evaluate(state, update, stop)

    object.__setattr__(toy.loop, "evaluate", fail)
    with pytest.raises(UserError) as caught:
        toy.loop.run()
    assert str(caught.value) == f"the hinge broke; update 2,400 is saved in {tmp_path}"
    mended = Toy(tmp_path)
    state, _ = mended.loop.run()
    assert mended.evaluated[0] == 2_400
    assert sum(toy.made) + sum(mended.made) == 5_300
    assert_same_run(tmp_path, state, uninterrupted)


def test_a_policy_that_diverged_is_not_saved_by_its_evaluation(tmp_path):
    toy = Toy(tmp_path)

    def fail(state, update, stop):
        raise Diverged("the action is not finite")

    object.__setattr__(toy.loop, "evaluate", fail)
    with pytest.raises(Diverged, match=r"^the action is not finite$"):
        toy.loop.run()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["900"]


def test_an_interruption_can_be_sent_to_another_process():
    sent = pickle.loads(pickle.dumps(Interrupted(15, "stopped; saved", resumable=True)))
    assert (sent.signum, str(sent), sent.resumable) == (15, "stopped; saved", True)


def test_handlers_are_given_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    Toy(tmp_path, {"max_steps": 10}).loop.run()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_finished_run_does_nothing_more(tmp_path):
    Toy(tmp_path, {"max_steps": 1_500}).loop.run()
    before = (tmp_path / "evaluations.csv").read_text()
    again = Toy(tmp_path, {"max_steps": 1_500}, fail_at=1)
    state, progress = again.loop.run()
    assert progress.step == int(state[1]) == 1_500
    assert (again.evaluated, (tmp_path / "evaluations.csv").read_text()) == ([], before)


def test_a_truncated_newest_checkpoint_falls_back_to_the_one_before(
    tmp_path, uninterrupted, capsys
):
    with pytest.raises(Crash):
        Toy(tmp_path, fail_at=12).loop.run()
    saved = sorted((tmp_path / "checkpoints").iterdir(), key=lambda path: int(path.name))
    assert len(saved) >= 2
    for file in (saved[-1] / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    state, _ = Toy(tmp_path).loop.run()
    said = capsys.readouterr().err
    assert f"checkpoint {saved[-1]} cannot be read" in said
    assert f"resuming {tmp_path} at update {int(saved[-2].name):,}" in said
    assert_same_run(tmp_path, state, uninterrupted)


def test_when_no_checkpoint_can_be_read_the_run_does_not_start_anew(tmp_path):
    with pytest.raises(Crash):
        Toy(tmp_path, fail_at=5).loop.run()
    for file in (tmp_path / "checkpoints").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    for _ in range(2):  # Neither the first start nor the next.
        with pytest.raises(UserError, match="none of the checkpoints"):
            Toy(tmp_path).loop.run()


def test_a_loss_that_is_not_finite_stops_and_saves_for_diagnosis(tmp_path):
    toy = Toy(tmp_path)
    advance = toy.advance

    def broken(state, num_updates):
        state, metrics = advance(state, num_updates)
        if int(state[1]) >= 2_000:
            metrics = {"loss": jnp.asarray(jnp.nan)}
        return state, metrics

    toy.advance = broken
    with pytest.raises(
        UserError, match=r"loss not finite between updates 1,800 and 2,000"
    ) as caught:
        toy.loop.run()
    assert str(tmp_path / "diagnosis") in str(caught.value)
    assert "that of 1,800 is in checkpoints" in str(caught.value)
    assert [path.name for path in (tmp_path / "diagnosis").iterdir()] == ["2000"]
    assert "2000" not in [path.name for path in (tmp_path / "checkpoints").iterdir()]


def test_a_loss_that_is_not_finite_at_once_has_no_good_state_before_it(tmp_path):
    toy = Toy(tmp_path)
    advance = toy.advance
    toy.advance = lambda *args: (advance(*args)[0], {"loss": jnp.asarray(jnp.nan)})
    with pytest.raises(UserError, match=r"saved in .*diagnosis for diagnosis; check") as caught:
        toy.loop.run()
    assert "in checkpoints" not in str(caught.value)


def test_a_state_of_another_shape_leaves_the_checkpoints_alone(tmp_path):
    Toy(tmp_path, {"max_steps": 2_000}).loop.run()
    before = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    other = Toy(tmp_path, {"max_steps": 2_000})
    object.__setattr__(other.loop, "template", (jnp.ones(4), jnp.zeros((), jnp.int32)))
    with pytest.raises(UserError, match="none of the checkpoints"):
        other.loop.run()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == before


def test_a_reader_beside_a_run_changes_nothing(tmp_path):
    toy = Toy(tmp_path, {"max_steps": 2_000})
    toy.loop.run()
    newest = tmp_path / "checkpoints" / "2000"
    for file in (newest / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with Checkpoints(tmp_path / "checkpoints", read_only=True) as checkpoints:
        (_, step), _ = checkpoints.restore_newest(Toy(tmp_path).loop.template)
    assert int(step) == 1_800
    assert newest.exists()
    assert not (tmp_path / "damaged_checkpoints").exists()


def test_the_same_update_may_be_damaged_twice(tmp_path):
    for _ in range(2):
        with contextlib.suppress(Crash):
            Toy(tmp_path, fail_at=12).loop.run()
        newest = max((tmp_path / "checkpoints").iterdir(), key=lambda path: int(path.name))
        for file in (newest / "state").rglob("*"):
            if file.is_file():
                file.write_bytes(b"")
    with contextlib.suppress(Crash):
        Toy(tmp_path, fail_at=2).loop.run()
    names = [path.name for path in (tmp_path / "damaged_checkpoints").iterdir()]
    assert len(names) == 2


def test_of_several_processes_one_sets_a_damaged_checkpoint_aside(tmp_path):
    script = """
import sys
from pathlib import Path
import numpy as np
from iql_jax import hosts
from iql_jax.checkpointing import Checkpoints
hosts.start("localhost:" + sys.argv[1], 2, int(sys.argv[2]))
folder = Path(sys.argv[3]) / "checkpoints"
state = {"x": np.arange(3.0)}
with Checkpoints(folder) as checkpoints:
    for update in (1, 2):
        checkpoints.save(update, {"x": state["x"] + update}, {"update": update})
hosts.barrier("saved")
if hosts.is_writer():
    for file in (folder / "2" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
hosts.barrier("damaged")
with Checkpoints(folder) as checkpoints:
    restored = checkpoints.restore_newest(state)
    print(restored[1]["update"], restored[0]["x"].tolist(), checkpoints.newest())
"""
    port = str(40_000 + os.getpid() % 20_000)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, port, str(i), str(tmp_path)],
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert [output.splitlines()[-1] for output, _ in said] == ["1 [1.0, 2.0, 3.0] 1"] * 2
    assert len(list((tmp_path / "damaged_checkpoints").iterdir())) == 1


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a small file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_clear_line(small_disk, capfd):
    toy = Toy(small_disk)
    rng = np.random.default_rng(0)

    def advance(state, num_updates):
        # Random numbers, for checkpoints are compressed.
        numbers = rng.uniform(size=60_000).astype(np.float32)
        return (jnp.asarray(numbers), state[1] + num_updates), {"loss": jnp.zeros(())}

    object.__setattr__(toy.loop, "template", (jnp.zeros(60_000), jnp.zeros((), jnp.int32)))
    toy.advance = advance
    with pytest.raises(UserError, match=r"no space left to save update \d+"):
        toy.loop.run()
    assert "Traceback" not in "".join(capfd.readouterr())


# Runs of two phases.

FIRST, SECOND, STRIDE = 1_150, 2_000, 4
AT = 700  # Where the run begins.


class TwoPhases(Toy):
    """A first phase of single steps, a second by fours that makes half as many updates.

    What is kept beside the state is how often the second phase was advanced.
    """

    def __init__(self, folder, fail_at=None, signal_at=None, broken_at=None):
        settings = {"log_interval": 400, "eval_interval": 600, "checkpoint_interval": 800}
        super().__init__(folder, settings, fail_at, signal_at)
        self.broken_at = broken_at
        self.begun, self.kept, self.waiting = [], 0, []
        phases = [
            Phase(FIRST, self.stretch, begin=lambda state: self.begun.append(("first", state))),
            Phase(
                SECOND,
                self.second,
                stride=STRIDE,
                begin=lambda state: self.begun.append(("second", state)),
            ),
        ]
        for name, value in {
            "phases": phases,
            "evaluate": self.evaluate_at,
            "extra": self,
            "tables": ("calls",),
            "unit": "step",
            "first_step": AT,
        }.items():
            object.__setattr__(self.loop, name, value)

    def second(self, state, num_steps, stop):
        assert num_steps % STRIDE == 0
        self.kept += 1
        self.waiting.append(("calls", AT + FIRST + self.kept, {"calls": self.kept}))
        made, failure = num_steps, None
        if self.kept == self.broken_at:
            made, failure = 8, UserError("the hinge broke")
        state, metrics = self.advance(state, made // 2)
        return Stretch(state, metrics, steps=made, updates=made // 2, failure=failure)

    def evaluate_at(self, state, step, stop):
        self.evaluated.append(step)
        return {"score": None, "return_mean": float(state[0][0])}

    def save(self):
        return {"calls": self.kept}

    def restore(self, saved):
        self.kept = saved.get("calls", 0)

    def rows(self):
        rows, self.waiting = self.waiting, []
        return rows

    def columns(self, updates, steps):
        assert updates > 0
        assert steps > 0
        return {"calls": float(self.kept)}


@pytest.fixture(scope="module")
def two_phases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    toy = TwoPhases(folder)
    state, progress = toy.loop.run()
    return folder, state, progress, toy


END = AT + FIRST + SECOND  # 3,850; the boundary is at 1,850.


def test_intervals_are_counted_within_each_phase_and_both_ends_are_kept(two_phases):
    folder, state, progress, toy = two_phases
    assert toy.evaluated == [AT, 1_300, 1_850, 2_450, 3_050, 3_650, END]
    logged = [int(row["step"]) for row in rows(folder, "metrics")]
    assert logged == [1_100, 1_500, 1_850, 2_250, 2_650, 3_050, 3_450, END]
    saved = sorted(int(path.name) for path in (folder / "checkpoints").iterdir())
    assert saved == [2_650, 3_450, END]
    assert progress.step == END
    # Half as many updates as steps in the second phase.
    assert progress.updates == int(state[1]) == FIRST + SECOND // 2


def test_a_phase_begins_once_with_the_state_that_the_one_before_left(two_phases):
    toy = two_phases[3]
    assert [name for name, _ in toy.begun] == ["first", "second"]
    assert [int(state[1]) for _, state in toy.begun] == [0, FIRST]


def test_what_is_kept_beside_the_state_is_logged_and_saved(two_phases):
    folder, _, progress, toy = two_phases
    assert progress.extra == {"calls": toy.kept}
    calls = rows(folder, "calls")
    assert [int(row["calls"]) for row in calls] == list(range(1, toy.kept + 1))
    columns = [float(row["calls"]) for row in rows(folder, "metrics")]
    assert columns[:3] == [0, 0, 0]
    assert columns[-1] == toy.kept


@pytest.mark.parametrize("crash", [2, 4, 5, 9])
def test_a_kill_in_either_phase_resumes_to_the_same_end(tmp_path, two_phases, crash):
    with pytest.raises(Crash):
        TwoPhases(tmp_path, fail_at=crash).loop.run()
    resumed = TwoPhases(tmp_path)
    state, progress = resumed.loop.run()
    assert_same_run(tmp_path, state, two_phases)
    assert rows(tmp_path, "calls") == rows(two_phases[0], "calls")
    assert progress.updates == FIRST + SECOND // 2
    # A phase that is over is not begun again.
    assert [name for name, _ in resumed.begun][-1] == "second"
    assert len(resumed.begun) == (1 if crash > 6 else 2)


@pytest.mark.parametrize("call", [1, 4, 8])
def test_a_signal_in_either_phase_is_said_in_its_steps(tmp_path, two_phases, call):
    with pytest.raises(Interrupted, match=r"SIGTERM at step [0-9,]+; saved in"):
        TwoPhases(tmp_path, signal_at=call).loop.run()
    state, _ = TwoPhases(tmp_path).loop.run()
    assert_same_run(tmp_path, state, two_phases)


def test_a_phase_that_fails_is_saved_where_it_came_to(tmp_path, capsys):
    with pytest.raises(UserError) as caught:
        TwoPhases(tmp_path, broken_at=3).loop.run()
    # Two stretches of 400 and 200 steps, then 8.
    assert str(caught.value) == f"the hinge broke; step 2,458 is saved in {tmp_path}"
    mended = TwoPhases(tmp_path)
    state, progress = mended.loop.run()
    assert f"resuming {tmp_path} at step 2,458" in capsys.readouterr().err
    assert progress.updates == int(state[1]) == FIRST + SECOND // 2
    assert [name for name, _ in mended.begun] == ["second"]
    assert [int(row["calls"]) for row in rows(tmp_path, "calls")] == list(range(1, mended.kept + 1))


def test_a_finished_run_of_two_phases_begins_none(two_phases):
    folder = two_phases[0]
    again = TwoPhases(folder, fail_at=1)
    again.loop.run()
    assert again.begun == again.evaluated == []
