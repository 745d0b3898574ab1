"""Generating a dataset."""

import contextlib
import difflib
import importlib
import pathlib
import threading

from iql_jax.generation.catalog import GENERATED
from iql_jax.utils.errors import UserError
from iql_jax.utils.processes import refuse_second_import
from iql_jax.utils.signals import StopRequest


def generate(
    dataset_id: str,
    steps: int | None = None,
    seed: int = 0,
    progress: bool = True,
    *,
    force: bool = False,
    score_episodes: int = 100,
) -> pathlib.Path:
    """Make a generated dataset in Minari's local folder, unless it is there already.

    Args:
        dataset_id: a key of ``GENERATED``.
        steps: the number of transitions; None for the usual one.
        seed: what the content depends on, besides the steps.
        progress: whether to show progress bars.
        force: whether to make it again where it exists.
        score_episodes: episodes to average over for each reference score.

    Returns:
        The dataset's folder.

    Raises:
        UserError: if the id is unknown or a number is out of range, and as ``collecting.collect``.
        Interrupted: after Ctrl-C or SIGTERM; the same call goes on.
    """
    if dataset_id not in GENERATED:
        close = difflib.get_close_matches(dataset_id, GENERATED, n=3)
        names = ", ".join(close or GENERATED)
        raise UserError(f"no maker for the dataset {dataset_id!r}; there are makers for: {names}")
    maker = GENERATED[dataset_id]
    if maker.steps is None and steps is not None:
        raise UserError(f"{dataset_id} has a size of its own; leave out the number of steps")
    steps = maker.steps if steps is None else steps
    if (steps is not None and steps < 1) or seed < 0:
        raise UserError(f"steps must be at least 1 and the seed at least 0, not {steps}, {seed}")
    if score_episodes < 1:
        raise UserError(f"score_episodes must be at least 1, not {score_episodes}")
    refuse_second_import()
    with _stop_request() as stop:
        # Signals are noted from here on: an exception may get lost while these are imported.
        from minari.storage import get_dataset_path

        from iql_jax.generation.storage import is_complete

        if force or not is_complete(dataset_id):
            from iql_jax.generation.collecting import collect

            module = importlib.import_module(maker.module)
            stop.check()
            if steps is None:
                module.make(dataset_id, seed=seed, force=force)
            else:
                collect(
                    module.plan(dataset_id, steps=steps, seed=seed, **maker.arguments),
                    progress=progress,
                    force=force,
                    score_episodes=score_episodes,
                    check=stop.check,
                )
        stop.check()
        return pathlib.Path(get_dataset_path(dataset_id))


def _stop_request() -> contextlib.AbstractContextManager[StopRequest]:
    """Note Ctrl-C and SIGTERM where they come: in the main thread."""
    is_main = threading.current_thread() is threading.main_thread()
    return StopRequest() if is_main else contextlib.nullcontext(StopRequest())
