"""The datasets that this package can make, and the Minari datasets that they stand in for.

Light to import: a maker's own imports (MuJoCo, Gymnasium) wait until it is used.
"""

import dataclasses
from typing import Any

UNTIL_THE_TIME_LIMIT = 1_000  # The longest of AntMaze's.

FULL_STEPS = 1_000_000
"""The size of an embedded dataset unless its maker is told otherwise, as of those it stands for."""


@dataclasses.dataclass(frozen=True)
class GeneratedDataset:
    """How to make one dataset.

    Attributes:
        replaces: the Minari dataset that this one stands in for where that cannot be downloaded;
            None where there is none.
        module: the module whose ``plan(id, steps=, seed=, **arguments)`` says how; or, where the
            size is fixed, whose ``make(id, seed=)`` does it.
        arguments: further arguments of ``plan``.
        description: what it is, in one line.
        steps: its number of transitions unless its maker is told otherwise; None where it is fixed.
    """

    replaces: str | None
    module: str
    arguments: dict[str, Any]
    description: str
    steps: int | None = FULL_STEPS


def _pointmaze(task: str) -> GeneratedDataset:
    return GeneratedDataset(
        replaces=f"D4RL/pointmaze/{task}-v2",
        module="iql_jax.generation.pointmaze",
        arguments={"task": task},
        description=f"a ball driven between random goals of PointMaze {task}",
    )


def _antmaze(task: str) -> GeneratedDataset:
    maze, _, kind = task.partition("-")
    ways = "from start to goal" if task == "umaze" else "between random starts and goals"
    return GeneratedDataset(
        replaces=f"D4RL/antmaze/{task}-v1",
        module="iql_jax.generation.antmaze",
        arguments={"task": task},
        description=f"an ant walking {ways} of AntMaze {maze}" + (f" ({kind})" if kind else ""),
    )


def _antmaze_waiting(task: str) -> GeneratedDataset:
    usual = _antmaze(task)
    return dataclasses.replace(
        usual,
        replaces=None,
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

_DISCRETE_UMAZE = GeneratedDataset(
    replaces=None,
    module="iql_jax.generation.discrete_umaze",
    arguments={},
    description="1 optimal and 99 random trajectories in the discrete u-maze of the IQL paper",
    steps=None,
)

_HALFCHEETAH_GAITS = GeneratedDataset(
    replaces=None,
    module="iql_jax.generation.halfcheetah",
    arguments={},
    description="gaits of HalfCheetah, good and bad, each an episode",
    steps=300_000,
)

GENERATED: dict[str, GeneratedDataset] = (
    {f"iql/pointmaze/{task}-v0": _pointmaze(task) for task in _POINTMAZE_TASKS}
    | {f"iql/antmaze/{task}-v0": _antmaze(task) for task in _ANTMAZE_TASKS}
    | {f"iql/antmaze-waiting/{task}-v0": _antmaze_waiting(task) for task in _ANTMAZE_TASKS}
    | {"iql/halfcheetah/gaits-v0": _HALFCHEETAH_GAITS}
    | {"iql/discrete-umaze-v0": _DISCRETE_UMAZE}
)


def counterpart(minari_id: str) -> str | None:
    """Returns the generated dataset that replaces a Minari dataset; None if there is none."""
    names = (name for name, made in GENERATED.items() if made.replaces == minari_id)
    return next(names, None)
