"""The settings of the data, each key once: type, default, range and meaning, as in AgentConfig."""

import dataclasses
from typing import Annotated, Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Settings that decide which transitions a run learns from."""

    # A Minari id such as 'D4RL/antmaze/umaze-v1', or the path of a file: D4RL's .hdf5 (or .h5),
    # OGBench's .npz.
    dataset: str = ""
    # If the dataset can be neither found nor downloaded: 'generate' its counterpart, with other
    # data, or 'fail'. 'auto' generates at a terminal and fails elsewhere.
    dataset_fallback: Literal["auto", "generate", "fail"] = "auto"
    # Of a file: the task's name as D4RL or OGBench has it, such as 'hopper-medium-v2'; 'none': no
    # known task. Empty: as the file is named.
    task: str = ""
    # Of a file: its terminals are time limits, and the bootstrap continues behind them.
    terminals_are_time_limits: bool = False
    top_episodes: Annotated[float, "in (0, 1]"] = 1.0  # Share kept, those of the highest return.
    reward_transform: Literal["none", "minus_one", "return_range"] = "none"
    normalize_observations: bool = False  # To mean 0 and standard deviation 1.
    # See iql_jax/data/maze_steps.py.
    maze_goal: Literal["auto", "eval", "episode", "stored"] = "auto"
    maze_terminate_at_success: bool = True  # Where rewards are not 'stored'.
    # What follows an arrival and is left out; see iql_jax/data/maze_steps.py.
    maze_drop: Literal["nothing", "waiting", "after_success"] = "nothing"
    maze_walls: Literal["data", "evaluation"] = "data"  # See iql_jax/data/maze_task.py.


DATA_KEYS = tuple(f.name for f in dataclasses.fields(DataConfig) if f.name != "dataset_fallback")
"""The keys of a config that say which transitions it learns from, once its dataset is found."""
