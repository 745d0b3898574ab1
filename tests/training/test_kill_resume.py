"""The benchmarks that kill runs can find what they look for."""

import json
import subprocess

import numpy as np
import pytest
from benchmark_runs import run_script

from iql_jax.outputs.transitions import TransitionLog

# 400 updates, then 400 steps: episodes of 150, of 100 dropped, and of 150 with success.
UPDATES, STEPS = 400, 400
CUTS = (150, 250)

PROBLEMS = """
import sys
from pathlib import Path
from absl import flags
import kill_resume_finetune as benchmark
flags.FLAGS(["", "--updates=400", "--steps=400", "--kills=1"])
folder = Path(sys.argv[1])
print()
print(*benchmark.table_problems(folder), *benchmark.log_problems(folder), sep="\\n")
"""

BEGINNINGS = """
import json, sys
from absl import flags
import kill_resume_finetune as benchmark
flags.FLAGS(["", "--steps=400"])
print(json.dumps([benchmark.wrong_beginning(*case) for case in json.loads(sys.argv[1])]))
"""


@pytest.fixture
def folder(tmp_path):
    """What a run that was killed once leaves."""
    position = np.arange(STEPS + 1, dtype=np.float32)[:, None]
    following = position[1:].copy()
    following[[cut - 1 for cut in CUTS]] = -1.0
    rewards, masks = np.zeros(STEPS, np.float32), np.ones(STEPS, np.float32)
    rewards[-1], masks[-1] = 1.0, 0.0
    log = TransitionLog(tmp_path / "transitions")
    log.restore(0)
    log.append(
        {
            "observations": position[:-1],
            "actions": np.zeros((STEPS, 1), np.float32),
            "rewards": rewards,
            "masks": masks,
            "next_observations": following,
        }
    )
    log.save()
    write(tmp_path / "metrics.csv", "step,v", [(step, 0) for step in (200, 400, 600, 800)])
    write(tmp_path / "evaluations.csv", "step,score", [(400, 0), (800, 0)])
    write_episodes(tmp_path, [(550, 1, 0.0, 150, 0), (800, 3, 1.0, 150, 1)])
    return tmp_path


def write(path, header, rows):
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    path.write_text("".join(f"{line}\n" for line in lines))


def write_episodes(folder, rows):
    write(folder / "episodes.csv", "step,episode,return,length,success", rows)


def repeat_a_row(folder):
    path = folder / "metrics.csv"
    path.write_text(path.read_text() + "800,0\n")


def lose_an_evaluation(folder):
    write(folder / "evaluations.csv", "step,score", [(800, 0)])


def repeat_an_episode(folder):
    write_episodes(folder, [(550, 1, 0.0, 150, 0), (800, 1, 1.0, 150, 1)])


def count_another_return(folder):
    write_episodes(folder, [(550, 1, 0.0, 150, 0), (800, 3, 2.0, 150, 1)])


def count_another_success(folder):
    write_episodes(folder, [(550, 1, 0.0, 150, 1), (800, 3, 1.0, 150, 1)])


def count_what_was_dropped(folder):
    write_episodes(folder, [(550, 1, 0.0, 150, 0), (800, 3, 1.0, 250, 1)])


def drop_one_more(folder):
    write_episodes(folder, [(800, 3, 1.0, 150, 1)])


def end_where_it_leads_on(folder):
    write_episodes(folder, [(500, 1, 0.0, 100, 0), (800, 3, 1.0, 150, 1)])


def lose_transitions(folder):
    (file,) = (folder / "transitions").iterdir()
    with np.load(file) as arrays:
        kept = {name: arrays[name][10:] for name in arrays}
    file.unlink()
    np.savez(folder / "transitions" / f"{0:09d}-{STEPS - 10:09d}.npz", **kept)


def test_a_run_that_lost_nothing_has_no_problems(folder):
    assert run_script(PROBLEMS, str(folder)).split() == [
        "2",
        "episodes",
        "ended,",
        "1",
        "were",
        "dropped",
    ]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (repeat_a_row, "metrics.csv has rows at [200, 400, 600, 800, 800]"),
        (lose_an_evaluation, "evaluations.csv has rows at [800]"),
        (repeat_an_episode, "episodes.csv: episode does not rise"),
        (count_another_return, "episode 3 returned 2.0, by its rewards another"),
        (count_another_success, "episode 1 has other masks"),
        (count_what_was_dropped, "episode 3 is not in one piece"),
        (drop_one_more, "2 episodes were dropped by 1 kills"),
        (end_where_it_leads_on, "its last transition leads on to the next episode's first"),
    ],
)
def test_what_got_lost_is_found(folder, damage, said):
    damage(folder)
    assert said in run_script(PROBLEMS, str(folder))


def test_lost_transitions_are_found(folder):
    lose_transitions(folder)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_script(PROBLEMS, str(folder))
    assert "holds 390 of the 400 transitions" in caught.value.stderr


def test_a_session_has_to_go_on_where_the_checkpoint_is():
    at = {"step": 500, "extra": {"counters": {"env_steps": 100}}}
    resuming = "resuming /run at step {}\ndropping 1 unfinished training episode(s); "
    cases = [
        ("", None),  # Killed before it came so far.
        (resuming.format(500), at, True),
        (resuming.format(400), at, True),
        (resuming.format(500), None),
        ("", at, True),
        ("resuming /run at step 500", at, True),
    ]
    problems = json.loads(run_script(BEGINNINGS, json.dumps(cases)))
    assert problems[:2] == [[], []]
    assert [len(found) for found in problems[2:]] == [1, 2, 2, 1]
    assert problems[2][0].startswith("a session resumed at 400, the checkpoint was")
    assert "the last session did not resume" in problems[4]
