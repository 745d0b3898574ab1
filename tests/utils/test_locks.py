"""Locks between processes."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from iql_jax.utils.locks import is_locked, locked


def test_one_holds_it_at_a_time(tmp_path):
    path = tmp_path / "new" / "folder" / "lock"
    assert not is_locked(path)
    with locked(path):
        assert is_locked(path)
        with pytest.raises(BlockingIOError), locked(path):
            pytest.fail("two hold the lock")
    assert path.exists()
    assert not is_locked(path)
    with locked(path):
        pass


def test_what_fails_inside_releases_it(tmp_path):
    with pytest.raises(ValueError, match="inside"), locked(tmp_path / "lock"):
        raise ValueError("inside")
    assert not is_locked(tmp_path / "lock")


def test_a_killed_process_releases_it(tmp_path):
    hold = (
        "import pathlib, sys, time\n"
        "from iql_jax.utils.locks import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    path = tmp_path / "lock"
    command = [sys.executable, "-c", hold, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert is_locked(path)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    with locked(path):
        pass


@pytest.mark.parametrize("goes", ["file", "folder"])
def test_the_lock_of_a_file_that_its_holder_has_removed_counts_for_nothing(
    tmp_path, monkeypatch, goes
):
    path = tmp_path / "folder" / "lock"
    opened = Path.open
    removed = []

    def opens_what_is_removed(self, *arguments, **options):
        """Once, remove the file just after, or the folder just before, it is opened."""
        if self == path and not removed:
            removed.append(goes)
            if goes == "folder":
                path.parent.rmdir()
            else:
                file = opened(self, *arguments, **options)
                path.unlink()
                return file
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", opens_what_is_removed)
    with locked(path):
        assert removed == [goes]
        assert is_locked(path)
