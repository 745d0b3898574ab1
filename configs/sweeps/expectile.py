"""Success against the expectile, as in the paper's figure 3, three seeds each; for any config."""

from typing import Any


def get_sweep() -> dict[str, list[Any]]:
    """Each value of each key with every one of the others."""
    return {"expectile": [0.5, 0.6, 0.7, 0.8, 0.9, 0.95], "seed": [0, 1, 2]}
