"""Checkpoints of a whole run's state with Orbax: atomic, the newest three kept."""

import contextlib
import errno
import gc
import logging
import os
import shutil
import sys
import uuid
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp

from iql_jax.utils import hosts
from iql_jax.utils.console import logger
from iql_jax.utils.errors import UserError, is_out_of_memory
from iql_jax.utils.signals import signals_deferred

State = TypeVar("State")

KEPT = 3


class Checkpoints:
    """The checkpoints of one run, numbered by its step.

    A checkpoint holds a pytree of arrays (``state``) and a JSON object (``progress``). Orbax writes
    it under a temporary name and renames it when complete, so a kill leaves no torn one behind.

    Args:
        folder: Where they are.
        read_only: Change nothing there, for a reader beside a run.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self._folder = folder.absolute()
        self._read_only = read_only
        with _quiet():
            self._manager = ocp.CheckpointManager(
                self._folder,
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=None if read_only else KEPT,
                    read_only=read_only,
                    cleanup_tmp_directories=not read_only,
                    # A save takes a fraction of a second; finishing it before training goes on
                    # keeps the logs and the checkpoint of one step together.
                    enable_async_checkpointing=False,
                ),
            )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """Let go of the folder."""
        self._manager.close()

    def save(self, step: int, state: Any, progress: dict[str, Any]) -> None:
        """Save; a checkpoint of the same step is left as it is.

        (Its progress may be older: a run that was stopped in its last evaluation makes that again
        each time it is started.)

        Raises:
            UserError: If the disk is full.
        """
        if step in self._manager.all_steps():
            return
        try:
            # A second Ctrl-C stops at once, but not in here: Orbax ends in a mess.
            with _quiet(), signals_deferred():
                self._manager.save(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(progress)
                    ),
                )
        except (OSError, ValueError) as error:
            if not is_disk_full(error):
                raise
            raise UserError(
                f"no space left to save step {step} in {self._folder}; free some space and run "
                "the same command again to go on from the checkpoint before"
            ) from error

    def newest(self) -> int | None:
        """The step of the newest; None where there is none at all."""
        return self._manager.latest_step()

    def restore_newest(self, template: State) -> tuple[State, dict[str, Any]] | None:
        """The newest readable checkpoint, or None where there is none at all.

        A checkpoint that cannot be read, while one before it can, is said and set aside.

        Args:
            template: A state of the same structure, shapes and dtypes; its numbers are not used.

        Raises:
            UserError: If there are checkpoints and none can be read; all are left as they are.
        """
        unreadable: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            with _quiet():
                restored = self._try_restore(step, template)
                if isinstance(restored, str):
                    gc.collect()
            if isinstance(restored, str):
                unreadable[step] = restored
                continue
            for damaged, reason in unreadable.items():
                logger.info(f"checkpoint {self._folder / str(damaged)} cannot be read ({reason})")
            if unreadable and not self._read_only:
                self._set_aside(unreadable)
            return restored
        if unreadable:
            raise UserError(
                f"none of the checkpoints in {self._folder} can be read "
                f"({next(iter(unreadable.values()))}); use the versions that config.json names, or "
                "start again in another folder"
            )
        return None

    def _try_restore(self, step: int, template: State) -> tuple[State, dict[str, Any]] | str:
        """A checkpoint's contents, or the reason why it cannot be read."""
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        try:
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(shapes), progress=ocp.args.JsonRestore()
                ),
            )
        # Orbax and TensorStore raise whatever the damage makes them raise.
        except Exception as error:
            if is_out_of_memory(error):  # No damage: the same command may do better later.
                raise
            return " ".join(str(error).split())[:200]
        return restored.state, restored.progress

    def _set_aside(self, steps: Iterable[int]) -> None:
        hosts.barrier("all have read the checkpoints")
        for step in steps if hosts.is_writer() else ():
            name = f"{step}-{uuid.uuid4().hex[:8]}"
            aside = self._folder.with_name("damaged_checkpoints") / name
            aside.parent.mkdir(exist_ok=True)
            (self._folder / str(step)).rename(aside)
            logger.info(f"moved it to {aside} and going on from the checkpoint before")
        hosts.barrier("the damaged checkpoints are set aside")
        self._manager.reload()


def read_newest(folder: Path, template: State) -> tuple[State, dict[str, Any]] | None:
    """The newest readable checkpoint of a folder, in which nothing is changed; None without one.

    Raises:
        UserError: If there are checkpoints and none can be read.
    """
    if not _is_there(folder):
        return None
    with Checkpoints(folder, read_only=True) as checkpoints:
        return checkpoints.restore_newest(template)


def save_for_diagnosis(folder: Path, step: int, state: Any, progress: dict[str, Any]) -> Path:
    """Save a state with which something is wrong, in place of what an earlier failure left.

    Args:
        folder: The run's.
        step: The run's step.
        state: The state.
        progress: A JSON object.

    Returns:
        Where it is: in a folder of its own, from which no run goes on.
    """
    place = folder / "diagnosis"
    # Orbax saves nothing below the newest step of a folder.
    if hosts.is_writer() and place.exists():
        shutil.rmtree(place)
    hosts.barrier("the earlier failure's state is removed")
    with Checkpoints(place) as checkpoints:
        checkpoints.save(step, state, progress)
    return place


def newest_step(folder: Path) -> int | None:
    """The step of the newest checkpoint of a folder, readable or not; None without one."""
    if not _is_there(folder):
        return None
    with Checkpoints(folder, read_only=True) as checkpoints:
        return checkpoints.newest()


def _is_there(folder: Path) -> bool:
    """Whether a folder was there when the writer looked; all processes look together.

    Each for itself, one might find what another has made since, and they would go separate ways.
    """
    return bool(hosts.exchange(folder.is_dir())[0])


def is_disk_full(error: BaseException) -> bool:
    """Whether an error of the system, Orbax or TensorStore means that no space is left."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Orbax from telling at length of a failure that is told in one line here.

    It logs tracebacks, and leaves reads that it began and abandoned to the garbage collector, where
    Python tells of each.
    """
    logger = logging.getLogger("absl")
    level, hook = logger.level, sys.unraisablehook
    logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="coroutine .* was never awaited")
            yield
    finally:
        sys.unraisablehook = hook
        logger.setLevel(level)
