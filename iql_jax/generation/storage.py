"""New Minari datasets that appear complete or not at all."""

import contextlib
import errno
import importlib.metadata
import math
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_dataset import parse_dataset_id
from minari.dataset.minari_storage import MinariStorage
from minari.namespace import create_namespace, list_local_namespaces
from minari.storage import get_dataset_path

from iql_jax.generation.workspace import REPLACED, put_back
from iql_jax.utils.errors import UserError

BYTES_PER_ARRAY = 4096
"""What HDF5 adds, at most, to each array that Minari stores in it."""

_METADATA_BYTES = 1_000_000
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_complete(dataset_id: str) -> bool:
    """Whether a dataset of this id lies in Minari's local folder."""
    return (get_dataset_path(dataset_id) / "data" / "metadata.json").is_file()


def check_place(dataset_id: str) -> None:
    """Refuse an id under which no dataset can be put in Minari's local folder.

    Raises:
        UserError: if the id's folder holds other datasets or lies in one, or would look like one's
            data; or if nothing can be moved to it in one step: it is on another disk than Minari's
            folder, or not writable.
    """
    if "data" in dataset_id.split("/")[1:]:  # By a folder of this name a dataset is known.
        raise UserError(f"{dataset_id} has a part named data: choose another id")
    root, final = get_dataset_path(), get_dataset_path(dataset_id)
    above = list(final.parents)[: dataset_id.count("/") + 1]  # From the innermost to the root.
    for folder in above[:-1]:
        if (folder / "data").exists():
            raise UserError(f"{dataset_id} would lie in the dataset {folder}: choose another id")
    if not _is_free(final):
        raise UserError(
            f"{final} holds other datasets, or other files: choose another id than {dataset_id}"
        )
    parent = next(folder for folder in above if folder.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"{dataset_id} cannot be put in {parent}: the folder is not writable")
    if parent.stat().st_dev != root.stat().st_dev:
        raise UserError(
            f"{dataset_id} cannot be moved from {root}, where it is written, to {parent}: that is "
            "another disk; set MINARI_DATASETS_PATH to a folder there"
        )


def _is_free(final: pathlib.Path) -> bool:
    """Whether a dataset may take this place: of nothing, of an empty folder or of a dataset."""
    if final.is_dir():
        return (final / "data").exists() or not any(final.iterdir())
    return not final.exists()


@contextlib.contextmanager
def new_dataset(
    dataset_id: str,
    folder: pathlib.Path,
    *,
    env_spec: EnvSpec,
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    expected_bytes: int,
) -> Iterator[MinariStorage]:
    """Open the storage of a new dataset, and put it in place once the block has ended well.

    A dataset that already has the id is replaced at the end. Of the metadata it adds what every
    dataset has: the id, and Minari's version.

    Args:
        dataset_id: the dataset's id.
        folder: where the data are written before (see ``workspace``), and where a dataset that is
            replaced is put; whoever opened it removes them.
        env_spec: the environment that the data come from.
        observation_space: the space of the observations.
        action_space: the space of the actions.
        expected_bytes: how much will be written; where there is no such room, nothing is begun.

    Yields:
        Minari's storage; fill it with ``add_episodes`` and ``update_metadata``.

    Raises:
        UserError: if the disk is full, and as ``check_place``.
    """
    check_place(dataset_id)
    with no_room_as_user_error(expected_bytes), tempfile.TemporaryFile(dir=folder) as file:
        _allocate(file.fileno(), expected_bytes)
    with no_room_as_user_error(_METADATA_BYTES):
        (folder / "new").mkdir()
        storage = MinariStorage.new(
            folder / "new" / "data",
            observation_space=observation_space,
            action_space=action_space,
            env_spec=env_spec,
            data_format="hdf5",
        )
        storage.update_episodes([])  # Makes an HDF5 file of an empty one.
        yield storage
        version = importlib.metadata.version("minari")
        storage.update_metadata({"dataset_id": dataset_id, "minari_version": version})
        _put_in_place(dataset_id, folder / "new", folder / REPLACED)


def add_episodes(storage: MinariStorage, episodes: Sequence[EpisodeBuffer]) -> None:
    """Append episodes to a dataset, after making sure that the disk has room for them.

    HDF5 may end the process with a segmentation fault when a write fails; so its file is lengthened
    first. It cuts off what it has not used.

    Raises:
        UserError: if there is no room.
    """
    size = sum(_stored_bytes(episode) for episode in episodes)
    with no_room_as_user_error(size):
        with open(storage.data_path / "main_data.hdf5", "r+b") as file:
            _allocate(file.fileno(), size)
        storage.update_episodes(episodes)


def _stored_bytes(episode: EpisodeBuffer) -> int:
    """Bound the bytes that an episode takes in an HDF5 file."""
    arrays: list[Any] = []
    fields: list[Any] = [episode.observations, episode.actions, episode.infos]
    fields += [episode.rewards, episode.terminations, episode.truncations]
    while fields:
        field = fields.pop()
        if isinstance(field, dict):
            fields += field.values()
        else:
            arrays.append(np.asarray(field))
    return sum(array.nbytes + BYTES_PER_ARRAY for array in arrays)


def _allocate(descriptor: int, size: int) -> None:
    """Lengthen an open file by bytes that then have their place on the disk.

    Only the attempt counts quotas and limits on file sizes too.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, size)
    elif shutil.disk_usage(descriptor).free < size:  # macOS.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def no_room_as_user_error(size: int) -> Iterator[None]:
    """Raise a UserError where a block that writes this many bytes fails for want of room."""
    try:
        yield
    except OSError as error:
        # (A temporary file of an environment's may be on another disk.)
        elsewhere = error.filename and not _is_below(error.filename, get_dataset_path())
        if error.errno not in _FULL or elsewhere:
            raise
        megabytes = math.ceil(size / 1e6)
        raise UserError(
            f"no space left to make the dataset in {get_dataset_path()}: {megabytes:,} MB more "
            f"are needed ({error.strerror}); free some, or set MINARI_DATASETS_PATH to another disk"
        ) from error


def _is_below(path: str, folder: pathlib.Path) -> bool:
    return pathlib.Path(path).resolve().is_relative_to(folder.resolve())


def _put_in_place(dataset_id: str, made: pathlib.Path, replaced: pathlib.Path) -> None:
    """Move a finished dataset to its place, and what was there before to ``replaced``.

    Where the first cannot be done, the second is undone.

    Raises:
        UserError: if that is not possible, for other reasons than a full disk.
    """
    namespace = parse_dataset_id(dataset_id)[0]
    final = get_dataset_path(dataset_id)
    try:
        if namespace is not None and namespace not in list_local_namespaces():
            create_namespace(namespace)
        with contextlib.suppress(FileNotFoundError):
            os.replace(final, replaced)
        try:
            os.replace(made, final)
        except BaseException:
            put_back(replaced, final)
            raise
    except OSError as error:
        if error.errno in _FULL:
            raise
        raise UserError(
            f"the finished dataset cannot be moved from {made.parent} to {final}: {error.strerror}"
        ) from error
