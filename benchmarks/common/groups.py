"""The runs behind the tables of scores: groups of entries, each a method on a task."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.runs import Run


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """One line of a table."""

    task: str  # D4RL's name of it, as ``published`` has it.
    method: str  # 'IQL', or what differs from it.
    config: str  # Its name.
    settings: Mapping[str, Any]  # Over it; a dataset that ends in '.hdf5' is a file in --files.
    seeds: int = 3  # How many, from 0 on.
    after: str = ""  # Fine-tuning only: the group whose finished runs it starts from, if any.

    @property
    def name(self) -> str:
        """Its folder in the group's."""
        return f"{self.task}-{re.sub(r'[^A-Za-z0-9.+]+', '_', self.method)}"

    def folder(self, root: Path, group: str, seed: int) -> Path:
        """Returns the folder of one of its runs."""
        return root / group / self.name / f"seed_{seed}"

    def run(self, root: Path, group: str, seed: int, files: Path) -> Run:
        """Returns the run of a seed below ``root``; ``files`` has the datasets that are files."""
        settings = {**self.settings, "seed": seed}
        if str(settings["dataset"]).endswith(".hdf5"):
            settings["dataset"] = str((files / settings["dataset"]).absolute())
        if self.after:
            settings["offline_run"] = str(self.folder(root, self.after, seed).absolute())
        return Run(self.folder(root, group, seed), self.config, settings)


METHODS: dict[str, dict[str, Any]] = {
    "IQL": {},
    "BC": {"temperature": 0.0},
    # In mazes, which alone heed maze_drop, the best tenth are then the quickest arrivals.
    "10% BC": {"temperature": 0.0, "top_episodes": 0.1, "maze_drop": "after_success"},
}

ANTMAZE = (
    "umaze",
    "umaze-diverse",
    "medium-play",
    "medium-diverse",
    "large-play",
    "large-diverse",
)
# Segments of 100 steps have no episodes' returns, whose range in D4RL's whole files would divide
# rewards by 3.2 to 3.4; an advantage times a temperature that is smaller by as much is the same.
SEGMENTS = {"reward_transform": "none", "temperature": 0.9}
DDPGBC: dict[str, Any] = {"actor_loss": "ddpgbc"}


def antmaze(task: str, method: str = "IQL", seeds: int = 3, **settings: Any) -> Entry:
    """Returns an entry on a generated AntMaze."""
    dataset = {"dataset": f"iql/antmaze/{task}-v0", "eval_interval": 50_000}
    return Entry(f"antmaze-{task}", method, "antmaze", {**dataset, **settings}, seeds)


def pointmaze(maze: str, method: str = "IQL", **settings: Any) -> Entry:
    """Returns an entry on a generated PointMaze."""
    dataset = {"dataset": f"iql/pointmaze/{maze}-v0"}
    return Entry(f"pointmaze-{maze}", method, "pointmaze", {**dataset, **settings})


def on(dataset: str, name: str, config: str, **settings: Any) -> Entry:
    """Returns an entry of IQL on a dataset that is not generated."""
    return Entry(name, "IQL", config, {"dataset": dataset, **settings})


def in_file(name: str, task: str, config: str, method: str = "IQL", **settings: Any) -> Entry:
    """Returns an entry on a file whose name says D4RL's task."""
    return Entry(task, method, config, {"dataset": name, **settings})


def finetuned(task: str, steps: int, seeds: int) -> Entry:
    """Returns an entry that starts from the finished runs of the group 'antmaze'."""
    dataset = {"dataset": f"iql/antmaze/{task}-v0", "eval_interval": 50_000, "max_steps": steps}
    settings = {**dataset, "num_envs": 16, "opt_decay_schedule": "cosine"}
    return Entry(f"antmaze-{task}", "IQL", "antmaze_finetune", settings, seeds, after="antmaze")


GROUPS: dict[str, list[Entry]] = {
    "antmaze": [
        *(antmaze(task, max_steps=150_000) for task in ANTMAZE),
        *(
            antmaze(task, method, seeds=1, max_steps=50_000, **METHODS[method])
            for method in ("BC", "10% BC")
            for task in ANTMAZE
        ),
    ],
    "pointmaze": [
        pointmaze(maze, method, **METHODS[method])
        for maze in ("umaze", "medium", "large")
        for method in ("IQL", "BC")
    ],
    # Loss functions of the actor for the same Q and V; the budgets of a task are the same.
    "actor_losses": [
        pointmaze("large", "AWR, beta 3", max_steps=60_000, temperature=3.0),
        pointmaze("large", "AWR, beta 10", max_steps=60_000, temperature=10.0),
        pointmaze("large", "DDPG+BC, alpha 0.003", max_steps=60_000, **DDPGBC, alpha=0.003),
        antmaze("medium-play", "AWR, beta 10", max_steps=100_000),
        antmaze("medium-play", "DDPG+BC, alpha 0.3", max_steps=100_000, **DDPGBC, alpha=0.3),
    ],
    "relatives": [
        pointmaze("medium", objective, objective=objective)
        for objective in ("iql", "sarsa", "expectile_sarsa", "q_learning")
    ],
    "minari": [
        *(
            on(f"mujoco/{body}/medium-v0", f"{body}-medium", "locomotion")
            for body in ("halfcheetah", "hopper", "walker2d")
        ),
        *(on(f"D4RL/antmaze/{task}-v1", f"antmaze-{task}", "antmaze") for task in ANTMAZE),
        *(
            on(f"D4RL/kitchen/{task}-v2", f"kitchen-{task}", "kitchen")
            for task in ("complete", "partial", "mixed")
        ),
        *(
            on(f"D4RL/{hand}/{data}-v2", f"{hand}-{data}", "adroit")
            for hand in ("pen", "hammer", "door", "relocate")
            for data in ("human", "cloned", "expert")
        ),
    ],
    # D4RL's files, and what was collected as they were; --files says where they are.
    "files": [
        in_file("kitchen_complete-v0.hdf5", "kitchen-complete", "kitchen", max_steps=150_000),
        in_file("door_expert_regenerated.hdf5", "door-expert", "adroit", max_steps=5_000),
        *(
            in_file(
                f"hopper-{data}-v2_segments.hdf5",
                f"hopper-{data}",
                "locomotion",
                method,
                max_steps=10_000,
                **{**SEGMENTS, **METHODS[method]},
            )
            for data in ("medium-expert", "medium-replay")
            for method in ("IQL", "BC")
        ),
        *(
            in_file(f"antmaze-{task}-v2.hdf5", f"antmaze-{task}", "antmaze", max_steps=300_000)
            for task in ANTMAZE
        ),
    ],
    "finetune_pointmaze": [
        on("iql/pointmaze/medium-v0", "pointmaze-medium", "pointmaze_finetune"),
    ],
    "finetune_antmaze": [
        finetuned("umaze", steps=250_000, seeds=3),
        finetuned("medium-play", steps=400_000, seeds=3),
        finetuned("large-play", steps=400_000, seeds=1),
    ],
}
