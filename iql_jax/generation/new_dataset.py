"""New Minari datasets: written beside the finished ones, and renamed when they are whole."""

import contextlib
import importlib.metadata
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import filelock
from minari.data_collector import EpisodeBuffer
from minari.data_collector.callbacks import EpisodeMetadataCallback
from minari.dataset.minari_storage import MinariStorage
from minari.namespace import create_namespace, list_local_namespaces

from iql_jax.data.find import datasets_root
from iql_jax.generation.maze_tasks import MazeTask, build_environment
from iql_jax.utils.console import logger
from iql_jax.utils.errors import UserError

_POLL_SECONDS = 0.2
_SPACE = 4096  # Bytes, more than what HDF5 adds to an array or to an episode.


@contextlib.contextmanager
def hold_place(dataset_id: str, check: Callable[[], Any]) -> Iterator[pathlib.Path]:
    """Yields an empty hidden folder for a new dataset, which goes when the block ends.

    Waits for a process that writes one of the same id, and calls ``check``, which may raise,
    several times a second meanwhile.

    Raises:
        UserError: if the system refuses to write, in the block too: a full disk, no permission.
    """
    root = datasets_root()
    folder = root / f".new-{dataset_id.replace('/', '.')}"
    lock = filelock.FileLock(f"{folder}.lock")
    try:
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            logger.info(f"waiting for another process that writes {dataset_id}")
            lock.acquire(timeout=1e7, poll_interval=_POLL_SECONDS, cancel_check=check)
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
def new_dataset(dataset_id: str, folder: pathlib.Path, task: MazeTask) -> Iterator[MinariStorage]:
    """Yields the storage of a new dataset; fill it with ``add_episodes`` and ``update_metadata``.

    It lies in the ``folder`` of ``hold_place``. Once the block has ended well it takes its place,
    also that of a dataset of the same id.
    """
    env = build_environment(task)
    data = folder / "new" / "data"
    data.parent.mkdir()
    storage = MinariStorage.new(
        data,
        observation_space=env.observation_space,
        action_space=env.action_space,
        env_spec=task.collecting_spec(),
    )
    storage.update_episodes([])  # Makes an HDF5 file of an empty one.
    yield storage
    version = importlib.metadata.version("minari")
    storage.update_metadata({"dataset_id": dataset_id, "minari_version": version})
    namespace = dataset_id.rpartition("/")[0]
    if namespace not in list_local_namespaces():
        create_namespace(namespace)
    final = datasets_root() / dataset_id
    if final.exists():
        os.replace(final, folder / "old")
    os.replace(data.parent, final)


def add_episodes(storage: MinariStorage, episodes: Sequence[EpisodeBuffer]) -> None:
    """Appends episodes of a maze to a dataset, with the statistics of Minari's collector."""
    first, statistics = storage.total_episodes, EpisodeMetadataCallback()
    _lengthen(storage, sum(map(_most_bytes, episodes)))
    storage.update_episodes(episodes)
    _lengthen(storage, _SPACE * len(episodes))
    storage.update_episode_metadata(
        (statistics({"rewards": episode.rewards}) for episode in episodes),
        range(first, first + len(episodes)),
    )


def _lengthen(storage: MinariStorage, size: int) -> None:
    """Lengthens the HDF5 file by so many bytes; HDF5 cuts off what it then does not use.

    HDF5 crashes the process where a write fails.
    """
    if hasattr(os, "posix_fallocate"):  # Not on macOS.
        with open(storage.data_path / "main_data.hdf5", "r+b") as file:
            os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)


def _most_bytes(episode: Any) -> int:
    """Returns how much of a file an episode can take."""
    parts = (episode.actions, episode.rewards, episode.terminations, episode.truncations)
    arrays = [*parts, *episode.observations.values(), *episode.infos.values()]
    return sum(2 * array.nbytes + _SPACE for array in arrays)
