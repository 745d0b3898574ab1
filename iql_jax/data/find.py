"""Finding datasets that are on this disk."""

import contextlib
import pathlib
from collections.abc import Iterator

from iql_jax.utils.errors import UserError

FILE_SUFFIXES = (".hdf5", ".h5", ".npz")


def is_file(dataset: str) -> bool:
    """Returns whether a dataset's name means a file, by its suffix; no Minari id ends so."""
    return dataset.endswith(FILE_SUFFIXES)


def is_local(dataset_id: str) -> bool:
    """Returns whether Minari's local folder holds a dataset of this id."""
    return (datasets_root() / dataset_id / "data" / "metadata.json").is_file()


def datasets_root() -> pathlib.Path:
    """Returns Minari's folder of datasets, which is made where it is missing.

    Raises:
        UserError: if it cannot be used.
    """
    from minari.storage.datasets_root_dir import get_dataset_path

    try:
        return get_dataset_path()
    except OSError as error:
        raise UserError(
            f"cannot use the folder of datasets ({error}): set MINARI_DATASETS_PATH to another"
        ) from error


def local_ids(root: pathlib.Path) -> list[str]:
    """Returns the ids of all datasets in a folder of datasets, linked ones too."""
    return sorted(path.relative_to(root).as_posix() for path in _datasets(root, frozenset()))


def _datasets(folder: pathlib.Path, above: frozenset[tuple[int, int]]) -> Iterator[pathlib.Path]:
    """Yields the datasets in a folder; links back to one of the folders above are not followed.

    Folders that cannot be read hold none.
    """
    with contextlib.suppress(OSError):
        state = folder.stat()
        place = (state.st_dev, state.st_ino)
        if place in above:
            return
        for child in folder.iterdir():
            if child.name.startswith(".") or not child.is_dir():
                continue
            if (child / "data").is_dir():
                yield child
            else:
                yield from _datasets(child, above | {place})
