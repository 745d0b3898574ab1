"""From a dataset id to a folder: local, else downloaded, else the embedded twin.

A twin is another dataset than the one that was asked for, so it is announced, and it is written
into the run's record: a run that was begun on it goes on with it, whatever could be had by then,
and one that was begun on the dataset itself never goes on with a twin.
"""

import contextlib
import dataclasses
import difflib
import functools
import os
import pathlib
import re
import time
from collections.abc import Iterator
from typing import Literal

from iql_jax.data.download import DownloadFailed, download
from iql_jax.utils.console import logger
from iql_jax.utils.errors import UserError

LOCAL_NAMESPACE = "iql"
"""Datasets that this package makes itself; no server has them."""

_POLL_SECONDS = 1.0

_ID = re.compile(r"^[-\w]+(/[-\w]+)*-v\d+$")


@dataclasses.dataclass(frozen=True)
class Resolved:
    """Where a dataset is.

    Attributes:
        id: the dataset that is used.
        requested_id: the dataset that was asked for; another one where a twin stands in.
        source: 'local' (it was there), 'downloaded' or 'embedded' (this package makes it).
        path: its folder, which holds ``data/``.
    """

    id: str
    requested_id: str
    source: Literal["local", "downloaded", "embedded"]
    path: pathlib.Path


def resolve(dataset_id: str, progress: bool = True, begun_on: str = "") -> Resolved:
    """Find a dataset, and get it where it is not here.

    Args:
        dataset_id: a Minari id with its version, such as 'D4RL/antmaze/umaze-v1'.
        progress: whether to show progress bars.
        begun_on: the dataset that a run which asked for this one was begun on, this one or its
            twin; by default the twin stands in where this one cannot be had.

    Raises:
        UserError: if there is no such dataset; names ids like it.
    """
    from iql_jax.generation import catalog
    from iql_jax.generation.storage import is_complete

    root = datasets_root()
    if not _ID.fullmatch(dataset_id):
        raise UserError(
            f"{dataset_id!r} is no dataset id; ids look like 'D4RL/antmaze/umaze-v1', with the "
            f"version{_suggestions(dataset_id, root)}"
        )
    if dataset_id in catalog.EMBEDDED:
        return _embedded(dataset_id, dataset_id, root, progress)
    if begun_on in catalog.EMBEDDED:
        return _embedded(begun_on, dataset_id, root, progress)
    if is_complete(dataset_id):
        return Resolved(dataset_id, dataset_id, "local", root / dataset_id)
    if (root / dataset_id / "data").exists():
        raise UserError(f"{root / dataset_id} holds an incomplete dataset; delete it and try again")
    failure = _try_download(dataset_id, root)
    if failure and not is_complete(dataset_id):  # Another process may have been luckier.
        twin = catalog.twin_of(dataset_id) if begun_on != dataset_id else None
        if twin is None:
            raise UserError(
                f"dataset {dataset_id} is not in {root} and cannot be downloaded: {failure}"
                f"{_suggestions(dataset_id, root)}"
            )
        logger.info(f"{dataset_id} cannot be downloaded: {failure}")
        logger.info(f"USING ITS EMBEDDED TWIN {twin} INSTEAD: like it in kind, but other data")
        return _embedded(twin, dataset_id, root, progress)
    if not is_complete(dataset_id):
        raise UserError(f"the download of {dataset_id} ended without it: try again")
    logger.info(f"{dataset_id} is downloaded")
    return Resolved(dataset_id, dataset_id, "downloaded", root / dataset_id)


@functools.cache  # So that all that a process trains is trained on the same data.
def _try_download(dataset_id: str, root: pathlib.Path) -> str:
    """Download a dataset, once in a process; empty, or why it cannot be."""
    if dataset_id.partition("/")[0] == LOCAL_NAMESPACE or "/" not in dataset_id:
        return "no server has it"
    logger.info(f"{dataset_id} is not in {root}; trying to download it")
    try:
        download(dataset_id, root)
    except DownloadFailed as failure:
        return str(failure)
    return ""


def local_ids(root: pathlib.Path) -> list[str]:
    """The ids of all datasets in a folder of datasets, linked ones too."""
    return sorted(path.relative_to(root).as_posix() for path in _datasets(root, frozenset()))


def _datasets(folder: pathlib.Path, above: frozenset[tuple[int, int]]) -> Iterator[pathlib.Path]:
    """The datasets in a folder, which lies in others; a link back to one of these is not followed.

    Folders that cannot be read hold none.
    """
    with contextlib.suppress(OSError):
        state = folder.stat()
        place = (state.st_dev, state.st_ino)
        if place in above:
            return
        for child in folder.iterdir():
            if child.name.startswith(".") or not os.path.isdir(child):
                continue
            if os.path.isdir(child / "data"):
                yield child
            else:
                yield from _datasets(child, above | {place})


def _embedded(dataset_id: str, requested_id: str, root: pathlib.Path, progress: bool) -> Resolved:
    from iql_jax.generation import catalog
    from iql_jax.generation.storage import is_complete
    from iql_jax.generation.workspace import AnotherIsMaking, is_being_made

    while not is_complete(dataset_id):
        logger.info(f"making {dataset_id}, once, in {root}")
        try:
            catalog.make(dataset_id, progress=progress)
        except AnotherIsMaking:
            logger.info(f"waiting for another process that makes {dataset_id}")
            while is_being_made(dataset_id):
                time.sleep(_POLL_SECONDS)
    return Resolved(dataset_id, requested_id, "embedded", root / dataset_id)


def datasets_root() -> pathlib.Path:
    """Minari's folder of datasets.

    Raises:
        UserError: if it cannot be used.
    """
    from minari.storage.datasets_root_dir import get_dataset_path

    try:
        return get_dataset_path()  # Makes the folder as well.
    except OSError as error:
        raise UserError(
            f"cannot use the folder of datasets ({error}): set MINARI_DATASETS_PATH to another"
        ) from error


def _suggestions(dataset_id: str, root: pathlib.Path) -> str:
    from iql_jax.generation import catalog

    known = list(catalog.EMBEDDED)
    with contextlib.suppress(OSError):
        known += [name for name in local_ids(root) if name not in known]
    close = difflib.get_close_matches(dataset_id, known, n=3, cutoff=0.5)
    if close:
        return f". Did you mean {' or '.join(close)}?"
    return f". There are: {', '.join(sorted(known)[:20])}"
