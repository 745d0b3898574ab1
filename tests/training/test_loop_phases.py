"""The training loop over two phases: what happens when, and interruptions in either."""

import pytest
from toy_loop import Crash, Toy, assert_same_run, rows

from iql_jax.training.phases import Phase, Stretch
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import Interrupted

FIRST, SECOND, STRIDE = 1_150, 2_000, 4
AT = 700  # Where the run begins.


class TwoPhases(Toy):
    """A first phase of single steps, a second by fours that makes half as many updates.

    What is kept beside the state is how often the second phase was advanced.
    """

    def __init__(self, folder, fail_at=None, signal_at=None, broken_at=None, log_interval=400):
        settings = {
            "log_interval": log_interval,
            "eval_interval": 600,
            "checkpoint_interval": 2 * log_interval,
        }
        super().__init__(folder, settings, fail_at, signal_at)
        self.broken_at = broken_at
        self.begun, self.kept, self.waiting, self.order = [], 0, [], []
        phases = [
            Phase(
                FIRST,
                self.stretch,
                prepare=lambda state: self.order.append("prepare first"),
                begin=lambda state: self.begun.append(("first", state)),
                end=lambda: self.order.append("end first"),
            ),
            Phase(
                SECOND,
                self.second,
                stride=STRIDE,
                prepare=lambda state: self.order.append("prepare second"),
                begin=lambda state: self.begun.append(("second", state)),
                end=lambda: self.order.append("end second"),
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


def test_intervals_are_rounded_up_to_what_a_phase_steps_at_once(tmp_path):
    TwoPhases(tmp_path, log_interval=401).loop.run()
    logged = [int(row["step"]) - AT for row in rows(tmp_path, "metrics")]
    boundary = FIRST
    assert logged == [401, 802, boundary, *range(boundary + 404, END - AT, 404), FIRST + SECOND]
    saved = sorted(int(path.name) - AT - FIRST for path in (tmp_path / "checkpoints").iterdir())
    assert saved == [804, 1_608, SECOND]  # Of 802, rounded up.


def test_a_phase_begins_once_with_the_state_that_the_one_before_left(two_phases):
    toy = two_phases[3]
    assert [name for name, _ in toy.begun] == ["first", "second"]
    assert [int(state[1]) for _, state in toy.begun] == [0, FIRST]


def test_a_phase_is_prepared_before_and_let_go_after_its_steps(tmp_path, two_phases):
    assert list(dict.fromkeys(two_phases[3].order)) == [
        "prepare first", "end first", "prepare second", "end second",
    ]  # fmt: skip
    with pytest.raises(Crash):
        TwoPhases(tmp_path, fail_at=9).loop.run()
    resumed = TwoPhases(tmp_path)
    resumed.loop.run()
    assert list(dict.fromkeys(resumed.order)) == ["prepare second", "end second"]


def test_what_fails_in_preparing_leaves_nothing(tmp_path):
    def fail(state):
        raise RuntimeError("RESOURCE_EXHAUSTED")

    toy = TwoPhases(tmp_path)
    object.__setattr__(toy.loop, "phases", [Phase(FIRST, toy.stretch, prepare=fail)])
    with pytest.raises(RuntimeError, match="EXHAUSTED"):
        toy.loop.run()
    assert list(tmp_path.iterdir()) == []


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
    assert again.begun == again.evaluated == again.order == []
