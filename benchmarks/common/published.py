"""Published scores of IQL on D4RL's datasets, by D4RL's name of the task.

- The paper: Kostrikov et al. 2021 (arXiv 2110.06169), table 1 and, for the single tasks of Adroit
  and Kitchen, its appendix. Locomotion is D4RL's -v2, everything else -v0.
- CORL: mean and standard deviation of its IQL's last scores over seeds, in the README of
  github.com/corl-team/CORL. Locomotion and AntMaze are D4RL's -v2, Adroit -v1.
- Fine-tuning: success before and after 1M environment steps, the paper's on AntMaze-v0 after 1M
  offline updates, CORL's on AntMaze-v2.

The data are D4RL's throughout; Minari's and generated datasets are others of the same kind.
"""

# The paper's score, CORL's mean, and its standard deviation.
OFFLINE: dict[str, tuple[float | None, float | None, float | None]] = {
    "halfcheetah-medium": (47.4, 48.31, 0.22),
    "halfcheetah-medium-replay": (44.2, 44.46, 0.22),
    "halfcheetah-medium-expert": (86.7, 94.74, 0.52),
    "hopper-medium": (66.3, 67.53, 3.78),
    "hopper-medium-replay": (94.7, 97.43, 6.39),
    "hopper-medium-expert": (91.5, 107.42, 7.80),
    "walker2d-medium": (78.3, 80.91, 3.17),
    "walker2d-medium-replay": (73.9, 82.15, 3.03),
    "walker2d-medium-expert": (109.6, 111.72, 0.86),
    "antmaze-umaze": (87.5, 77.00, 5.52),
    "antmaze-umaze-diverse": (62.2, 54.25, 5.54),
    "antmaze-medium-play": (71.2, 65.75, 11.71),
    "antmaze-medium-diverse": (70.0, 73.75, 5.45),
    "antmaze-large-play": (39.6, 42.00, 4.53),
    "antmaze-large-diverse": (47.5, 30.25, 3.63),
    "kitchen-complete": (62.5, None, None),
    "kitchen-partial": (46.3, None, None),
    "kitchen-mixed": (51.0, None, None),
    "pen-human": (71.5, 78.49, 8.21),
    "hammer-human": (1.4, 1.79, 0.80),
    "door-human": (4.3, 3.26, 1.83),
    "relocate-human": (0.1, 0.12, 0.04),
    "pen-cloned": (37.3, 83.42, 8.19),
    "hammer-cloned": (2.1, 1.50, 0.69),
    "door-cloned": (1.6, 3.07, 1.75),
    "relocate-cloned": (-0.2, 0.04, 0.01),
    "pen-expert": (None, 128.05, 9.21),
    "door-expert": (None, 106.65, 0.25),
    "hammer-expert": (None, 128.68, 0.33),
    "relocate-expert": (None, 106.11, 4.02),
}

# Before and after, the paper's and CORL's.
FINETUNING: dict[str, tuple[float, float, float | None, float | None]] = {
    "antmaze-umaze": (86.7, 96.0, 77.0, 96.5),
    "antmaze-umaze-diverse": (75.0, 84.0, None, None),
    "antmaze-medium-play": (72.0, 95.0, 71.75, 89.75),
    "antmaze-medium-diverse": (68.3, 92.0, None, None),
    "antmaze-large-play": (25.5, 46.0, None, None),
    "antmaze-large-diverse": (42.6, 60.7, None, None),
}


def offline(task: str) -> list[str]:
    """Returns the paper's score and CORL's; '-' where there is none."""
    paper, mean, deviation = OFFLINE.get(task, (None, None, None))
    return [
        "-" if paper is None else f"{paper:.1f}",
        "-" if mean is None else f"{mean:.2f} ± {deviation:.2f}",
    ]


def finetuning(task: str) -> list[str]:
    """Returns the scores before and after fine-tuning, the paper's and CORL's."""
    numbers = FINETUNING.get(task, (None,) * 4)
    pairs = (numbers[:2], numbers[2:])
    return ["-" if before is None else f"{before:g} to {after:g}" for before, after in pairs]
