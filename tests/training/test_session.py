"""A session on a toy state: what happens when, and that interruptions leave no trace."""

import os
import signal

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from toy_session import END, Crash, Toy, assert_same_run, rows

from iql_jax import cli
from iql_jax.utils.errors import Diverged, UserError
from iql_jax.utils.signals import Interrupted


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: its folder, state, progress and toy."""
    folder = tmp_path_factory.mktemp("whole")
    toy = Toy(folder)
    return folder, *toy.run(), toy


def steps(folder, table, column="update"):
    return [int(row[column]) for row in rows(folder, table)]


def saved(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


def test_each_thing_happens_at_its_interval_and_at_the_end(whole):
    folder, state, progress, toy = whole
    assert int(state[1]) == progress.step == progress.updates == END
    assert toy.evaluated == [1_200, 2_400, 3_600, 4_800, END]
    assert steps(folder, "metrics") == [700, 1_400, 2_100, 2_800, 3_500, 4_200, 4_900, END]
    assert saved(folder) == [3_600, 4_500, END]
    assert max(toy.made) <= 1_000  # A stop request waits no longer.


def test_logged_metrics_are_means_over_the_updates_since_the_row_before(whole):
    x, means = np.ones(3, np.float32), []
    for step in range(1, 1_401):
        x = np.sin(x * np.float32(1.1) + np.float32(step))
        means.append(x.mean())
    logged = [float(row["loss"]) for row in rows(whole[0], "metrics")[:2]]
    np.testing.assert_allclose(logged, [np.mean(means[:700]), np.mean(means[700:])], atol=1e-6)


def test_a_run_killed_again_and_again_resumes_to_the_same_end(tmp_path, whole):
    for crash in (1, 6, 3, 4, 2, 5):
        with pytest.raises(Crash):
            Toy(tmp_path, fail_at=crash).run()
    state, _ = Toy(tmp_path).run()
    assert_same_run(tmp_path, state, whole)


@pytest.mark.parametrize("call", [1, 8])
def test_sigterm_saves_and_names_the_folder(tmp_path, whole, call):
    stopped = Toy(tmp_path, signal_at=call)
    with pytest.raises(Interrupted, match="SIGTERM") as caught:
        stopped.run()
    assert (caught.value.signum, caught.value.resumable) == (signal.SIGTERM, True)
    assert str(tmp_path) in str(caught.value)
    resumed = Toy(tmp_path)
    state, _ = resumed.run()
    assert_same_run(tmp_path, state, whole)
    assert sum(stopped.made) + sum(resumed.made) == END  # Nothing is done twice.


def test_ctrl_c_during_an_evaluation_repeats_that_evaluation_alone(tmp_path, whole):
    with pytest.raises(Interrupted) as caught:
        Toy(tmp_path, signal_in_eval=2_400).run()
    assert caught.value.signum == signal.SIGINT
    toy = Toy(tmp_path)
    state, _ = toy.run()
    assert toy.evaluated == [2_400, 3_600, 4_800, END]
    assert_same_run(tmp_path, state, whole)


def test_a_stop_in_the_last_chunk_is_one(tmp_path, whole):
    with pytest.raises(Interrupted, match="SIGTERM at update 5,300; saved in"):
        Toy(tmp_path, signal_at=len(whole[3].made)).run()
    state, _ = Toy(tmp_path, fail_at=1).run()
    assert_same_run(tmp_path, state, whole)


def test_an_environment_that_fails_in_an_evaluation_costs_no_updates(tmp_path, whole):
    toy = Toy(tmp_path)
    evaluate = toy.evaluate

    def fail(state, step, stop):
        if step == 2_400:
            raise UserError("the hinge broke")
        return evaluate(state, step, stop)

    toy.evaluate = fail
    with pytest.raises(UserError, match=r"^the hinge broke; update 2,400 is saved in"):
        toy.run()
    fixed = Toy(tmp_path)
    state, _ = fixed.run()
    assert fixed.evaluated[0] == 2_400
    assert sum(toy.made) + sum(fixed.made) == END
    assert_same_run(tmp_path, state, whole)


def test_a_policy_that_diverged_is_not_saved(tmp_path):
    toy = Toy(tmp_path)

    def fail(state, step, stop):
        raise Diverged("the action is not finite")

    toy.evaluate = fail
    with pytest.raises(Diverged, match=r"the state of 900 is in checkpoints"):
        toy.run()
    assert saved(tmp_path) == [900]


def test_a_loss_that_is_not_finite_stops_and_is_not_saved(tmp_path):
    toy = Toy(tmp_path)
    update = toy.update

    def broken(state, count):
        state, metrics = update(state, count)
        return state, {"loss": jnp.nan} if int(state[1]) >= 2_000 else metrics

    toy.update = broken
    with pytest.raises(Diverged, match=r"between updates 1,800 and 2,000.*of 1,800 is in check"):
        toy.run()
    assert saved(tmp_path) == [900, 1800]


@pytest.mark.parametrize(
    ("signum", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_second_signal_waits_for_a_save_to_end(tmp_path, monkeypatch, whole, signum, raised):
    save = ocp.CheckpointManager.save

    def interrupted(self, *args, **kwargs):
        for _ in range(2):
            os.kill(os.getpid(), signum)
        return save(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "save", interrupted)
        before = signal.signal(signal.SIGTERM, cli._terminate)
        with pytest.raises(raised):
            Toy(tmp_path).run()
        signal.signal(signal.SIGTERM, before)
    (step,) = saved(tmp_path)
    resumed = Toy(tmp_path)
    state, _ = resumed.run()
    assert sum(resumed.made) == END - step
    assert_same_run(tmp_path, state, whole)


def test_handlers_are_restored_and_a_finished_run_does_nothing_more(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    Toy(tmp_path, first=1_500).run()
    assert signal.getsignal(signal.SIGTERM) is before
    table = (tmp_path / "evaluations.csv").read_text()
    again = Toy(tmp_path, first=1_500, fail_at=1)
    state, progress = again.run()
    assert progress.step == int(state[1]) == 1_500
    assert (again.evaluated, (tmp_path / "evaluations.csv").read_text()) == ([], table)


# Two phases.

BEGIN, FIRST, SECOND = 700, 1_150, 2_000
BOUNDARY, LAST = BEGIN + FIRST, BEGIN + FIRST + SECOND
TWO = {"first": FIRST, "second": SECOND, "begin": BEGIN, "eval_interval": 600}
INTERVALS = {"log_interval": 400, "checkpoint_interval": 800}


@pytest.fixture(scope="module")
def two_phases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    toy = Toy(folder, **TWO, **INTERVALS)
    return folder, *toy.run(), toy


def test_intervals_are_counted_within_each_phase_and_both_ends_are_kept(two_phases):
    folder, state, progress, toy = two_phases
    assert toy.evaluated == [BEGIN, 1_300, BOUNDARY, 2_450, 3_050, 3_650, LAST]
    logged = [1_100, 1_500, BOUNDARY, 2_250, 2_650, 3_050, 3_450, LAST]
    assert steps(folder, "metrics", "step") == logged
    assert saved(folder) == [2_650, 3_450, LAST]
    # Half as many updates as steps in the second phase.
    assert progress.updates == int(state[1]) == FIRST + SECOND // 2


def test_intervals_are_rounded_up_to_the_steps_that_a_phase_makes_at_once(tmp_path):
    Toy(tmp_path, **TWO, log_interval=401, checkpoint_interval=802).run()
    logged = [step - BEGIN for step in steps(tmp_path, "metrics", "step")]
    assert logged == [401, 802, FIRST, *range(FIRST + 404, FIRST + SECOND, 404), FIRST + SECOND]
    assert [step - BOUNDARY for step in saved(tmp_path)] == [804, 1_608, SECOND]


@pytest.mark.parametrize("crash", [2, 5, 9])
def test_a_kill_in_either_phase_resumes_to_the_same_end(tmp_path, two_phases, crash):
    with pytest.raises(Crash):
        Toy(tmp_path, fail_at=crash, **TWO, **INTERVALS).run()
    state, progress = Toy(tmp_path, **TWO, **INTERVALS).run()
    assert_same_run(tmp_path, state, two_phases)
    assert progress.companion == two_phases[2].companion
