"""Workers' results as files: numbers only, and not lost where the system does not let them read."""

import errno

import numpy as np
import pytest

from iql_jax.generation import parts
from iql_jax.generation.plan import Returns


def test_a_part_that_the_system_does_not_let_read_is_kept(tmp_path, monkeypatch):
    path = tmp_path / "part.npz"
    parts.write_part(path, Returns(np.ones(3)))
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", _too_many_open_files)
        with pytest.raises(OSError, match="Too many open files"):
            parts.is_sound(path, Returns)
    assert parts.is_sound(path, Returns)


def _too_many_open_files(path, mode):
    raise OSError(errno.EMFILE, "Too many open files", path)


def test_parts_hold_no_objects(tmp_path):
    returns = Returns(np.array([{"not": "numbers"}], dtype=object))
    parts.write_part(tmp_path / "part.npz", returns)
    with pytest.raises(ValueError, match="allow_pickle"):
        parts.read_part(tmp_path / "part.npz", Returns)
