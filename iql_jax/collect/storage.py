"""New Minari datasets that appear complete or not at all."""

import contextlib
import errno
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

from iql_jax.errors import UserError

BYTES_PER_ARRAY = 4096
"""What HDF5 adds, at most, to each array that Minari stores in it."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_complete(dataset_id: str) -> bool:
    """Whether a dataset of this id lies in Minari's local folder."""
    return (get_dataset_path(dataset_id) / "data" / "metadata.json").is_file()


@contextlib.contextmanager
def new_dataset(
    dataset_id: str,
    *,
    env_spec: EnvSpec,
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    expected_bytes: int,
) -> Iterator[MinariStorage]:
    """Open the storage of a new dataset, and put it in place once the block has ended well.

    The data are written to a hidden folder beside the final one (Minari's listings skip those).
    If the block raises, nothing remains. A dataset that already has the id is replaced at the end.

    Args:
        dataset_id: the dataset's id.
        env_spec: the environment that the data come from.
        observation_space: the space of the observations.
        action_space: the space of the actions.
        expected_bytes: how large it will be; where there is no such room, nothing is begun.

    Yields:
        Minari's storage; fill it with ``add_episodes`` and ``update_metadata``.

    Raises:
        UserError: if the disk is full or the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            root = get_dataset_path()  # Makes the folder.
            hidden = tempfile.TemporaryDirectory(prefix=".iql_jax-making-", dir=root)
            making = pathlib.Path(stack.enter_context(hidden))
        except OSError as error:
            raise UserError(
                f"cannot write to Minari's folder of datasets ({error}); "
                "set MINARI_DATASETS_PATH to a folder you may write"
            ) from error
        _require_room(making, expected_bytes)
        (making / "new").mkdir()
        storage = MinariStorage.new(
            making / "new" / "data",
            observation_space=observation_space,
            action_space=action_space,
            env_spec=env_spec,
            data_format="hdf5",
        )
        yield storage
        _put_in_place(dataset_id, making / "new", making / "old")


def add_episodes(storage: MinariStorage, episodes: Sequence[EpisodeBuffer]) -> None:
    """Append episodes to a dataset, after making sure that the disk has room for them.

    HDF5 may end the process with a segmentation fault when a write fails; so it must not come
    to that.

    Raises:
        UserError: if there is no room.
    """
    _require_room(storage.data_path, sum(_stored_bytes(episode) for episode in episodes))
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


def _require_room(folder: pathlib.Path, size: int) -> None:
    """Raise a UserError unless a file of this size can be written in the folder.

    Only the attempt counts quotas and limits on file sizes too.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            elif shutil.disk_usage(folder).free < size:  # macOS.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise UserError(
            f"no space left to make the dataset in {get_dataset_path()}: {size / 1e6:,.0f} MB more "
            f"are needed ({error.strerror}); free some, or set MINARI_DATASETS_PATH to another disk"
        ) from error


def _put_in_place(dataset_id: str, made: pathlib.Path, replaced: pathlib.Path) -> None:
    """Move a finished dataset to its place, and what was there before to ``replaced``."""
    namespace = parse_dataset_id(dataset_id)[0]
    if namespace is not None and namespace not in list_local_namespaces():
        create_namespace(namespace)
    final = get_dataset_path(dataset_id)
    with contextlib.suppress(FileNotFoundError):
        os.replace(final, replaced)
    os.replace(made, final)
