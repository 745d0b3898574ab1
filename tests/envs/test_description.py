"""Descriptions as JSON, which a run's folder holds."""

import dataclasses
import json

import numpy as np
import pytest

from iql_jax.envs.description import EnvironmentDescription, Layout, MazeTask, from_json, to_json
from iql_jax.envs.mazes import MazeMap

LAYOUT = Layout(
    observation_dim=2,
    action_dim=1,
    observation_keys=("a", "b/c"),
    observation_mean=np.float32([0.1, 1e-9]),
    action_low=np.float32([-1.1]),
)
WHOLE = EnvironmentDescription(
    **vars(LAYOUT),
    spec="{}",
    kwargs={"cells": [[1, "g"]]},
    maze=MazeTask(MazeMap.from_lists([[1, "g"], [0, 1]], 4.0), (0.1, 2.5), 0.5),
    trusted=True,
    requirements=("mujoco<4",),
    model_xml="<mujoco/>",
)


@pytest.mark.parametrize("description", [LAYOUT, WHOLE, dataclasses.replace(WHOLE, maze=None)])
def test_json_holds_all_but_trust(description):
    restored = from_json(json.loads(json.dumps(to_json(description))))
    assert type(restored) is type(description)
    for field in dataclasses.fields(description):
        before, after = (getattr(each, field.name) for each in (description, restored))
        if isinstance(before, np.ndarray):
            assert after.dtype == before.dtype
            np.testing.assert_array_equal(after, before)
        else:
            assert after == (False if field.name == "trusted" else before)
