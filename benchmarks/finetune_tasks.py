"""What the benchmarks of fine-tuning run on: the embedded mazes that the paper's numbers are of."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Task:
    """What is fine-tuned on.

    Attributes:
        config: the config file, relative to the repository.
        dataset: the dataset's id.
        target: the success (%) that is hoped for.
    """

    config: str
    dataset: str
    target: float


_ANTMAZE = "configs/antmaze_finetune.py"
TASKS = {
    "pointmaze-medium": Task("configs/pointmaze_finetune.py", "iql/pointmaze/medium-v0", 99.0),
    "antmaze-umaze": Task(_ANTMAZE, "iql/antmaze/umaze-v0", 96.0),
    "antmaze-medium-play": Task(_ANTMAZE, "iql/antmaze/medium-play-v0", 95.0),
}
