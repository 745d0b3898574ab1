"""Normalised scores, as the field reports them: 100 is an expert, 0 a random policy.

A score is only given where a reference is known: from the dataset's metadata, or from D4RL's
published constants for its own tasks.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec

from iql_jax.utils.errors import UserError

Entry = TypeVar("Entry")

D4RL_REFERENCES: dict[str, tuple[float, float]] = {
    "halfcheetah": (-280.178953, 12135.0),
    "hopper": (-20.272305, 3234.3),
    "walker2d": (1.629008, 4592.3),
    "ant": (-325.6, 3879.7),
    "antmaze": (0.0, 1.0),
    "maze2d-open": (0.01, 20.66),
    "maze2d-umaze": (23.85, 161.86),
    "maze2d-umaze-v0": (0.94, 62.6),
    "maze2d-medium": (13.13, 277.39),
    "maze2d-medium-v0": (5.77, 85.14),
    "maze2d-large": (6.7, 273.99),
    "maze2d-large-v0": (4.83, 191.99),
    "maze2d-open-dense": (11.17817, 27.166538620695782),
    "maze2d-umaze-dense": (68.537689, 193.66285642381482),
    "maze2d-umaze-dense-v0": (23.249793, 81.78995240126592),
    "maze2d-medium-dense": (44.264742, 297.4552547777125),
    "maze2d-medium-dense-v0": (19.477620, 96.03474232952358),
    "maze2d-large-dense": (30.569041, 303.4857382709002),
    "maze2d-large-dense-v0": (27.388310, 215.09965671563742),
    "pen": (96.262799, 3076.8331017826877),
    "hammer": (-274.856578, 12794.134825156867),
    "door": (-56.512833, 2880.5693087298737),
    "relocate": (-6.425911, 4233.877797728884),
    "kitchen": (0.0, 4.0),
}
"""D4RL's (random, expert) returns, by the beginning of its datasets' names (``named_entry``).

They do not depend on who collected the data (random, medium, expert, human, play and so on) nor,
but for Maze2D, on the version. From Fu et al. 2020; github.com/Farama-Foundation/D4RL,
``d4rl/infos.py``, and ``d4rl/pointmaze/__init__.py`` for Maze2D's first version.
"""

_MINARI_GROUPS = ("pen", "hammer", "door", "relocate", "kitchen")
"""Folders of Minari's D4RL namespace whose environments kept D4RL's rewards.

Not 'mujoco/...': those are new data from other versions of the environments. Not 'pointmaze':
its time limits differ from maze2d's.
"""

_PALM_REWARDED = ("AdroitHandDoor", "AdroitHandHammer", "AdroitHandRelocate")


@dataclasses.dataclass(frozen=True)
class ScoreRule:
    """How evaluation episodes become one score.

    Attributes:
        kind: 'success' (the success rate in percent), 'normalized' (100 (x - min) / (max - min) of
            the mean return x) or 'none'.
        ref_min: the return that scores 0, for 'normalized'.
        ref_max: the return that scores 100, for 'normalized'.
    """

    kind: Literal["success", "normalized", "none"]
    ref_min: float | None = None
    ref_max: float | None = None

    def score(self, returns: npt.ArrayLike, successes: npt.ArrayLike | None) -> float | None:
        """Scores episodes by their raw returns [E] and successes [E]; None where it cannot."""
        if self.kind == "success":
            return (
                None if successes is None else 100.0 * float(np.sum(successes)) / np.size(successes)
            )
        if self.kind == "normalized" and self.ref_min is not None and self.ref_max is not None:
            return normalized_score(float(np.mean(np.asarray(returns))), self.ref_min, self.ref_max)
        return None


def normalized_score(raw: float, ref_min: float, ref_max: float) -> float:
    """100 (raw - ref_min) / (ref_max - ref_min)."""
    if not ref_max > ref_min:
        raise UserError(f"reference scores must rise, not go from {ref_min} to {ref_max}")
    return 100.0 * (raw - ref_min) / (ref_max - ref_min)


def d4rl_reference(name: str) -> tuple[float, float] | None:
    """Returns D4RL's (random, expert) returns by a dataset's name, as 'hopper-medium-v2'."""
    return named_entry(D4RL_REFERENCES, name)


def named_entry(table: Mapping[str, Entry], name: str) -> Entry | None:
    """Looks up the longest beginning of a D4RL name that a table has.

    Of the words of 'maze2d-umaze-dense-v0', 'maze2d-umaze-dense' goes before 'maze2d-umaze'; and of
    one beginning, the key with the version ('maze2d-umaze-dense-v0') before the one without.
    """
    words, found, version = name.rpartition("-v")
    if not found or not version.isdigit():
        words, version = name, ""
    parts = words.split("-")
    for length in range(len(parts), 0, -1):
        beginning = "-".join(parts[:length])
        for key in (f"{beginning}-v{version}", beginning):
            if key in table:
                return table[key]
    return None


def score_rule(references: tuple[float, float] | None, is_maze: bool) -> ScoreRule:
    """Returns the rule for a dataset: success in mazes, else by the returns for 0 and 100."""
    if is_maze:
        return ScoreRule("success")
    return ScoreRule("none") if references is None else ScoreRule("normalized", *references)


def minari_references(metadata: Mapping[str, Any]) -> tuple[Any, Any]:
    """Returns the returns that score 0 and 100 for a Minari dataset; None where none is known.

    Args:
        metadata: its metadata, which may hold ref_min_score and ref_max_score; else those of D4RL
            are taken, for tasks that kept its rewards.
    """
    low, high = metadata.get("ref_min_score"), metadata.get("ref_max_score")
    if low is not None and high is not None:
        return low, high
    parts = str(metadata["dataset_id"]).split("/")
    if len(parts) == 3 and parts[0] == "D4RL" and parts[1] in _MINARI_GROUPS:
        return D4RL_REFERENCES[parts[1]]
    return None, None


def score_caveats(rule: ScoreRule, spec: EnvSpec) -> list[str]:
    """Returns known reasons why a score is not comparable with published ones."""
    if rule.kind != "normalized":
        return []
    if spec.name in _PALM_REWARDED and spec.version == 1:
        # gymnasium_robotics turned a sign in 1.2.1, and made a second version only in 1.4.3. A
        # random policy gains 0.4 points of door's score by it.
        return [
            f"{spec.id} rewards the distance from the palm to the object, at 0.1 a step for each "
            "metre, where D4RL punishes it: scores are a little too high"
        ]
    if spec.name == "AdroitHandPen" and spec.max_episode_steps != 100:
        return [
            f"reference scores of pen are for 100 steps, but episodes of {spec.id} have "
            f"{spec.max_episode_steps}: normalized scores are too high (Minari issue 286)"
        ]
    return []
