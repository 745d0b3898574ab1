"""The training loop on a toy state: what happens when, and that interruptions leave no trace."""

import os
import pickle
import signal

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from toy_loop import Crash, Toy, assert_same_run, rows

from iql_jax.outputs.checkpoints import Checkpoints, save_for_diagnosis
from iql_jax.utils.errors import Diverged, UserError
from iql_jax.utils.signals import Interrupted


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


def test_a_policy_that_diverged_is_saved_for_diagnosis_alone(tmp_path):
    toy = Toy(tmp_path)

    def fail(state, update, stop):
        raise Diverged("the action is not finite")

    object.__setattr__(toy.loop, "evaluate", fail)
    said = r"^the action is not finite; the state is saved in .*/diagnosis for diagnosis, and"
    with pytest.raises(Diverged, match=f"{said} that of 900 is in checkpoints; check"):
        toy.loop.run()
    assert [path.name for path in (tmp_path / "diagnosis").iterdir()] == ["1200"]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["900"]


def test_a_second_signal_stops_at_once(tmp_path):
    toy = Toy(tmp_path)

    def interrupted_twice(state, num_updates):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second went by")

    toy.advance = interrupted_twice
    with pytest.raises(KeyboardInterrupt):
        toy.loop.run()


def test_a_second_signal_waits_for_a_save_to_end(tmp_path, monkeypatch, uninterrupted):
    save = ocp.CheckpointManager.save

    def interrupted(self, *args, **kwargs):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        return save(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Toy(tmp_path).loop.run()
    (step,) = (int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    resumed = Toy(tmp_path)
    state, _ = resumed.loop.run()
    assert sum(resumed.made) == 5_300 - step
    assert_same_run(tmp_path, state, uninterrupted)


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


def test_a_later_failure_takes_the_place_of_an_earlier_one(tmp_path):
    earlier = save_for_diagnosis(tmp_path, 3_000, {"x": np.zeros(2)}, {})
    assert earlier == save_for_diagnosis(tmp_path, 2_000, {"x": np.ones(2)}, {"step": 2_000})
    with Checkpoints(earlier) as checkpoints:
        state, progress = checkpoints.restore_newest({"x": np.zeros(2)})
    assert state["x"].tolist() == [1, 1]
    assert progress == {"step": 2_000}


def test_a_loss_that_is_not_finite_at_once_has_no_good_state_before_it(tmp_path):
    toy = Toy(tmp_path)
    advance = toy.advance
    toy.advance = lambda *args: (advance(*args)[0], {"loss": jnp.asarray(jnp.nan)})
    with pytest.raises(UserError, match=r"saved in .*diagnosis for diagnosis; check") as caught:
        toy.loop.run()
    assert "in checkpoints" not in str(caught.value)
