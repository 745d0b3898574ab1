"""Checkpoints of a whole run's state with Orbax: atomic, the newest three kept."""

import errno
from pathlib import Path
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp

from iql_jax.console import say
from iql_jax.errors import UserError

State = TypeVar("State")

KEPT = 3


class Checkpoints:
    """The checkpoints of one run, numbered by update count.

    A checkpoint holds a pytree of arrays (``state``) and a JSON object (``progress``). Orbax writes
    it under a temporary name and renames it when complete, so a kill leaves no torn one behind.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=KEPT,
                # A save takes a fraction of a second; finishing it before training goes on keeps
                # the logs and the checkpoint of one update count together.
                enable_async_checkpointing=False,
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._manager.close()

    def save(self, update: int, state: Any, progress: dict[str, Any]) -> None:
        """Save; a checkpoint of the same update count is left as it is.

        Raises:
            UserError: If the disk is full.
        """
        if update in self._manager.all_steps():
            return
        try:
            self._manager.save(
                update,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(progress)
                ),
            )
        except (OSError, ValueError) as error:
            if not is_disk_full(error):
                raise
            raise UserError(
                f"no space left to save update {update} in {self._folder}; free some space and run "
                "the same command again to go on from the checkpoint before"
            ) from error

    def restore_newest(self, template: State) -> tuple[State, dict[str, Any]] | None:
        """The newest readable checkpoint, or None where there is none at all.

        A checkpoint that cannot be read is said, set aside and passed over for the one before.

        Args:
            template: A state of the same structure, shapes and dtypes; its numbers are not used.

        Raises:
            UserError: If there are checkpoints and none can be read.
        """
        updates = sorted(self._manager.all_steps(), reverse=True)
        for update in updates:
            try:
                restored = self._restore(update, template)
            # Orbax and TensorStore raise whatever the damage makes them raise.
            except Exception as error:
                reason = " ".join(str(error).split())[:200]
                say(f"checkpoint {self._folder / str(update)} cannot be read ({reason})")
                self._set_aside(update)
            else:
                return restored
        if updates:
            raise UserError(
                f"none of the checkpoints in {self._folder} can be read; "
                "delete the run's folder to start it again"
            )
        return None

    def _restore(self, update: int, template: State) -> tuple[State, dict[str, Any]]:
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        restored = self._manager.restore(
            update,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(shapes), progress=ocp.args.JsonRestore()
            ),
        )
        return restored.state, restored.progress

    def _set_aside(self, update: int) -> None:
        damaged = self._folder / str(update)
        aside = self._folder.with_name("damaged_checkpoints") / str(update)
        aside.parent.mkdir(exist_ok=True)
        damaged.rename(aside)
        self._manager.reload()
        say(f"moved it to {aside} and going on from the checkpoint before")


def is_disk_full(error: BaseException) -> bool:
    """Whether an error of the system, Orbax or TensorStore means that no space is left."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error)
