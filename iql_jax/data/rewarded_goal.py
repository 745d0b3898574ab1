"""The goal that a maze file's rewards refer to, found from where they are given and where not.

AntMaze's was drawn once a file, when the rewards were computed, and is nowhere stored; but every
step that ends within a radius of it is rewarded (``scripts/generation/relabel_antmaze_rewards.py``
in D4RL), and no other.
"""

import numpy as np

from iql_jax.utils.arrays import Bool, Float64

_SIDE = 201  # Candidates along each side of the box that has all possible goals.
_TOLERANCE = 0.01  # Meters; positions may have been rounded after rewards were computed.


def rewarded_goal(
    positions: Float64, rewarded: Bool, radius: float
) -> tuple[tuple[float, float], float] | None:
    """Finds the goal within ``radius`` (m) of all rewarded positions [N, 2] and of no other.

    Returns:
        The goal, and how far from it the true one may lie; None where there is no such point.
    """
    from scipy.spatial import KDTree  # Half a second, which most commands need not wait for.

    inside = positions[rewarded]
    if not len(inside):
        return None
    corners = _corners(inside)
    low, high = corners.max(axis=0) - radius, corners.min(axis=0) + radius
    if (low > high + _TOLERANCE).any():
        return None
    x, y = (np.linspace(a, max(a, b), _SIDE) for a, b in zip(low, high, strict=True))
    candidates = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    farthest = np.zeros(len(candidates))
    for corner in corners:
        np.maximum(farthest, np.linalg.norm(candidates - corner, axis=1), out=farthest)
    slack = radius - farthest
    near = np.linalg.norm(positions - candidates.mean(axis=0), axis=1) < 3 * radius
    outside = positions[~rewarded & near]
    if len(outside):
        slack = np.minimum(slack, KDTree(outside).query(candidates)[0] - radius)
    best = float(slack.max())
    if best < -_TOLERANCE:
        return None
    possible = candidates[slack >= min(best, 0.0)]
    distances = np.linalg.norm(possible - possible.mean(axis=0), axis=1)
    goal = possible[np.argmin(distances)]
    error = float(np.linalg.norm(possible - goal, axis=1).max())
    return (float(goal[0]), float(goal[1])), error


def _corners(points: Float64) -> Float64:
    """Returns the corners of the points' convex hull; all points where there is none."""
    from scipy.spatial import ConvexHull, QhullError

    points = np.unique(points, axis=0)
    try:
        return points[ConvexHull(points).vertices] if len(points) > 2 else points
    except QhullError:  # All on one line.
        return points
