"""The datasets that this package generates, and the Minari datasets that they replace."""

from iql_jax.generation.procedure import Procedure

FULL_STEPS = 1_000_000
"""The usual number of transitions of a generated dataset, as of those that are replaced."""

_UNTIL_THE_TIME_LIMIT = 1_000  # The longest of AntMaze's.

_POINTS = ("umaze", "medium", "large")
_ANTS = ("umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play", "large-diverse")

GENERATED: dict[str, str | None] = {
    **{f"iql/pointmaze/{maze}-v0": f"D4RL/pointmaze/{maze}-v2" for maze in _POINTS},
    **{f"iql/antmaze/{task}-v0": f"D4RL/antmaze/{task}-v1" for task in _ANTS},
    **{f"iql/antmaze-waiting/{task}-v0": None for task in _ANTS},
}
"""Their ids, each with that of the Minari dataset it replaces where that cannot be downloaded."""


def counterpart(minari_id: str) -> str | None:
    """Returns the generated dataset that replaces a Minari dataset; None if there is none."""
    return next((ours for ours, theirs in GENERATED.items() if theirs == minari_id), None)


def procedure(dataset_id: str, steps: int, seed: int) -> Procedure:
    """Returns how a dataset of this size and seed is generated; imports the physics it needs."""
    _, kind, name = dataset_id.split("/")
    task = name.removesuffix("-v0")
    if kind == "pointmaze":
        from iql_jax.generation import pointmaze

        return pointmaze.procedure(task, steps, seed)
    from iql_jax.generation import antmaze

    stay = antmaze.STAY if kind == "antmaze" else _UNTIL_THE_TIME_LIMIT
    return antmaze.procedure(task, steps, seed, stay)
