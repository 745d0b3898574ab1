"""Normalized scores, as the field reports them: 100 is an expert, 0 a random policy.

A score is only given where a reference is known: from the dataset's metadata, or from D4RL's
published constants for its own tasks.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

Entry = TypeVar("Entry")

D4RL_REFERENCES: dict[str, tuple[float, float]] = {
    "halfcheetah": (-280.178953, 12135.0),
    "hopper": (-20.272305, 3234.3),
    "walker2d": (1.629008, 4592.3),
    "ant": (-325.6, 3879.7),
    "pen": (96.262799, 3076.8331017826877),
    "hammer": (-274.856578, 12794.134825156867),
    "door": (-56.512833, 2880.5693087298737),
    "relocate": (-6.425911, 4233.877797728884),
    "kitchen": (0.0, 4.0),
}
"""D4RL's (random, expert) returns, by the beginning of its datasets' names (``named_entry``).

From github.com/Farama-Foundation/D4RL, ``d4rl/infos.py``. Mazes are scored by their successes.
"""

_MINARI_GROUPS = ("pen", "hammer", "door", "relocate", "kitchen")
"""Folders of Minari's D4RL namespace whose environments kept D4RL's rewards.

Not 'mujoco/...': those are new data from other versions of the environments. Not 'pointmaze':
its time limits differ from maze2d's.
"""


@dataclasses.dataclass(frozen=True)
class ScoreRule:
    """Makes one score of evaluation episodes.

    'success' is the success rate in percent; 'normalized' is 100 (x - min) / (max - min) of the
    mean return x.
    """

    kind: Literal["success", "normalized", "none"]
    ref_min: float | None = None
    ref_max: float | None = None

    def score(self, returns: npt.ArrayLike, successes: npt.ArrayLike | None) -> float | None:
        """Scores episodes by their raw returns [E] and successes [E]; None where it cannot."""
        if self.kind == "success" and successes is not None:
            return 100.0 * float(np.sum(successes)) / np.size(successes)
        if self.kind == "normalized" and self.ref_min is not None and self.ref_max is not None:
            raw = float(np.mean(np.asarray(returns)))
            return 100.0 * (raw - self.ref_min) / (self.ref_max - self.ref_min)
        return None


def named_entry(table: Mapping[str, Entry], name: str) -> Entry | None:
    """Looks up the longest beginning of a D4RL name that a table has.

    Of 'maze2d-umaze-v0' it tries 'maze2d-umaze-v0', 'maze2d-umaze', 'maze2d-v0' and 'maze2d'.
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


def minari_references(metadata: Mapping[str, Any]) -> tuple[float, float] | None:
    """Returns the returns that score 0 and 100 for a Minari dataset, where they are known.

    They are its metadata's, or D4RL's for tasks that kept its rewards.
    """
    low, high = metadata.get("ref_min_score"), metadata.get("ref_max_score")
    if low is not None and high is not None:
        return (float(low), float(high)) if high > low else None
    parts = str(metadata["dataset_id"]).split("/")
    if len(parts) == 3 and parts[0] == "D4RL" and parts[1] in _MINARI_GROUPS:
        return D4RL_REFERENCES[parts[1]]
    return None
