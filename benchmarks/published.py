"""What others report of IQL on D4RL's datasets: normalised scores, by D4RL's name of the task.

Sources:

- ``PAPER``: Kostrikov et al. 2021 (arXiv 2110.06169), IQL in table 1 and, for the single tasks of
  Adroit and Kitchen, in the appendix. Locomotion is D4RL's -v2, everything else -v0.
- ``CORL_LAST`` and ``CORL_BEST``: mean and standard deviation over seeds, the columns of IQL under
  "Last Scores" and "Best Scores" in the README of github.com/corl-team/CORL. Locomotion and AntMaze
  are D4RL's -v2, Adroit -v1. A best score is the highest of a run's evaluations, chosen afterwards.
- ``PAPER_ONLINE``: success before and after 1M environment steps, of the paper's table of online
  fine-tuning, on AntMaze-v0 after 1M offline updates.
- ``CORL_ONLINE``: the same of CORL's IQL on AntMaze-v2, in the same README.

The data are D4RL's throughout; Minari's and this package's own are others of the same kind.
"""

from collections.abc import Iterator, Mapping

Spread = tuple[float, float]
"""Mean and standard deviation."""

Change = tuple[float, float]
"""Before and after fine-tuning."""

PAPER: dict[str, float] = {
    "halfcheetah-medium": 47.4,
    "halfcheetah-medium-replay": 44.2,
    "halfcheetah-medium-expert": 86.7,
    "hopper-medium": 66.3,
    "hopper-medium-replay": 94.7,
    "hopper-medium-expert": 91.5,
    "walker2d-medium": 78.3,
    "walker2d-medium-replay": 73.9,
    "walker2d-medium-expert": 109.6,
    "antmaze-umaze": 87.5,
    "antmaze-umaze-diverse": 62.2,
    "antmaze-medium-play": 71.2,
    "antmaze-medium-diverse": 70.0,
    "antmaze-large-play": 39.6,
    "antmaze-large-diverse": 47.5,
    "kitchen-complete": 62.5,
    "kitchen-partial": 46.3,
    "kitchen-mixed": 51.0,
    "pen-human": 71.5,
    "hammer-human": 1.4,
    "door-human": 4.3,
    "relocate-human": 0.1,
    "pen-cloned": 37.3,
    "hammer-cloned": 2.1,
    "door-cloned": 1.6,
    "relocate-cloned": -0.2,
}

CORL_LAST: dict[str, Spread] = {
    "halfcheetah-medium": (48.31, 0.22),
    "halfcheetah-medium-replay": (44.46, 0.22),
    "halfcheetah-medium-expert": (94.74, 0.52),
    "hopper-medium": (67.53, 3.78),
    "hopper-medium-replay": (97.43, 6.39),
    "hopper-medium-expert": (107.42, 7.80),
    "walker2d-medium": (80.91, 3.17),
    "walker2d-medium-replay": (82.15, 3.03),
    "walker2d-medium-expert": (111.72, 0.86),
    "antmaze-umaze": (77.00, 5.52),
    "antmaze-umaze-diverse": (54.25, 5.54),
    "antmaze-medium-play": (65.75, 11.71),
    "antmaze-medium-diverse": (73.75, 5.45),
    "antmaze-large-play": (42.00, 4.53),
    "antmaze-large-diverse": (30.25, 3.63),
    "pen-human": (78.49, 8.21),
    "pen-cloned": (83.42, 8.19),
    "pen-expert": (128.05, 9.21),
    "door-human": (3.26, 1.83),
    "door-cloned": (3.07, 1.75),
    "door-expert": (106.65, 0.25),
    "hammer-human": (1.79, 0.80),
    "hammer-cloned": (1.50, 0.69),
    "hammer-expert": (128.68, 0.33),
    "relocate-human": (0.12, 0.04),
    "relocate-cloned": (0.04, 0.01),
    "relocate-expert": (106.11, 4.02),
}

CORL_BEST: dict[str, Spread] = {
    "halfcheetah-medium": (48.84, 0.07),
    "halfcheetah-medium-replay": (45.35, 0.08),
    "halfcheetah-medium-expert": (95.38, 0.17),
    "hopper-medium": (80.46, 3.09),
    "hopper-medium-replay": (102.69, 0.96),
    "hopper-medium-expert": (113.18, 0.38),
    "walker2d-medium": (87.58, 0.48),
    "walker2d-medium-replay": (89.94, 0.93),
    "walker2d-medium-expert": (113.06, 0.53),
    "antmaze-umaze": (84.00, 4.06),
    "antmaze-umaze-diverse": (79.50, 3.35),
    "antmaze-medium-play": (78.50, 3.84),
    "antmaze-medium-diverse": (83.50, 1.80),
    "antmaze-large-play": (53.50, 2.50),
    "antmaze-large-diverse": (53.00, 3.00),
    "pen-human": (106.15, 10.28),
    "pen-cloned": (114.05, 4.78),
    "pen-expert": (140.01, 6.36),
    "door-human": (13.52, 1.22),
    "door-cloned": (9.02, 1.47),
    "door-expert": (107.29, 0.37),
    "hammer-human": (6.86, 2.38),
    "hammer-cloned": (11.63, 1.70),
    "hammer-expert": (129.76, 0.37),
    "relocate-human": (1.22, 0.28),
    "relocate-cloned": (1.78, 0.70),
    "relocate-expert": (110.12, 0.82),
}

PAPER_ONLINE: dict[str, Change] = {
    "antmaze-umaze": (86.7, 96.0),
    "antmaze-medium-play": (72.0, 95.0),
}

CORL_ONLINE: dict[str, Change] = {
    "antmaze-umaze": (77.0, 96.5),
    "antmaze-medium-play": (71.75, 89.75),
}


def names(dataset_id: str) -> Iterator[str]:
    """What D4RL may call a dataset: its words, with and without its first folder's.

    The version is left out: others made other data of the same kind.

    Args:
        dataset_id: such as 'D4RL/door/human-v2' or 'hopper-medium-v2'.
    """
    words = dataset_id.lower().rpartition("-v")[0].split("/")
    yield from ("-".join(words), "-".join(words[1:]))


def task(dataset_id: str) -> str | None:
    """D4RL's name of the task of which a dataset is, if there is a number for it here."""
    return next((name for name in names(dataset_id) if name in PAPER or name in CORL_LAST), None)


def mean_std(table: Mapping[str, Spread], name: str) -> str:
    """An entry as its source has it."""
    mean, deviation = table[name]
    return f"{mean:.2f} ± {deviation:.2f}"
