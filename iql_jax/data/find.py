"""Finding datasets that are on this disk."""

import pathlib

from iql_jax.utils.errors import UserError


def is_file(dataset: str) -> bool:
    """Returns whether a dataset's name means a file, by its suffix; no Minari id ends so."""
    return dataset.endswith((".hdf5", ".h5", ".npz"))


def is_local(dataset_id: str) -> bool:
    """Returns whether Minari's local folder holds a dataset of this id, or what is left of one."""
    return (datasets_root() / dataset_id / "data").is_dir()


def datasets_root() -> pathlib.Path:
    """Returns Minari's folder of datasets, created if it is missing."""
    from minari.storage.datasets_root_dir import get_dataset_path

    try:
        return get_dataset_path()
    except OSError as error:
        raise UserError(
            f"cannot use the folder of datasets ({error}): set MINARI_DATASETS_PATH to another"
        ) from error


def local_ids(root: pathlib.Path) -> list[str]:
    """Returns the ids of all datasets in a folder of datasets."""
    found = (path.parent.relative_to(root) for path in root.glob("**/data"))
    return sorted(path.as_posix() for path in found if not path.as_posix().startswith("."))
