"""Finds, downloads or generates the dataset that a config names.

A counterpart holds other data than those asked for, so the decision is logged and returned, and a
run that has started with one dataset resumes with it.
"""

import contextlib
import dataclasses
import difflib
import os
import pathlib
import re
from typing import Literal

from iql_jax.data.download import DownloadFailed, download
from iql_jax.data.find import datasets_root, is_file, is_local, local_ids
from iql_jax.data.metadata import read_metadata
from iql_jax.generation.ant_controller import packaged_controller_digest
from iql_jax.generation.catalog import FULL_STEPS, GENERATED, counterpart
from iql_jax.generation.generate import generate
from iql_jax.utils.console import logger
from iql_jax.utils.errors import UserError

_OTHER = "generated, like it in kind, but other data"
_ID = re.compile(r"^[-\w]+(/[-\w]+)*-v\d+$")


@dataclasses.dataclass(frozen=True)
class Provided:
    """A dataset that is on this disk, or in memory."""

    source: str  # What ``load_dataset`` takes: a local dataset's id, or the path of a file.
    requested: str  # What was asked for; another one where a counterpart replaces it.
    origin: Literal["file", "local", "downloaded", "generated", "memory"]
    notes: tuple[str, ...] = ()  # What a reader of results must know of the data.


def provide(
    dataset: str, *, progress: bool = True, started_with: str = "", fallback: str = "auto"
) -> Provided:
    """Finds a dataset, and downloads or generates it where it is missing.

    ``dataset`` is a Minari id, such as 'D4RL/antmaze/umaze-v1', or a file's path. Those of ``iql/``
    are generated. Others are local, or else downloaded, or else replaced by their generated
    counterpart, if ``fallback`` allows it (``DataConfig.dataset_fallback``); ``started_with`` is
    what an earlier start of the run used, if there was one.

    Raises:
        UserError: if there is no such dataset; the message names similar ones.
    """
    if is_file(dataset):
        path = pathlib.Path(dataset).expanduser().absolute()  # Workers may stand elsewhere.
        if not path.is_file():
            raise UserError(f"dataset {dataset}: there is no such file")
        return Provided(str(path), dataset, "file")
    root = datasets_root()
    if not _ID.fullmatch(dataset):
        raise UserError(
            f"{dataset!r} is no dataset id; ids look like 'D4RL/antmaze/umaze-v1', with the "
            f"version{_suggestions(dataset, root)}"
        )
    if dataset in GENERATED:
        return _generated(dataset, dataset, progress)
    if started_with in GENERATED:
        return _generated(started_with, dataset, progress)
    if is_local(dataset):
        return Provided(dataset, dataset, "local")
    try:
        if dataset.startswith("iql/") or "/" not in dataset:
            raise DownloadFailed("no server has it")
        logger.info(f"{dataset} is not in {root}; trying to download it")
        download(dataset, root)
    except DownloadFailed as failure:
        if is_local(dataset):  # Another process was quicker.
            return Provided(dataset, dataset, "local")
        replacement = None if started_with == dataset else counterpart(dataset)
        # Somebody at a terminal can read what is said, and stop it.
        is_attended = os.isatty(0) and os.isatty(2)
        if replacement is None or fallback == "fail" or (fallback == "auto" and not is_attended):
            advice = _suggestions(dataset, root)
            if replacement is not None:
                advice = f"; --config.dataset_fallback=generate takes {replacement}: {_OTHER}"
            raise UserError(
                f"dataset {dataset} is not in {root} and cannot be downloaded: {failure}{advice}"
            ) from failure
        logger.info(f"{dataset} cannot be downloaded: {failure}")
        logger.info(f"USING {replacement} INSTEAD: {_OTHER}")
        found = _generated(replacement, dataset, progress)
        decision = f"dataset_fallback={fallback}, and the download failed: {failure}"
        return dataclasses.replace(found, notes=(*found.notes, decision))
    logger.info(f"{dataset} is downloaded")
    return Provided(dataset, dataset, "downloaded")


def _generated(dataset: str, requested: str, progress: bool) -> Provided:
    if not is_local(dataset):
        logger.info(f"generating {dataset}, once, in {datasets_root()}")
        generate(dataset, progress=progress)
    notes = []
    if dataset != requested:
        notes.append(f"it replaces {requested}: {_OTHER}")
    metadata = read_metadata(datasets_root() / dataset)
    choices = {**(metadata.get("collection") or {}), "transitions": metadata.get("total_steps")}
    usual = {"transitions": FULL_STEPS, "seed": 0, "controller": packaged_controller_digest()}
    for name, value in usual.items():
        if choices.get(name, value) != value:
            notes.append(f"generated with {name} {choices[name]} instead of {value}")
    for note in notes:
        logger.info(f"{dataset}: {note}")
    return Provided(dataset, requested, "generated", tuple(notes))


def _suggestions(dataset: str, root: pathlib.Path) -> str:
    known = set(GENERATED)
    with contextlib.suppress(OSError):
        known.update(local_ids(root))
    close = difflib.get_close_matches(dataset, sorted(known), n=3, cutoff=0.5)
    if close:
        return f". Did you mean {' or '.join(close)}?"
    return f". Known here: {', '.join(sorted(known)[:20])}"
