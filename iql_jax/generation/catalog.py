"""The datasets that this package can make, and the Minari datasets that they stand in for.

Light to import: a maker's own imports (MuJoCo, Gymnasium) wait until it is used.
"""

import contextlib
import dataclasses
import difflib
import importlib
import pathlib
import threading
from typing import Any

from iql_jax.utils.errors import UserError
from iql_jax.utils.processes import refuse_second_import
from iql_jax.utils.signals import StopRequest

UNTIL_THE_TIME_LIMIT = 1_000  # The longest of AntMaze's.

FULL_STEPS = 1_000_000
"""The size of an embedded dataset unless its maker is told otherwise, as of those it stands for."""


@dataclasses.dataclass(frozen=True)
class Maker:
    """How to make one dataset.

    Attributes:
        twin_of: the Minari dataset that this one stands in for where that cannot be downloaded;
            None where there is none.
        module: the module whose ``plan(id, steps=, seed=, **arguments)`` says how; or, where the
            size is fixed, whose ``make(id, seed=)`` does it.
        arguments: further arguments of ``plan``.
        description: what it is, in one line.
        steps: its number of transitions unless its maker is told otherwise; None where it is fixed.
    """

    twin_of: str | None
    module: str
    arguments: dict[str, Any]
    description: str
    steps: int | None = FULL_STEPS


def _pointmaze(task: str) -> Maker:
    return Maker(
        twin_of=f"D4RL/pointmaze/{task}-v2",
        module="iql_jax.generation.pointmaze",
        arguments={"task": task},
        description=f"a ball driven between random goals of PointMaze {task}",
    )


def _antmaze(task: str) -> Maker:
    maze, _, kind = task.partition("-")
    ways = "from start to goal" if task == "umaze" else "between random starts and goals"
    return Maker(
        twin_of=f"D4RL/antmaze/{task}-v1",
        module="iql_jax.generation.antmaze",
        arguments={"task": task},
        description=f"an ant walking {ways} of AntMaze {maze}" + (f" ({kind})" if kind else ""),
    )


def _antmaze_waiting(task: str) -> Maker:
    usual = _antmaze(task)
    return dataclasses.replace(
        usual,
        twin_of=None,
        arguments={"task": task, "stay": UNTIL_THE_TIME_LIMIT},
        description=f"{usual.description}, which waits at its goal as Minari's do",
    )


_POINTMAZE_TASKS = ("umaze", "medium", "large")
_ANTMAZE_TASKS = (
    "umaze",
    "umaze-diverse",
    "medium-play",
    "medium-diverse",
    "large-play",
    "large-diverse",
)

_DISCRETE_UMAZE = Maker(
    twin_of=None,
    module="iql_jax.generation.discrete_umaze",
    arguments={},
    description="1 optimal and 99 random trajectories in the discrete u-maze of the IQL paper",
    steps=None,
)

_HALFCHEETAH_GAITS = Maker(
    twin_of=None,
    module="iql_jax.generation.halfcheetah",
    arguments={},
    description="gaits of HalfCheetah, good and bad, each an episode",
    steps=300_000,
)

EMBEDDED: dict[str, Maker] = (
    {f"iql/pointmaze/{task}-v0": _pointmaze(task) for task in _POINTMAZE_TASKS}
    | {f"iql/antmaze/{task}-v0": _antmaze(task) for task in _ANTMAZE_TASKS}
    | {f"iql/antmaze-waiting/{task}-v0": _antmaze_waiting(task) for task in _ANTMAZE_TASKS}
    | {"iql/halfcheetah/gaits-v0": _HALFCHEETAH_GAITS}
    | {"iql/discrete-umaze-v0": _DISCRETE_UMAZE}
)


def twin_of(minari_id: str) -> str | None:
    """Find the embedded dataset that stands in for a Minari dataset; None if there is none."""
    twins = (name for name, maker in EMBEDDED.items() if maker.twin_of == minari_id)
    return next(twins, None)


def make(
    dataset_id: str,
    steps: int | None = None,
    seed: int = 0,
    progress: bool = True,
    *,
    force: bool = False,
    score_episodes: int = 100,
) -> pathlib.Path:
    """Make an embedded dataset in Minari's local folder, unless it is there already.

    Args:
        dataset_id: a key of ``EMBEDDED``.
        steps: the number of transitions; None for the usual one.
        seed: what the content depends on, besides the steps.
        progress: whether to show progress bars.
        force: whether to make it again where it exists.
        score_episodes: episodes to average over for each reference score.

    Returns:
        The dataset's folder.

    Raises:
        UserError: if the id is unknown or a number is out of range, and as ``collecting.collect``.
        Interrupted: after Ctrl-C or SIGTERM; the same call goes on.
    """
    if dataset_id not in EMBEDDED:
        close = difflib.get_close_matches(dataset_id, EMBEDDED, n=3)
        names = ", ".join(close or EMBEDDED)
        raise UserError(f"no maker for the dataset {dataset_id!r}; there are makers for: {names}")
    maker = EMBEDDED[dataset_id]
    if maker.steps is None and steps is not None:
        raise UserError(f"{dataset_id} has a size of its own; leave out the number of steps")
    steps = maker.steps if steps is None else steps
    if (steps is not None and steps < 1) or seed < 0:
        raise UserError(f"steps must be at least 1 and the seed at least 0, not {steps}, {seed}")
    if score_episodes < 1:
        raise UserError(f"score_episodes must be at least 1, not {score_episodes}")
    refuse_second_import()
    with _stop_request() as stop:
        # Signals are noted from here on: an exception may get lost while these are imported.
        from minari.storage import get_dataset_path

        from iql_jax.generation.storage import is_complete

        if force or not is_complete(dataset_id):
            from iql_jax.generation.collecting import collect

            module = importlib.import_module(maker.module)
            stop.check()
            if steps is None:
                module.make(dataset_id, seed=seed, force=force)
            else:
                collect(
                    module.plan(dataset_id, steps=steps, seed=seed, **maker.arguments),
                    progress=progress,
                    force=force,
                    score_episodes=score_episodes,
                    check=stop.check,
                )
        stop.check()
        return pathlib.Path(get_dataset_path(dataset_id))


def _stop_request() -> contextlib.AbstractContextManager[StopRequest]:
    """Note Ctrl-C and SIGTERM where they come: in the main thread."""
    is_main = threading.current_thread() is threading.main_thread()
    return StopRequest() if is_main else contextlib.nullcontext(StopRequest())
