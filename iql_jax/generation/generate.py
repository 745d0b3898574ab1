"""Generating a dataset: shards collected by worker processes, written in order for Minari.

The content is a function of the id, the number of steps and the seed, whatever the number of
processes. Nothing of it is seen before it is whole, and nothing stays of a generation that ends
early: generating again takes minutes.
"""

import contextlib
import difflib
import importlib.metadata
import pathlib
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any

from minari.data_collector import EpisodeBuffer
from tqdm import tqdm

from iql_jax import __version__
from iql_jax.data.find import datasets_root, is_local
from iql_jax.generation.catalog import FULL_STEPS, GENERATED, procedure
from iql_jax.generation.new_dataset import add_episodes, hold_place, new_dataset
from iql_jax.generation.procedure import Procedure
from iql_jax.utils.errors import UserError
from iql_jax.utils.processes import Workers, available_cores
from iql_jax.utils.signals import StopRequest

_STEPS_WORTH_A_PROCESS = 10_000
_PACKAGES = ("gymnasium", "gymnasium-robotics", "minari", "mujoco", "numpy")
_REQUIREMENTS = ["gymnasium>=1.0", "gymnasium-robotics>=1.4", "mujoco>=3.0"]


def generate(
    dataset_id: str,
    steps: int = FULL_STEPS,
    seed: int = 0,
    *,
    progress: bool = True,
    force: bool = False,
    processes: int | None = None,
) -> pathlib.Path:
    """Generates a dataset of so many transitions in Minari's local folder; returns its folder.

    One that is there stays, unless ``force``. Where another process generates the same dataset,
    waits for it.

    Args:
        dataset_id: a key of ``GENERATED``.
        steps: the number of transitions.
        seed: all randomness follows from it.
        progress: whether to show a progress bar.
        force: whether to replace a dataset that is there.
        processes: None for as many as the cores and steps are worth.

    Raises:
        UserError: if an argument is wrong, the folder cannot be written, or a worker is killed.
        Interrupted: after Ctrl-C or SIGTERM.
    """
    if dataset_id not in GENERATED:
        names = ", ".join(difflib.get_close_matches(dataset_id, GENERATED, n=3) or GENERATED)
        raise UserError(f"no generated dataset is called {dataset_id!r}; there are: {names}")
    if steps < 1 or seed < 0:
        raise UserError(f"steps must be at least 1 and the seed at least 0, not {steps}, {seed}")
    path = datasets_root() / dataset_id
    if is_local(dataset_id) and not force:
        return path
    if path.is_dir() and not (path / "data").exists() and any(path.iterdir()):
        raise UserError(f"{path} holds other files than a dataset's; move them away")
    # Signals are noted, and checked for: an exception might get lost in a library's callback.
    with _stop_request() as stop, hold_place(dataset_id, stop.check) as folder:
        if force or not is_local(dataset_id):  # Another process may have just finished it.
            how = procedure(dataset_id, steps, seed)
            if processes is None:
                worth = min(steps // _STEPS_WORTH_A_PROCESS, len(how.shards))
                processes = max(1, min(available_cores(), worth))
            with (
                tqdm(total=steps, unit="step", desc=dataset_id, disable=not progress) as bar,
                new_dataset(dataset_id, folder, how.task) as storage,
                contextlib.closing(_collect(how, processes, stop.check)) as shards,
            ):
                for episodes in shards:
                    add_episodes(storage, episodes)
                    bar.update(sum(map(len, episodes)))
                storage.update_metadata(_metadata(dataset_id, how, steps, seed))
                stop.check()
    return path


def _stop_request() -> contextlib.AbstractContextManager[StopRequest]:
    """Notes Ctrl-C and SIGTERM where they arrive: in the main thread."""
    is_main = threading.current_thread() is threading.main_thread()
    return StopRequest() if is_main else contextlib.nullcontext(StopRequest())


def _collect(
    how: Procedure, processes: int, check: Callable[[], None]
) -> Generator[Sequence[EpisodeBuffer], None, None]:
    """Yields the episodes of each shard, in order; processes end as soon as ``check`` raises."""
    if processes == 1:
        for shard in how.shards:
            yield how.collect(shard, check)
        return
    with contextlib.closing(Workers(processes)) as workers:
        futures = (workers.submit(how.collect, shard, _go_on) for shard in how.shards)
        yield from workers.results(futures, check)


def _go_on() -> None:
    """Lets a worker process collect: it is ended from outside."""


def _metadata(dataset_id: str, how: Procedure, steps: int, seed: int) -> dict[str, Any]:
    command = f"python -m iql_jax.datasets generate {dataset_id} --steps {steps} --seed {seed}"
    low, high = how.task.reference_returns
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    choices = {"steps": steps, "seed": seed, **how.choices}
    return {
        **how.metadata,
        "description": f"{how.metadata['description']} Generated by: {command}",
        "author": {"iql_jax"},
        "code_permalink": f"iql_jax {__version__}",
        "requirements": _REQUIREMENTS,
        "eval_env_spec": how.task.evaluation_spec().to_json(),
        "ref_min_score": low,
        "ref_max_score": high,
        "num_episodes_average_score": 100,
        "collection": {**choices, "versions": {"iql_jax": __version__, **versions}},
    }
