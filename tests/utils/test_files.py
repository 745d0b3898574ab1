"""Files appear whole or not at all."""

import contextlib
import errno
import os

import pytest

from iql_jax.utils.errors import UserError
from iql_jax.utils.files import atomic_path, partial_path, reading


@pytest.mark.parametrize("error", [None, OSError, KeyboardInterrupt])
def test_a_file_takes_its_place_at_the_end_of_the_block(tmp_path, error):
    path = tmp_path / "table.csv"
    path.write_text("before")

    def write():
        with atomic_path(path) as partial:
            assert partial == partial_path(path)
            assert partial.parent == tmp_path  # On the same disk: a rename is enough.
            partial.write_text("after")
            assert path.read_text() == "before"
            if error is not None:
                raise error

    with contextlib.nullcontext() if error is None else pytest.raises(error):
        write()
    assert path.read_text() == ("after" if error is None else "before")
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("no\nheader"), r"\(ValueError: no header\): get it again"),
        (OSError("truncated"), "get it again"),
        (errno.ENOENT, "get it again"),
        (errno.EAGAIN, "read: another process is writing to it"),
        (errno.ENOLCK, "read: .* set HDF5_USE_FILE_LOCKING"),
        (errno.EACCES, "read: Permission denied$"),
    ],
)
def test_advice_for_damage_is_not_given_where_the_system_refuses(tmp_path, error, message):
    if isinstance(error, int):
        error = OSError(error, os.strerror(error))
    with pytest.raises(UserError, match=f"table .*{message}"), reading("table", "get it again"):
        raise error
