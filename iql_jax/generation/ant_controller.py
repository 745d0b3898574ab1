"""A packaged goal-direction controller for the MuJoCo ant, in NumPy alone.

The ant is symmetric under quarter turns about its vertical axis, and its dynamics do not depend on
where it heads. Both symmetries are divided out before the network sees anything: vectors are
expressed in the body frame, and of the four equivalent body frames the one is taken whose x axis is
nearest to the wanted direction. To the network every wanted direction thus lies within 45 degrees
of straight ahead, and a turn by 90 degrees is a renaming of legs.

What is not divided out is how far the body is turned from the axes of the world. The network sees
it, and holds it near zero: a policy that learns from the data sees the world frame, and to it the
gait of an ant that turns freely is as many gaits as there are headings. Policies cloned from such
an ant stood still.
"""

import hashlib
import pathlib
from collections.abc import Sequence
from typing import IO, Final

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


def canonical_features(
    observations: Floats, directions: Floats, *, one_heading: bool = False
) -> tuple[Float32, Int64]:
    """Returns what the network sees, and the number of quarter turns that were divided out.

    Args:
        observations: ant observations without x, y and contact forces, shape [B, 27]: height (m),
            orientation (w, x, y, z), 8 joint angles (rad), linear velocity (m/s, world frame),
            angular velocity (rad/s, body frame), 8 joint velocities (rad/s).
        directions: wanted unit directions in the world's x-y plane, shape [B, 2].
        one_heading: whether the body shall be turned to the world's x axis, instead of the nearest
            of the four axes.

    Returns:
        Features of shape [B, 31], each of order one, and the quarter turns in 0..3, shape [B]:
        canonical leg j is leg (j + turns) % 4 of the ant.
    """
    observations = np.asarray(observations, dtype=np.float32)
    directions = np.asarray(directions, dtype=np.float32)
    batch_size = len(observations)
    rotations = rotation_matrices(observations[:, 1:5])
    up = rotations[:, 2, :]
    forward = np.einsum("bij,bi->bj", rotations[:, :2, :], directions)
    linear_velocity = np.einsum("bij,bi->bj", rotations, observations[:, 13:16])
    angular_velocity = observations[:, 16:19]

    angle = np.arctan2(forward[:, 1], forward[:, 0])
    turns = np.round(angle / (0.5 * np.pi)).astype(np.int64) % 4

    vectors = np.stack([up, forward, 0.5 * linear_velocity, 0.25 * angular_velocity], axis=1)
    vectors = _turn_back(vectors, turns)

    legs = (np.arange(4) + turns[:, None]) % 4
    rows = np.arange(batch_size)[:, None]
    angles = observations[:, 5:13].reshape(-1, 4, 2)[rows, legs]
    velocities = observations[:, 19:27].reshape(-1, 4, 2)[rows, legs]
    signs = _ANKLE_SIGNS[legs]
    features = np.concatenate(
        [
            observations[:, :1],
            vectors.reshape(-1, 12),
            2.0 * angles[:, :, 0],
            2.0 * (signs * angles[:, :, 1] - _ANKLE_CENTER),
            0.1 * velocities[:, :, 0],
            0.1 * signs * velocities[:, :, 1],
            heading_phases(rotations, one_heading),
        ],
        axis=1,
    )
    return np.clip(features, -_FEATURE_LIMIT, _FEATURE_LIMIT).astype(np.float32), turns


def heading_phases(rotations: Floats, one_heading: bool = False) -> Float32:
    """Returns sine and cosine of four times the headings, [B, 2]; (0, 1) is along an axis.

    Args:
        rotations: body-to-world rotations, shape [B, 3, 3].
        one_heading: whether the x axis alone counts: headings beyond the reach of the four-fold
            phase are then shown as the last one within it, so that the ant turns on towards x.
    """
    headings = np.arctan2(rotations[:, 1, 0], rotations[:, 0, 0])
    if one_heading:
        headings = np.clip(headings, -_HEADING_REACH, _HEADING_REACH)
    return np.stack([np.sin(4.0 * headings), np.cos(4.0 * headings)], axis=-1).astype(np.float32)


def ant_actions(canonical_actions: Floats, turns: Int64) -> Float32:
    """Translates canonical actions into the order of the ant's motors; both in [-1, 1], [B, 8].

    Args:
        canonical_actions: hips, then ankles, of the canonical legs.
        turns: quarter turns from ``canonical_features``, shape [B].
    """
    canonical_actions = np.asarray(canonical_actions, dtype=np.float32)
    legs = (np.arange(4) + turns[:, None]) % 4
    actions = np.empty((canonical_actions.shape[0], 4, 2), dtype=np.float32)
    rows = np.arange(canonical_actions.shape[0])[:, None]
    slots = _MOTOR_SLOT_OF_LEG[legs]
    actions[rows, slots, 0] = canonical_actions[:, :4]
    actions[rows, slots, 1] = _ANKLE_SIGNS[legs] * canonical_actions[:, 4:]
    return actions.reshape(-1, ACTION_DIM)


def _turn_back(vectors: Float32, turns: Int64) -> Float32:
    """Turns vectors [B, N, 3] by -90 degrees times ``turns`` [B] about z."""
    cosine = np.array([1.0, 0.0, -1.0, 0.0], dtype=np.float32)[turns][:, None]
    sine = np.array([0.0, 1.0, 0.0, -1.0], dtype=np.float32)[turns][:, None]
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    return np.stack([cosine * x + sine * y, cosine * y - sine * x, z], axis=-1)


class AntController:
    """Walks the ant along a wanted direction: a small network on canonical features.

    Attributes:
        weights: one matrix [in, out] per layer.
        biases: one vector [out] per layer.
    """

    def __init__(self, weights: Sequence[Float32], biases: Sequence[Float32]) -> None:
        self.weights = [np.asarray(weight, dtype=np.float32) for weight in weights]
        self.biases = [np.asarray(bias, dtype=np.float32) for bias in biases]

    @classmethod
    def load(cls, path: pathlib.Path = PACKAGED_CONTROLLER) -> "AntController":
        """Loads a controller that ``write`` wrote: without a path, the packaged one."""
        with np.load(path, allow_pickle=False) as arrays:
            layers = sum(name.startswith("weight_") for name in arrays.files)
            return cls(
                [arrays[f"weight_{i}"] for i in range(layers)],
                [arrays[f"bias_{i}"] for i in range(layers)],
            )

    def write(self, file: IO[bytes]) -> None:
        """Writes the layers as arrays ``weight_i`` and ``bias_i`` in half precision."""
        arrays = {f"weight_{i}": weight for i, weight in enumerate(self.weights)}
        arrays |= {f"bias_{i}": bias for i, bias in enumerate(self.biases)}
        half = {name: array.astype(np.float16) for name, array in arrays.items()}
        np.savez_compressed(file, allow_pickle=False, **half)

    def __call__(self, observations: Floats, directions: Floats) -> Float32:
        """Returns motor commands in [-1, 1], [B, 8]; see ``canonical_features``."""
        features, turns = canonical_features(observations, directions)
        return ant_actions(self.canonical_actions(features), turns)

    def canonical_actions(self, features: Float32) -> Float32:
        """Returns canonical actions in [-1, 1], shape [B, 8], for features of shape [B, 31]."""
        hidden = features
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = np.maximum(hidden @ weight + bias, 0.0)
        return np.tanh(hidden @ self.weights[-1] + self.biases[-1])
