"""The settings of the algorithm: each key once, with its type, default, range and meaning.

Names follow the official implementation where it has one. A numeric range is written in the
annotation, in words that ``check_settings`` reads: ``Annotated[float, "in (0, 1]"]``,
``Annotated[int, "at least 1"]`` or ``Annotated[float, "above 0"]``; a choice is a ``Literal``.
"""

import dataclasses
import difflib
import math
import numbers
import re
import typing
from typing import Annotated, Any, Literal

Objective = Literal["iql", "sarsa", "expectile_sarsa", "q_learning"]
ActorLoss = Literal["awr", "ddpgbc", "bc"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """Settings of an agent; the defaults are the paper's for locomotion.

    Raises:
        ValueError: On a value outside its range; the message starts with the key.
    """

    # The networks.
    hidden_dims: tuple[Annotated[int, "at least 1"], ...] = (256, 256)  # Of all networks.
    num_critics: Annotated[int, "at least 1"] = 2  # Independent; their minimum counts.
    layer_norm: bool = False  # In V and the critics, before each ReLU: keeps values in bounds.
    # Of the networks' products; parameters, sums and Adam are float32. Less is faster on a GPU.
    matmul_precision: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"

    # The optimization.
    batch_size: Annotated[int, "at least 1"] = 256
    max_steps: Annotated[int, "at least 1"] = 1_000_000  # Updates; online: environment steps.
    actor_lr: Annotated[float, "above 0"] = 3e-4
    value_lr: Annotated[float, "above 0"] = 3e-4
    critic_lr: Annotated[float, "above 0"] = 3e-4
    opt_decay_schedule: Literal["cosine", "none"] = "cosine"  # Of actor_lr, over the whole run.

    # Implicit Q-Learning (Kostrikov et al. 2021).
    discount: Annotated[float, "in [0, 1]"] = 0.99
    expectile: Annotated[float, "in (0, 1)"] = 0.7  # The paper's tau; 0.5 is the mean.
    temperature: Annotated[float, "at least 0"] = 3.0  # The paper's beta: multiplies the advantage.
    # Upper clip of the actor's weights; beyond 1e15 float32 loses the gradients.
    max_weight: Annotated[float, "in (0, 1e15]"] = 100.0
    tau: Annotated[float, "in (0, 1]"] = 0.005  # Share of the new critics in the target critics.
    dropout_rate: Annotated[float, "in [0, 1)"] = 0.0  # In the actor's hidden layers.

    # Its relatives, and other losses of the actor.
    objective: Objective = "iql"
    actor_loss: ActorLoss = "awr"
    alpha: Annotated[float, "at least 0"] = 0.3  # Of 'ddpgbc': the weight of cloning the data.
    max_actions: Annotated[int, "at least 1"] = 10  # Of 'q_learning': actions in the maximum.
    max_over: Literal["policy", "uniform"] = "policy"  # Of 'q_learning': what draws these actions.

    def __post_init__(self) -> None:
        """Checks every key, those of a subclass too."""
        check_settings(self)

    @property
    def num_updates(self) -> int:
        """Updates of the whole run, over which a cosine schedule ends."""
        return self.max_steps


def check_settings(config: Any) -> None:
    """Refuses a value outside the range that its annotation states.

    Args:
        config: A dataclass whose fields are annotated as this module describes. Fields with other
            annotations pass; of a tuple, every item is checked.

    Raises:
        ValueError: "expectile is 2.0; it must be in (0, 1)". Every message starts with the key.
    """
    hints = typing.get_type_hints(type(config), include_extras=True)
    for key in (field.name for field in dataclasses.fields(config)):
        setting, hint = getattr(config, key), hints[key]
        items = (setting,)
        if typing.get_origin(hint) is tuple:
            items, hint = setting, typing.get_args(hint)[0]
            if not items:
                raise ValueError(f"{key} is empty; it must hold at least one number")
        for item in items:
            if expected := _unmet(hint, item):
                raise ValueError(f"{key} is {setting!r}; it must be {expected}")


def _unmet(hint: Any, item: Any) -> str:
    """Returns what an annotation asks for, if ``item`` is anything else; otherwise ''."""
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        nearest = difflib.get_close_matches(str(item), choices, n=1, cutoff=0.5)
        suggestion = f"; did you mean {nearest[0]!r}?" if nearest else ""
        return "" if item in choices else f"one of {', '.join(choices)}{suggestion}"
    if typing.get_origin(hint) is Annotated:
        words: str = hint.__metadata__[0]
        if hint.__origin__ is int and not isinstance(item, numbers.Integral):
            return f"an integer {words}"
        return "" if _is_in_range(item, words) else words
    return ""


def _is_in_range(number: Any, words: str) -> bool:
    """Tells whether a number is finite and 'in [0, 1)', 'at least 0' or 'above 0', for example."""
    interval = re.sub(r"at least (\S+)", r"in [\1, inf)", words)
    interval = re.sub(r"above (\S+)", r"in (\1, inf)", interval)
    match = re.fullmatch(r"in ([\[(])(\S+), (\S+)([\])])", interval)
    if match is None:
        raise TypeError(
            f"the range {words!r} is not written as 'in (0, 1]', 'at least 1', 'above 0'"
        )
    if not isinstance(number, numbers.Real):
        return False
    number, low, high = float(number), float(match[2]), float(match[3])
    above = number >= low if match[1] == "[" else number > low
    below = number <= high if match[4] == "]" else number < high
    return math.isfinite(number) and above and below
