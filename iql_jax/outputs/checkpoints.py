"""Checkpoints of a whole run's state with Orbax: atomic, the newest three kept."""

import contextlib
import gc
import json
import logging
import sys
import uuid
import warnings
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from iql_jax.utils import hosts
from iql_jax.utils.console import logger
from iql_jax.utils.errors import UserError, is_disk_full, is_out_of_memory
from iql_jax.utils.signals import signals_deferred

State = TypeVar("State")

KEPT = 3


class Checkpoints(contextlib.AbstractContextManager["Checkpoints"]):
    """The checkpoints of one run, numbered by its step.

    A checkpoint holds a pytree of arrays (``state``) and a JSON object (``progress``). Orbax writes
    it under a temporary name and renames it when complete, so a kill leaves no torn one behind.
    ``read_only`` is for a reader beside a run: it changes nothing in the folder.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self._folder = folder.absolute()
        self._read_only = read_only
        with _quiet():
            options = ocp.CheckpointManagerOptions(
                max_to_keep=None if read_only else KEPT,
                read_only=read_only,
                cleanup_tmp_directories=not read_only,
                # A save takes a fraction of a second; finishing it before training continues keeps
                # the logs and the checkpoint of one step together.
                enable_async_checkpointing=False,
            )
            self._manager = ocp.CheckpointManager(self._folder, options=options)

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._manager.close()

    def save(self, step: int, state: Any, progress: dict[str, Any]) -> None:
        """Saves; raises UserError if the disk is full. A checkpoint of the same step stays."""
        if step in self._manager.all_steps():
            return
        summed = {**progress, "checksum": _checksum(step, progress)}
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(summed)
        )
        try:
            # A second Ctrl-C stops at once, but not in here: Orbax ends in a mess.
            with _quiet(), signals_deferred():
                self._manager.save(step, args=items)
        except (OSError, ValueError) as error:
            if not is_disk_full(error):
                raise
            raise UserError(
                f"no space left to save step {step} in {self._folder}; free some space and run "
                "the same command again to resume from the checkpoint before"
            ) from error

    def restore_newest(self, template: State) -> tuple[State, dict[str, Any]] | None:
        """Returns the newest readable checkpoint, in the template's structure; None without any.

        Newer checkpoints that cannot be read are reported and set aside.

        Raises:
            UserError: If there are checkpoints and none can be read; all are left as they are.
        """
        damaged: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            with _quiet():
                restored = self._restore(step, template)
                if isinstance(restored, str):
                    damaged[step] = restored
                    gc.collect()
                    # The reads that Orbax has abandoned report to it, some of them much later.
                    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
                    continue
            for bad, reason in damaged.items():
                logger.info(f"checkpoint {self._folder / str(bad)} cannot be read ({reason})")
            if damaged and not self._read_only:
                self._set_aside(damaged)
            return restored
        if damaged:
            raise UserError(
                f"none of the checkpoints in {self._folder} can be read "
                f"({next(iter(damaged.values()))}); use the versions that config.json names, or "
                "start again in another folder"
            )
        return None

    def _restore(self, step: int, template: State) -> tuple[State, dict[str, Any]] | str:
        """Returns a checkpoint's contents, or the reason why it cannot be read."""
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(shapes), progress=ocp.args.JsonRestore()
        )
        try:
            restored = self._manager.restore(step, args=items)
            state, progress = restored.state, dict(restored.progress)
        # Orbax and TensorStore raise whatever the damage makes them raise.
        except Exception as error:
            # No damage: the same command may do better later.
            if is_out_of_memory(error) or isinstance(error, PermissionError):
                raise
            return " ".join(str(error).split())[:200]
        kinds = [[(x.shape, x.dtype) for x in jax.tree.leaves(tree)] for tree in (template, state)]
        if kinds[0] != kinds[1] or progress.pop("checksum", None) != _checksum(step, progress):
            return "its arrays or its progress are not those that were saved"
        return state, progress

    def _set_aside(self, steps: Iterable[int]) -> None:
        multihost_utils.sync_global_devices("all have read the checkpoints")
        for step in steps if hosts.is_writer() else ():
            name = f"{step}-{uuid.uuid4().hex[:8]}"
            aside = self._folder.with_name("damaged_checkpoints") / name
            aside.parent.mkdir(exist_ok=True)
            (self._folder / str(step)).rename(aside)
            logger.info(f"moved it to {aside}; resuming from the checkpoint before")
        multihost_utils.sync_global_devices("the damaged checkpoints are set aside")
        self._manager.reload()


def newest_step(folder: Path) -> int | None:
    """Returns the step of a folder's newest checkpoint, readable or not; None without one."""
    # The writer looks for all processes: another might find what has been written since.
    steps = [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]
    newest: int | None = hosts.exchange(max(steps, default=None))[0]
    return newest


def read_newest(folder: Path, template: State) -> tuple[State, dict[str, Any]] | None:
    """Returns what ``restore_newest`` does, and changes nothing in the folder."""
    if newest_step(folder) is None:
        return None
    with Checkpoints(folder, read_only=True) as checkpoints:
        return checkpoints.restore_newest(template)


def _checksum(step: int, progress: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps([step, progress], sort_keys=True).encode())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Orbax from logging tracebacks, and Python from reporting reads that Orbax abandons."""
    absl_logger = logging.getLogger("absl")
    level, hook = absl_logger.level, sys.unraisablehook
    absl_logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="coroutine .* was never awaited")
            yield
    finally:
        sys.unraisablehook = hook
        absl_logger.setLevel(level)
