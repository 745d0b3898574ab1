"""Populations on a CPU: one at a time on each core, in a process of its own.

The products of an update are small, and cores that share them wait for each other. What a process
computes is what a run on a single core computes.
"""

import collections
import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from iql_jax.data.load import Dataset
from iql_jax.outputs.checkpoints import newest_step
from iql_jax.outputs.folder import write_json
from iql_jax.populations.folder import FAILURE, Population, read_failure
from iql_jax.populations.session import data_key, train_population
from iql_jax.training.config import Config, FinetuneConfig
from iql_jax.training.finetune import train_finetune
from iql_jax.training.report import result
from iql_jax.training.run import load_data
from iql_jax.training.session import Session
from iql_jax.utils.console import logger
from iql_jax.utils.errors import Diverged, UserError
from iql_jax.utils.files import read_json
from iql_jax.utils.processes import CoreProcess, Returned, cores
from iql_jax.utils.signals import Interrupted, StopRequest


class Mapped(NamedTuple):
    """A dataset whose arrays lie in files, for processes to map: they are in memory once."""

    dataset: Dataset  # Without its transitions.
    files: dict[str, Path]

    @classmethod
    def write(cls, dataset: Dataset, folder: Path) -> "Mapped":
        """Writes the arrays into a new folder."""
        folder.mkdir(parents=True)
        files = {name: folder / f"{name}.npy" for name in dataset.transitions}
        for name, file in files.items():
            np.save(file, dataset.transitions[name])
        return cls(dataclasses.replace(dataset, transitions={}), files)

    def open(self) -> Dataset:
        """Returns the dataset with its transitions."""
        arrays = {name: np.load(file, mmap_mode="r") for name, file in self.files.items()}
        return dataclasses.replace(self.dataset, transitions=arrays)


Datasets = Mapping[tuple[Any, ...], Mapped]


def in_processes(populations: Sequence[Population]) -> Iterator[Population]:
    """Trains as many populations at a time as there are cores, with one progress bar for all.

    Ctrl-C and any failure stop all of them, with their states saved.
    """
    waiting, free = collections.deque(populations), cores()
    running: dict[Any, tuple[CoreProcess, Population]] = {}
    failure: Exception | None = None
    with contextlib.ExitStack() as context:
        datasets = context.enter_context(_datasets(populations))
        stop = context.enter_context(StopRequest())
        bar = context.enter_context(_Bar(populations))
        context.callback(_for_each, running, CoreProcess.close)
        while running or (waiting and failure is None):
            while waiting and free and failure is None:
                population = waiting.popleft()
                process = CoreProcess(free.pop(0), _train, population, datasets)
                running[process.connection] = process, population
            if failure is None and stop.signum is not None:
                failure = Interrupted(stop.signum, resumable=True)
                _for_each(running, CoreProcess.stop)
            for ready in connection.wait(list(running), timeout=0.2):
                process, population = running[ready]
                try:
                    message = process.connection.recv()
                except (EOFError, OSError):
                    message = UserError(
                        f"the process that trained {population.folders[0]} ended without a word "
                        "(killed, or out of memory?); the same command resumes"
                    )
                if isinstance(message, tuple) and not isinstance(message, Returned):
                    bar.show(population, *message)
                    continue
                del running[ready]
                process.join()
                free.append(process.core)
                if isinstance(message, Returned):
                    bar.count_finished(population)
                    yield population
                elif failure is None:
                    failure = message
                    _for_each(running, CoreProcess.stop)
        if failure is not None:
            raise failure


def _for_each(
    running: Mapping[Any, tuple[CoreProcess, Population]], call: Callable[[CoreProcess], None]
) -> None:
    for process, _ in running.values():
        call(process)


def _train(send: Any, population: Population, datasets: Datasets) -> None:
    """Trains a population in a process of its own."""
    Session.on_progress = send
    loaded = {key: mapped.open() for key, mapped in datasets.items()}
    config, folder = population.members[0].config, population.folders[0]
    if not isinstance(config, FinetuneConfig):
        return train_population(population, loaded)
    try:
        train_finetune(
            config, folder, (population.sources[config.dataset], loaded[data_key(config)])
        )
    except Diverged as error:
        step = newest_step(folder / "checkpoints") or 0
        write_json(folder / FAILURE, {"update": step, "reason": str(error)})


@contextlib.contextmanager
def _datasets(populations: Sequence[Population]) -> Iterator[Datasets]:
    """Loads all that the members learn from, once, into a folder that goes at the end."""
    folder = populations[0].workdir / "populations" / "data"
    shutil.rmtree(folder, ignore_errors=True)  # An earlier one may have been killed.
    datasets: dict[tuple[Any, ...], Mapped] = {}
    try:
        for population in populations:
            for config in (member.config for member in population.members):
                if (key := data_key(config)) not in datasets:
                    dataset = load_data(config, population.sources[config.dataset])
                    datasets[key] = Mapped.write(dataset, folder / str(len(datasets)))
        yield datasets
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Bar(tqdm):
    """The updates, or steps, of all members."""

    def __init__(self, populations: Sequence[Population]) -> None:
        config: Config = populations[0].members[0].config
        unit = "step" if isinstance(config, FinetuneConfig) else "update"
        super().__init__(unit=unit, disable=not config.progress, dynamic_ncols=True, smoothing=0.1)
        self._done: dict[int, int] = {}
        self._members, self._finished = sum(len(p.members) for p in populations), 0

    def show(self, population: Population, done: int, total: int) -> None:
        """Counts the steps that a population has made, of ``total``."""
        made = (done - self._done.get(population.number, 0)) * len(population.members)
        if not self.disable:
            self.total = total * self._members
            if population.number not in self._done:  # An earlier command made them.
                self.initial += made
        self._done[population.number] = done
        self.update(made)

    def count_finished(self, population: Population) -> None:
        """Says how a population's members ended."""
        for folder in population.folders:
            self._finished += 1
            if (failed := read_failure(folder)) is not None:
                end = f"has failed, the others continue: {failed['reason']}"
            else:
                summary = read_json(folder / "summary.json", "delete it")
                end = f"is done: {result(summary)}{summary['updates']:,} updates"
            logger.info(f"member {folder.name} {end}")
        self.set_postfix_str(f"{self._finished} of {self._members} members done")
