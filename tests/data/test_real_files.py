"""Every data file that others made loads by its path alone."""

import pathlib

import numpy as np
import pytest
from minari_datasets import load

REAL = pathlib.Path(__file__).parents[2].parent / "shared" / "real"
FILES = {
    "kitchen_complete-v0.hdf5": (3_679, 19),
    "hopper-medium-expert-v2_segments.hdf5": (19_800, 200),
    "hopper-medium-replay-v2_segments.hdf5": (9_900, 100),
    "door_expert_regenerated.hdf5": (19_900, 100),
    "berkeley_hopper_v2.hdf5": (1_999, 2),
    "berkeley_halfcheetah_v4.hdf5": (1_999, 2),
    "rlbench_microwave.h5": (7_965, 73),
}
"""Transitions and episodes."""

SAID = {
    "kitchen_complete-v0.hdf5": "to be evaluated in D4RLKitchen",
    "door_expert_regenerated.hdf5": "to be evaluated in AdroitHandDoor",
    "berkeley_hopper_v2.hdf5": "2 of 2 terminals end episodes of exactly 1,000 steps",
    "berkeley_halfcheetah_v4.hdf5": "63.5 %) lay outside the action space",
    "rlbench_microwave.h5": "names no task of D4RL's",
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_others_made_loads(name):
    path = REAL / name
    if not path.is_file():
        pytest.skip(f"{path} is not here")  # Others' files, which the project does not hold.
    dataset = load(path)
    assert (dataset.size, dataset.record["episodes"]) == FILES[name]
    assert SAID.get(name, "") in " | ".join(dataset.record["notes"])
    assert all(np.isfinite(array).all() for array in dataset.transitions.values())
    is_evaluated = name.startswith(("hopper", "door", "kitchen"))
    assert (dataset.environment is not None) == is_evaluated
    assert (dataset.score_rule.kind == "normalized") == is_evaluated
