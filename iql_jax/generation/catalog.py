"""The datasets that this package generates, and the Minari datasets that they replace."""

import dataclasses
from typing import Literal

from iql_jax.generation.procedure import Procedure

FULL_STEPS = 1_000_000
"""The usual size of a generated dataset, as of those that are replaced."""

_UNTIL_THE_TIME_LIMIT = 1_000  # The longest of AntMaze's.


@dataclasses.dataclass(frozen=True)
class GeneratedDataset:
    """One dataset that this package generates.

    Attributes:
        kind: which procedure generates it.
        task: the procedure's name of the task.
        description: what it is, in one line.
        replaces: the Minari dataset that it replaces where that cannot be downloaded, if any.
    """

    kind: Literal["pointmaze", "antmaze", "antmaze-waiting"]
    task: str
    description: str
    replaces: str | None = None


_POINTMAZE_TASKS = ("umaze", "medium", "large")
_ANTMAZE_TASKS = {
    "umaze": "from start to goal of AntMaze umaze",
    "umaze-diverse": "between random starts and goals of AntMaze umaze (diverse)",
    "medium-play": "between random starts and goals of AntMaze medium (play)",
    "medium-diverse": "between random starts and goals of AntMaze medium (diverse)",
    "large-play": "between random starts and goals of AntMaze large (play)",
    "large-diverse": "between random starts and goals of AntMaze large (diverse)",
}

GENERATED: dict[str, GeneratedDataset] = {
    **{
        f"iql/pointmaze/{task}-v0": GeneratedDataset(
            "pointmaze",
            task,
            f"a ball driven between random goals of PointMaze {task}",
            replaces=f"D4RL/pointmaze/{task}-v2",
        )
        for task in _POINTMAZE_TASKS
    },
    **{
        f"iql/antmaze/{task}-v0": GeneratedDataset(
            "antmaze", task, f"an ant walking {ways}", replaces=f"D4RL/antmaze/{task}-v1"
        )
        for task, ways in _ANTMAZE_TASKS.items()
    },
    **{
        f"iql/antmaze-waiting/{task}-v0": GeneratedDataset(
            "antmaze-waiting",
            task,
            f"an ant walking {ways}, where it waits as Minari's do",
        )
        for task, ways in _ANTMAZE_TASKS.items()
    },
}


def counterpart(minari_id: str) -> str | None:
    """Returns the generated dataset that replaces a Minari dataset; None if there is none."""
    names = (name for name, dataset in GENERATED.items() if dataset.replaces == minari_id)
    return next(names, None)


def procedure(dataset_id: str, steps: int, seed: int) -> Procedure:
    """Returns how a dataset of this size and seed is generated; imports the physics it needs."""
    dataset = GENERATED[dataset_id]
    if dataset.kind == "pointmaze":
        from iql_jax.generation import pointmaze

        return pointmaze.procedure(dataset.task, steps, seed)
    from iql_jax.generation import antmaze

    stay = antmaze.STAY if dataset.kind == "antmaze" else _UNTIL_THE_TIME_LIMIT
    return antmaze.procedure(dataset.task, steps, seed, stay)
