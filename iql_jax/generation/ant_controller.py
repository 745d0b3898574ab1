"""A packaged goal-direction controller for the MuJoCo ant, in NumPy alone.

The ant is symmetric under quarter turns about its vertical axis, and its dynamics do not depend on
where it heads. Both symmetries are divided out: vectors are expressed in the body frame, and of the
four equivalent ones that is taken whose x axis is nearest to the wanted direction. A turn by 90
degrees is then a renaming of legs.

The network sees how far the body is turned from the axes of the world, and holds that near zero. A
policy that learns from the data sees the world frame, where the gait of an ant that turns freely is
as many gaits as there are headings. Policies cloned from such an ant stood still.
"""

import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from iql_jax.utils.arrays import Float32, Float64, Int64

Floats = Float32 | Float64

ACTION_DIM: Final = 8
FEATURE_DIM: Final = 31

# Legs are numbered counter-clockwise from the one at +x, +y, as are the joints of the observation.
# Seen along that order the ankles of the second and third leg turn about the opposite axis.
_ANKLE_SIGNS: Final = np.array([1.0, -1.0, -1.0, 1.0], dtype=np.float32)
# Motors are listed from the fourth leg on, joints from the first.
_MOTOR_SLOT_OF_LEG: Final = np.array([1, 2, 3, 0])
_ANKLE_CENTER: Final = np.deg2rad(50.0)
_FEATURE_LIMIT: Final = 5.0
_HEADING_REACH: Final = 0.6  # Radians; at pi / 4 the phase would point both ways.

PACKAGED_CONTROLLER: Final = pathlib.Path(__file__).with_name("ant_controller.npz")


def packaged_controller_digest() -> str:
    """Returns 16 hexadecimal digits that tell the packaged controller from others."""
    return hashlib.sha256(PACKAGED_CONTROLLER.read_bytes()).hexdigest()[:16]


def rotation_matrices(quaternions: Floats) -> Float32:
    """Returns the body-to-world rotations [B, 3, 3] of unit quaternions (w, x, y, z), [B, 4].

    The third column is the body's up vector in the world.
    """
    w, x, y, z = np.asarray(quaternions, dtype=np.float32).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def headings(rotations: Floats) -> Float32:
    """Returns the angles (rad) of the bodies' x axes to the world's, [B]."""
    return np.arctan2(rotations[:, 1, 0], rotations[:, 0, 0])


def canonical_features(observations: Floats, directions: Floats) -> tuple[Float32, Int64]:
    """Returns what the network sees, [B, 31], each of order one, and quarter turns in 0..3, [B].

    Canonical leg j is leg (j + turns) % 4 of the ant. The last two features are sine and cosine of
    four times the heading. Headings beyond the reach of that phase are shown as the last one within
    it, so that the ant turns on towards the world's x axis.

    ``observations`` [B, 27] are the ant's without x, y and contact forces: height (m), orientation
    (w, x, y, z), 8 joint angles (rad), linear velocity (m/s, world frame), angular velocity (rad/s,
    body frame), 8 joint velocities (rad/s). Wanted ``directions`` [B, 2] have unit length.
    """
    observations = np.asarray(observations, dtype=np.float32)
    directions = np.asarray(directions, dtype=np.float32)
    rotations = rotation_matrices(observations[:, 1:5])
    up = rotations[:, 2, :]
    forward = np.einsum("bij,bi->bj", rotations[:, :2, :], directions)
    linear_velocity = np.einsum("bij,bi->bj", rotations, observations[:, 13:16])
    angular_velocity = observations[:, 16:19]

    angle = np.arctan2(forward[:, 1], forward[:, 0])
    turns = np.round(angle / (0.5 * np.pi)).astype(np.int64) % 4

    # Turned back by -90 degrees times ``turns`` about z.
    vectors = np.stack([up, forward, 0.5 * linear_velocity, 0.25 * angular_velocity], axis=1)
    cosine = np.array([1.0, 0.0, -1.0, 0.0], dtype=np.float32)[turns][:, None]
    sine = np.array([0.0, 1.0, 0.0, -1.0], dtype=np.float32)[turns][:, None]
    x, y, z = np.moveaxis(vectors, -1, 0)
    vectors = np.stack([cosine * x + sine * y, cosine * y - sine * x, z], axis=-1)

    legs = (np.arange(4) + turns[:, None]) % 4
    rows = np.arange(len(observations))[:, None]
    angles = observations[:, 5:13].reshape(-1, 4, 2)[rows, legs]
    velocities = observations[:, 19:27].reshape(-1, 4, 2)[rows, legs]
    signs = _ANKLE_SIGNS[legs]
    phases = 4.0 * np.clip(headings(rotations), -_HEADING_REACH, _HEADING_REACH)
    features = np.concatenate(
        [
            observations[:, :1],
            vectors.reshape(-1, 12),
            2.0 * angles[:, :, 0],
            2.0 * (signs * angles[:, :, 1] - _ANKLE_CENTER),
            0.1 * velocities[:, :, 0],
            0.1 * signs * velocities[:, :, 1],
            np.stack([np.sin(phases), np.cos(phases)], axis=-1),
        ],
        axis=1,
    )
    return np.clip(features, -_FEATURE_LIMIT, _FEATURE_LIMIT).astype(np.float32), turns


def ant_actions(canonical_actions: Floats, turns: Int64) -> Float32:
    """Translates canonical actions into the order of the ant's motors; both in [-1, 1], [B, 8].

    Canonical are hips, then ankles, of the legs after the ``turns`` of ``canonical_features``, [B].
    """
    canonical_actions = np.asarray(canonical_actions, dtype=np.float32)
    legs = (np.arange(4) + turns[:, None]) % 4
    actions = np.empty((len(canonical_actions), 4, 2), dtype=np.float32)
    rows, slots = np.arange(len(canonical_actions))[:, None], _MOTOR_SLOT_OF_LEG[legs]
    actions[rows, slots, 0] = canonical_actions[:, :4]
    actions[rows, slots, 1] = _ANKLE_SIGNS[legs] * canonical_actions[:, 4:]
    return actions.reshape(-1, ACTION_DIM)


class AntController:
    """Walks the ant along a wanted direction: layers of weights [in, out] and biases [out]."""

    def __init__(self, layers: Sequence[tuple[Any, Any]]) -> None:
        self.layers = [(np.float32(weights), np.float32(biases)) for weights, biases in layers]

    @classmethod
    def load(cls, path: pathlib.Path = PACKAGED_CONTROLLER) -> "AntController":
        """Loads arrays ``weight_i`` and ``bias_i``: without a path, the packaged ones."""
        with np.load(path, allow_pickle=False) as arrays:
            count = len(arrays.files) // 2
            return cls([(arrays[f"weight_{i}"], arrays[f"bias_{i}"]) for i in range(count)])

    def __call__(self, features: Float32) -> Float32:
        """Returns canonical actions in [-1, 1], [B, 8], for features [B, 31]."""
        hidden = features
        for weights, biases in self.layers[:-1]:
            hidden = np.maximum(hidden @ weights + biases, 0.0)
        weights, biases = self.layers[-1]
        return np.tanh(hidden @ weights + biases)
