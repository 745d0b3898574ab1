"""The folder of a run: what it holds, whose it is, and who may write to it now."""

import fcntl
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import jax

from iql_jax.errors import UserError

# Settings that say how a run is shown or sped up, not what it computes: free to change on resume.
FREE_ON_RESUME = ("progress", "eval_envs", "trust_environment", "wandb_project")

PACKAGES = (
    "iql_jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "minari",
    "gymnasium",
    "gymnasium-robotics",
    "mujoco",
    "numpy",
)


class RunFolder:
    """One run's folder, locked for this process while the context is open.

    Raises:
        UserError: If the folder holds something else, or another process is at work in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: TextIO | None = None

    def __enter__(self) -> "RunFolder":
        """Create the folder where it is new, and lock it."""
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"--workdir {self.path} is a file; name a folder")
        if self.path.is_dir() and any(self.path.iterdir()) and not self._is_ours():
            raise UserError(
                f"--workdir {self.path} holds files but no run; name a new or empty folder"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = (self.path / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise UserError(
                f"another process is training in {self.path}; wait or stop it"
            ) from error
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.close()

    def _is_ours(self) -> bool:
        return (self.path / "config.json").exists() or (self.path / ".lock").exists()

    def claim(self, config: dict[str, Any], dataset: dict[str, Any]) -> None:
        """Write ``config.json``, or check that the one already here describes the same run.

        Args:
            config: The effective settings.
            dataset: The record of the dataset, with its fingerprint.

        Raises:
            UserError: If the folder belongs to a run with other settings or other data.
        """
        record = {
            "config": config,
            "dataset": dataset,
            "versions": versions(),
            "device": device_name(),
        }
        path = self.path / "config.json"
        if path.exists():
            self._check_same_run(read_json(path), record)
        else:
            write_json(path, record)

    def _check_same_run(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        settings = {**before["config"], **now["config"]}
        changed = [
            f"{key} {before['config'].get(key)!r} -> {now['config'].get(key)!r}"
            for key in sorted(settings)
            if key not in FREE_ON_RESUME and before["config"].get(key) != now["config"].get(key)
        ]
        if changed:
            raise UserError(
                f"--workdir {self.path} belongs to a run with other settings "
                f"({', '.join(changed)}); name another folder for this one"
            )
        if before["dataset"]["fingerprint"] != now["dataset"]["fingerprint"]:
            raise UserError(
                f"--workdir {self.path} belongs to a run on other data: fingerprint "
                f"{before['dataset']['fingerprint'][:16]} then, "
                f"{now['dataset']['fingerprint'][:16]} now; name another folder for this one"
            )


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that may change a run's numbers."""
    return {
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in PACKAGES},
    }


def device_name() -> str:
    """The accelerator, or the processor, that JAX computes on."""
    device = jax.devices()[0]
    return f"{device.platform}: {device.device_kind} x {jax.device_count()}"


def write_json(path: Path, content: Any) -> None:
    """Write JSON at once or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(partial, path)


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        UserError: If the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path.parent} holds no run: {path.name} is missing") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error
