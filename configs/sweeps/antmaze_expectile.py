"""The expectile on AntMaze, three seeds each; for --config=configs/antmaze.py."""

from typing import Any


def get_sweep() -> dict[str, list[Any]]:
    """Each value of each key with every one of the others."""
    return {"expectile": [0.5, 0.7, 0.8, 0.9, 0.95], "seed": [42, 43, 44]}
