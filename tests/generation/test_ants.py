"""Ants that walk side by side, and what steers them."""

import os

import gymnasium as gym
import mujoco
import numpy as np

from iql_jax.generation.ant_controller import AntController, ant_actions, canonical_features
from iql_jax.generation.antmaze import TASKS
from iql_jax.generation.ants import Ants, steer
from iql_jax.generation.maze_tasks import build_environment

UPRIGHT, ON_ITS_BACK = [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]
HIP, ANKLE = np.deg2rad(30), np.deg2rad([30, 50, 70])  # Limits and middles of the joints' ranges.
CONTROLLER = AntController.load()
CENTERED = [0.0, ANKLE[1], 0.0, -ANKLE[1], 0.0, -ANKLE[1], 0.0, ANKLE[1]]


def ants_of(count, task="umaze"):
    """Ants that stand at their start, upright and centered, without speed."""
    ants = Ants(TASKS[task], count)
    for ant in range(count):
        ants.reset(ant, ant)
    ants.states[:, 3:7] = UPRIGHT
    ants.states[:, 7:15] = CENTERED
    ants.states[:, 15:] = 0.0
    return ants


def driven_by(ants):
    """The controller's own actions."""
    features, turns = canonical_features(ants.states[:, 2:], ants.directions())
    return ant_actions(CONTROLLER(features), turns)


def test_a_step_is_the_environments():
    ants = ants_of(2, "medium-diverse")
    env = gym.make(TASKS["medium-diverse"].collecting_spec())
    os.unlink(env.unwrapped.tmp_xml_file_path)
    actions = np.random.default_rng(0).uniform(-1, 1, (60, 2, 8)).astype(np.float32)
    for ant, seed in ((1, 6), (0, 7)):
        ants.reset(ant, seed)
    for action in actions:
        ants.step(action)
    for ant, seed in ((0, 7), (1, 6)):
        observation, _ = env.reset(seed=seed)
        assert (np.abs(ants.goals[ant] % 4.0) == 2.0).all()  # The middle of a cell.
        env.unwrapped.goal = ants.goals[ant]
        for action in actions[:, ant]:
            observation, reward, _, _, _ = env.step(action)
        state = [*observation["achieved_goal"], *observation["observation"]]
        np.testing.assert_array_equal(ants.states[ant], state)
        assert ants.at_goal()[ant] == reward
    env.close()


def test_directions_lead_to_the_waypoints_and_through_the_middle_of_one_cell():
    ants = ants_of(3)
    # In the starting cell; below the wall's end, where the way turns up; in the goal's cell.
    ants.states[:, :2] = [[-4.0, -4.0], [4.0, -3.0], ants.goals[2] + np.array([0.3, 0.4])]
    expected = [[1.0, 0.0], [0.0, 1.0], [-0.6, -0.8]]
    np.testing.assert_allclose(ants.directions(), expected, atol=1e-6)
    ants.through = (3, 3)  # The corner around (4, -4), between the corridor and the way up.
    # On the way in; in the lane on which the way leaves; before the cell.
    ants.states[:, :2] = [[3.0, -4.3], [3.7, -4.0], [1.0, -4.0]]
    way_in, way_out = np.array([1.0, 0.3]), np.array([0.3, 4.0])
    expected = [way_in / np.linalg.norm(way_in), way_out / np.linalg.norm(way_out), [1.0, 0.0]]
    np.testing.assert_allclose(ants.directions(), expected, atol=1e-6)


def test_joints_are_in_the_order_of_the_motors():
    ants = ants_of(2)
    low, _, high = ANKLE
    ants.states[0, 7:15] = [HIP, low, 0.0, -low, -HIP, -high, 0.5 * HIP, high]
    expected = [0.5, 1.0, 1.0, -1.0, 0.0, 1.0, -1.0, -1.0]
    np.testing.assert_allclose(ants.joint_positions()[0], expected, atol=1e-6)
    model = build_environment(TASKS["umaze"]).model
    assert (model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT).all()
    ants.states[0, 15:] = np.arange(14)
    velocities = model.jnt_dofadr[model.actuator_trnid[:, 0]]
    np.testing.assert_array_equal(ants.joint_velocities()[0], velocities)


def test_upright_ants_are_damped():
    ants = ants_of(1)
    ants.states[:, 21:] = [2.0, -1.0, 0.5, 0.0, 0.0, 0.0, 3.0, 99.0]
    driven, actions = driven_by(ants), steer(CONTROLLER, ants)
    # Minus 0.05 of the velocities; the motors of the fourth leg come first.
    damping = np.array([-0.15, -4.95, -0.1, 0.05, -0.025, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(actions[0], np.clip(driven[0] + damping, -1, 1), atol=1e-5)


def test_joints_that_hardly_move_are_driven_on_and_to_the_middle_of_their_ranges():
    ants = ants_of(4)
    ants.states[1, 3:7] = ON_ITS_BACK
    ants.states[2, :2] = ants.goals[2]
    away = np.array([0.5, 0.25, -0.5, 0.25, 1.0, -1.0, 0.0, 0.5])  # In the order of the joints.
    ants.states[:, 7:15] = CENTERED + away * np.tile([HIP, np.deg2rad(20)], 4)
    ants.states[3, 21:] = 1.5  # At this speed 1 / e of it.
    driven, actions = driven_by(ants), steer(CONTROLLER, ants)
    back = -np.roll(away, 2)
    np.testing.assert_allclose(actions[0], np.clip(driven[0] + back, -1, 1), atol=1e-5)
    np.testing.assert_allclose(actions[1], driven[1], atol=1e-5)
    np.testing.assert_array_equal(actions[2], np.zeros(8))
    moving = driven[3] + back / np.e + 1.5 * (0.4 / np.e - 0.05)
    np.testing.assert_allclose(actions[3], np.clip(moving, -1, 1), atol=1e-5)
