"""New Minari datasets: written beside the finished ones, and renamed when they are whole."""

import contextlib
import dataclasses
import importlib.metadata
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import filelock
import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_dataset import parse_dataset_id
from minari.dataset.minari_storage import MinariStorage
from minari.namespace import create_namespace, list_local_namespaces

from iql_jax.data.find import datasets_root
from iql_jax.utils.console import logger
from iql_jax.utils.errors import UserError

_POLL_SECONDS = 0.2


@contextlib.contextmanager
def hold_place(dataset_id: str, check: Callable[[], None]) -> Iterator[pathlib.Path]:
    """Holds the place of a new dataset; waits for a process that writes one of the same id.

    Args:
        dataset_id: the id.
        check: called several times a second while it waits; may raise.

    Yields:
        An empty hidden folder beside the finished datasets, which goes when the block ends.

    Raises:
        UserError: if the system refuses to write, in the block too: a full disk, no permission.
    """
    root = datasets_root()
    folder = root / f".new-{dataset_id.replace('/', '.')}"
    lock = filelock.FileLock(f"{folder}.lock")
    try:
        _acquire(lock, dataset_id, check)
        try:
            shutil.rmtree(folder, ignore_errors=True)  # Of a process that was killed.
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            # Those who wait for the removed file notice, and take the lock of a new one.
            pathlib.Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()
    except OSError as error:
        reason = " ".join((error.strerror or str(error)).split())
        raise UserError(
            f"{dataset_id} cannot be written in {root}: {reason}; free some space there, or set "
            "MINARI_DATASETS_PATH to another folder"
        ) from error


@contextlib.contextmanager
def new_dataset(
    dataset_id: str,
    folder: pathlib.Path,
    *,
    env_spec: EnvSpec | None,
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
) -> Iterator[MinariStorage]:
    """Opens the storage of a new dataset, which takes its place once the block has ended well.

    It replaces a dataset of the same id.

    Args:
        dataset_id: the id.
        folder: see ``hold_place``.
        env_spec: the environment that the data come from.
        observation_space: the space of the observations.
        action_space: the space of the actions.

    Yields:
        Minari's storage; fill it with ``add_episodes`` and ``update_metadata``.

    Raises:
        UserError: if the id's folder holds other things than a dataset.
    """
    final = datasets_root() / dataset_id
    if final.exists() and not (final / "data").exists() and any(final.iterdir()):
        raise UserError(f"{final} holds other datasets, or other files: choose another id")
    data = folder / "new" / "data"
    data.parent.mkdir()
    storage = MinariStorage.new(
        data, observation_space=observation_space, action_space=action_space, env_spec=env_spec
    )
    storage.update_episodes([])  # Makes an HDF5 file of an empty one.
    yield storage
    version = importlib.metadata.version("minari")
    storage.update_metadata({"dataset_id": dataset_id, "minari_version": version})
    namespace = parse_dataset_id(dataset_id)[0]
    if namespace is not None and namespace not in list_local_namespaces():
        create_namespace(namespace)
    if final.exists():
        os.replace(final, folder / "old")
    os.replace(data.parent, final)


def add_episodes(storage: MinariStorage, episodes: Sequence[EpisodeBuffer]) -> None:
    """Appends episodes to a dataset, each with a group of infos: Minari's readers want one.

    HDF5 crashes the process where a write fails, so its file is lengthened first; HDF5 cuts off
    what it has not used.
    """
    if hasattr(os, "posix_fallocate"):  # Not on macOS.
        arrays = [array for episode in episodes for array in _arrays(vars(episode))]
        with open(storage.data_path / "main_data.hdf5", "r+b") as file:
            length = os.fstat(file.fileno()).st_size
            size = sum(2 * array.nbytes + 4096 for array in arrays)
            os.posix_fallocate(file.fileno(), length, max(size, 1))
    storage.update_episodes(
        [dataclasses.replace(episode, infos=episode.infos or {}) for episode in episodes]
    )


def _arrays(entry: Any) -> Iterator[npt.NDArray[Any]]:
    if isinstance(entry, dict):
        for value in entry.values():
            yield from _arrays(value)
    elif entry is not None:
        yield np.asarray(entry)


def _acquire(lock: filelock.BaseFileLock, dataset_id: str, check: Callable[[], None]) -> None:
    with contextlib.suppress(filelock.Timeout):
        lock.acquire(timeout=0)
        return
    logger.info(f"waiting for another process that writes {dataset_id}")
    while True:
        check()
        with contextlib.suppress(filelock.Timeout):
            lock.acquire(timeout=_POLL_SECONDS)
            return
