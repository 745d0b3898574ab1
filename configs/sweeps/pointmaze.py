"""Expectile against temperature on PointMaze; for --config=configs/pointmaze.py."""

from typing import Any


def get_sweep() -> dict[str, list[Any]]:
    """Each value of each key with every one of the others."""
    return {
        "expectile": [0.5, 0.7, 0.9, 0.95],
        "temperature": [1.0, 3.0, 10.0],
        "seed": [42, 43],
    }
