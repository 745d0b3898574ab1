"""The hidden folder in which a dataset is made: one process at a time, and resumable.

It lies beside the finished datasets, where Minari's listings skip it, and holds a lock file, the
finished parts, and the dataset that is being written. However the making ends, short of success,
the parts stay, so that the next one goes on from them; everything else goes.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
from collections.abc import Iterator

from minari.storage import get_dataset_path

from iql_jax.utils.errors import UserError
from iql_jax.utils.locks import is_locked, locked


class AnotherIsMaking(UserError):
    """Another process is making the dataset."""


REPLACED = "old"
"""The name, in the folder, of a dataset whose place a new one is about to take."""

_PREFIX = ".iql_jax-making-"
_LOCK = "lock"
_PARTS = "parts-"
_PART_SUFFIX = ".npz"


@dataclasses.dataclass(frozen=True)
class Workspace:
    """The folders of one making.

    Attributes:
        folder: where the dataset is written: on the disk of the finished ones.
        parts: where finished parts are kept, for this content alone.
    """

    folder: pathlib.Path
    parts: pathlib.Path

    def part(self, kind: str, index: int) -> pathlib.Path:
        """The file of a part."""
        return self.parts / f"{kind}-{index:05d}{_PART_SUFFIX}"


@contextlib.contextmanager
def open_workspace(dataset_id: str, digest: str) -> Iterator[Workspace]:
    """Lock the hidden folder of a dataset's making, with the parts that an earlier one left.

    What processes that died left half written is removed, here and in the folders of other
    datasets, as are parts of this dataset with another digest. If the block ends well the folder is
    removed; if it raises the parts stay.

    Args:
        dataset_id: the dataset's id.
        digest: of all that determines the content of the parts.

    Raises:
        AnotherIsMaking: if another process is making the dataset.
        UserError: if the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            root = get_dataset_path()  # Makes the folder.
            folder = _folder(root, dataset_id)
            stack.enter_context(locked(folder / _LOCK))
            workspace = Workspace(folder, folder / f"{_PARTS}{digest}")
            put_back(folder / REPLACED, get_dataset_path(dataset_id))
            _clear(folder, keep=workspace.parts)
            workspace.parts.mkdir(exist_ok=True)
            _clear_unfinished(workspace.parts)
            _sweep(root, own=folder)
        except BlockingIOError as error:
            raise AnotherIsMaking(
                f"another process is making {dataset_id} in {root}: wait for it, or stop it"
            ) from error
        except OSError as error:
            raise UserError(
                f"cannot write to Minari's folder of datasets ({error}); "
                "set MINARI_DATASETS_PATH to a folder you may write"
            ) from error
        try:
            yield workspace
        except BaseException:
            _clear_unfinished(workspace.parts)
            if list(workspace.parts.iterdir()):
                _clear(folder, keep=workspace.parts)
            else:
                _remove(folder)
            raise
        _remove(folder)


def put_back(replaced: pathlib.Path, final: pathlib.Path) -> None:
    """Move a replaced dataset back to its place, if nothing has come there.

    So it is where a process was killed, or failed, between the two moves.
    """
    if os.path.lexists(replaced) and not os.path.lexists(final):
        os.replace(replaced, final)


def is_being_made(dataset_id: str) -> bool:
    """Whether a process is making a dataset now: whether it holds the lock."""
    return is_locked(_folder(get_dataset_path(), dataset_id) / _LOCK)


def _folder(root: pathlib.Path, dataset_id: str) -> pathlib.Path:
    # No id has a dot: different ids have different folders.
    return root / f"{_PREFIX}{dataset_id.replace('/', '.')}"


def _clear_unfinished(parts: pathlib.Path) -> None:
    """Remove the files of parts that were being written."""
    for path in parts.iterdir():
        if path.suffix != _PART_SUFFIX:
            path.unlink(missing_ok=True)


def _clear(folder: pathlib.Path, keep: pathlib.Path | None = None) -> None:
    """Remove what a locked folder holds but its lock and one folder of parts."""
    for path in folder.iterdir():
        if path.name != _LOCK and path != keep:
            _delete(path)


def _remove(folder: pathlib.Path) -> None:
    """Remove a locked folder."""
    _clear(folder)
    (folder / _LOCK).unlink()
    with contextlib.suppress(OSError):  # Another process may have begun to use it.
        folder.rmdir()


def _delete(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _sweep(root: pathlib.Path, own: pathlib.Path) -> None:
    """Remove what dead processes left half written of other datasets, as far as that may be done.

    A folder that holds nothing of the kind is not touched, so that its lock stays free.
    """
    for folder in root.glob(f"{_PREFIX}*"):
        if folder == own or not _half_written(folder):
            continue
        with contextlib.suppress(OSError), locked(folder / _LOCK):
            dataset_id = folder.name.removeprefix(_PREFIX).replace(".", "/")
            put_back(folder / REPLACED, root / dataset_id)
            for path in _half_written(folder):
                _delete(path)
            if not list(folder.glob(f"{_PARTS}*/*{_PART_SUFFIX}")):
                _remove(folder)


def _half_written(folder: pathlib.Path) -> list[pathlib.Path]:
    """What a folder holds besides its lock and parts."""
    return [path for path in folder.glob("*") if not path.name.startswith((_LOCK, _PARTS))]
