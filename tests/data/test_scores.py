"""Scores: their rules, and the reference returns that they need."""

import pytest
from minari_datasets import change_metadata, load, spec_json, write_box

from iql_jax.data.scores import D4RL_REFERENCES, ScoreRule, minari_references, named_entry


def test_scores():
    rule = ScoreRule("normalized", 10.0, 30.0)
    assert rule.score([10, 20], None) == 25
    assert rule.score([40], [True]) == 150
    assert ScoreRule("success").score([0, 0, 0, 9], [True, False, False, False]) == 25
    assert ScoreRule("success").score([1.0], None) is None
    assert ScoreRule("none").score([1.0], [True]) is None
    # Half way between hopper's references, -20.272305 and 3234.3.
    hopper = ScoreRule("normalized", *D4RL_REFERENCES["hopper"])
    assert hopper.score([1607.0138475], None) == pytest.approx(50)


def test_references_of_minari_datasets():
    stored = {"ref_min_score": 1.0, "ref_max_score": 3.0}
    assert minari_references({"dataset_id": "any/thing-v0", **stored}) == (1, 3)
    assert minari_references({"dataset_id": "any/thing-v0", "ref_min_score": 1.0}) is None
    assert minari_references({"dataset_id": "any/thing-v0", **stored, "ref_min_score": 3}) is None
    door = {"dataset_id": "D4RL/door/human-v2"}
    assert minari_references(door) == D4RL_REFERENCES["door"]
    assert minari_references(door | stored) == (1, 3)
    # New data from other versions of the environments: D4RL's constants are not theirs.
    assert minari_references({"dataset_id": "mujoco/hopper/medium-v0"}) is None


@pytest.mark.usefixtures("data_folders")
def test_pens_references_are_for_another_time_limit():
    spec = spec_json("gymnasium_robotics.envs.adroit_hand:Pen", "AdroitHandPen-v1", 200)
    change_metadata(write_box(), env_spec=spec, ref_min_score=96.0, ref_max_score=3076.0)
    assert "100 steps" in load().record["notes"][0]


SOURCE = {
    "hopper-random-v0": (-20.272305, 3234.3),
    "ant-medium-replay-v2": (-325.6, 3879.7),
    "pen-human-v1": (96.262799, 3076.8331017826877),
    "relocate-human-longhorizon-v1": (-6.425911, 4233.877797728884),
    "kitchen-mixed-v0": (0.0, 4.0),
}
"""A sample of d4rl/infos.py and of the registrations."""


def test_references_by_d4rls_names():
    assert {name: named_entry(D4RL_REFERENCES, name) for name in SOURCE} == SOURCE
    for name in ("ant2-medium-v0", "minigrid-fourrooms-v0", "hopper2", "maze2d-umaze-v1", ""):
        assert named_entry(D4RL_REFERENCES, name) is None
