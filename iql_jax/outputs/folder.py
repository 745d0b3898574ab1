"""The folder of a run: what it holds, whose it is, and who may write to it now."""

import contextlib
import json
import platform
import uuid
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import jax

import iql_jax
from iql_jax.training.config import defaults, kind_of
from iql_jax.utils.console import logger
from iql_jax.utils.errors import UserError
from iql_jax.utils.files import atomic_path, partial_path
from iql_jax.utils.locks import locked

# Settings that say how a run is shown and carried, not what it computes: free to change on resume.
FREE_ON_RESUME = (
    "eval_envs",
    "population_size",
    "progress",
    "trust_environment",
    "wandb_project",
)

# Free to change on resume as well, and recorded: memory may run out where the replay buffer is
# made, hours into a run. A smaller one forgets the oldest experience sooner.
FREE_FOR_MEMORY = ("replay_buffer_size",)

PACKAGES = (
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

Record = dict[str, Any]


class LockedFolder:
    """A folder of this program's, locked for this process while the context is open.

    Attributes:
        path: Where it is.
    """

    RECORD = ""  # The file that identifies this kind of folder.

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = contextlib.ExitStack()
        self._is_new = False
        self._had_record = False

    def __enter__(self) -> Self:
        """Create the folder where it is new, and lock it.

        Raises:
            UserError: If it holds something else, or another process is at work in it.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"--workdir {self.path} is a file; name a folder")
        holds = {path.name for path in self.path.iterdir()} if self.path.is_dir() else set()
        self._had_record = self.RECORD in holds
        if self._had_record:
            self.check_record()
        # A kill while the record was being written leaves the beginning of it.
        elif holds - {".lock", partial_path(Path(self.RECORD)).name}:
            raise UserError(self.refusal(holds))
        self._is_new = not self.path.exists()
        try:
            self._lock.enter_context(locked(self.path / ".lock"))
        except BlockingIOError as error:
            raise UserError(
                f"another process is training in {self.path}; wait or stop it"
            ) from error
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """Release the lock; what fails before anything is begun leaves nothing behind."""
        holds = {path.name for path in self.path.iterdir()}
        if error is not None and not self._had_record and holds == {".lock", self.RECORD}:
            (self.path / self.RECORD).unlink()
            holds.remove(self.RECORD)
        if self._is_new and holds == {".lock"}:  # While it is locked.
            (self.path / ".lock").unlink()
            with contextlib.suppress(OSError):  # Another process may have begun to use it.
                self.path.rmdir()
        self._lock.close()

    def check_record(self) -> None:
        """Refuse a record that is not ours."""

    def refusal(self, holds: set[str]) -> str:
        """What is said of a folder that holds other files than ours."""
        raise NotImplementedError


class RunFolder(LockedFolder):
    """One run's folder."""

    RECORD = "config.json"

    def check_record(self) -> None:
        """Refuse a record that is not ours."""
        read_record(self.path)

    def refusal(self, holds: set[str]) -> str:
        """What is said of a folder that holds other files than ours."""
        kind = "a population of runs" if "population.json" in holds else "files but no run"
        return f"--workdir {self.path} holds {kind}; name a new or empty folder"

    def check_settings(self, config: Record) -> None:
        """Refuse a folder that belongs to a run with other settings; for before any long work."""
        if not (self.path / "config.json").exists():
            return
        # A key that has come since the run was begun had what is its default now.
        begun_with = read_record(self.path)["config"]
        before = {**defaults(kind_of(begun_with)), **begun_with}
        now = {**defaults(kind_of(config)), **config}
        changed = [
            f"{key} {before.get(key)!r} -> {now.get(key)!r}"
            for key in sorted({**before, **now})
            if key not in (*FREE_ON_RESUME, *FREE_FOR_MEMORY) and before.get(key) != now.get(key)
        ]
        if changed:
            raise UserError(
                f"--workdir {self.path} belongs to a run with other settings "
                f"({', '.join(changed)}); name another folder for this one"
            )

    def claim(self, config: Record, dataset: Record, num_envs: int) -> None:
        """Write ``config.json``, or check that the one already here is of the same data.

        Args:
            config: The effective settings; of a run that was begun, see ``check_settings``.
            dataset: The record of the dataset, with its fingerprint.
            num_envs: How many environments an evaluation steps at once. Where the settings leave it
                open it follows from the machine's cores, and it is the run's from then on: the last
                bits of a policy may depend on how many observations it is given at once.

        Raises:
            UserError: If the folder belongs to a run on other data.
        """
        record: Record = {
            "run_id": uuid.uuid4().hex,
            "config": config,
            "dataset": dataset,
            "num_envs": num_envs,
            "versions": versions(),
            "device": device_name(),
        }
        if not (self.path / "config.json").exists():
            write_json(self.path / "config.json", record)
            return
        before = read_record(self.path)
        check_same_data(self.path, before, dataset)
        changed = [
            f"{name} {before['versions'].get(name)} -> {version}"
            for name, version in record["versions"].items()
            if before["versions"].get(name) != version
        ]
        if before["device"] != record["device"]:
            changed.append(f"{before['device']} -> {record['device']}")
        if changed:
            logger.info(
                f"the run was begun elsewhere ({', '.join(changed)}): its bits may differ from now"
            )


def read_record(folder: Path) -> Record:
    """The contents of a run's ``config.json``.

    Raises:
        UserError: If it is missing, or not written by a run.
    """
    path = folder / "config.json"
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{folder} holds no run: config.json is missing") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error
    keys = {"run_id", "config", "dataset", "num_envs", "versions", "device"}
    if not isinstance(record, dict) or not keys <= set(record):
        raise UserError(f"{path} is not the record of a run; name another folder")
    return record


def record_change(folder: Path, config: Record) -> None:
    """Bring a run's record up to date with what of its settings is free to change for memory."""
    record = read_record(folder)
    for key in FREE_FOR_MEMORY:
        before, now = record["config"].get(key), config[key]
        if before != now:
            logger.info(f"from here on with {key} {now:,} (before: {before})")
            record["config"][key] = now
            write_json(folder / "config.json", record)


def begun_on(dataset_id: str, folders: Iterable[Path]) -> str:
    """The id of the dataset that a run has had where it asked for this one.

    Args:
        dataset_id: What was asked for.
        folders: Of runs; the first that asked for it tells.

    Returns:
        The id, or nothing where there is no such run.
    """
    for folder in folders:
        if (folder / "config.json").exists():
            dataset = read_record(folder)["dataset"]
            if dataset["requested_id"] == dataset_id:
                return str(dataset["id"])
    return ""


def check_same_data(folder: Path, record: Record, dataset: Record) -> None:
    """Refuse data that are not those of the run.

    Args:
        folder: The run's folder.
        record: The run's record.
        dataset: The record of the dataset as it is now.

    Raises:
        UserError: If the fingerprints differ, or what was taken from the metadata does.
    """
    before, now = record["dataset"], dataset
    if before["fingerprint"] != now["fingerprint"]:
        raise UserError(
            f"{folder} belongs to a run on other data: {before['id']} with fingerprint "
            f"{before['fingerprint'][:16]} then, {now['id']} with {now['fingerprint'][:16]} now"
        )
    # The fingerprint is of the arrays alone; goals and scores are the metadata's.
    old, new = before["choices"], json.loads(json.dumps(now["choices"]))
    changed = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
    if changed:
        raise UserError(
            f"{folder} belongs to a run that read the same data otherwise ({', '.join(changed)}): "
            "their metadata have changed, or this version takes them in another way"
        )


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that may change a run's numbers."""
    return {
        "python": platform.python_version(),
        "iql_jax": iql_jax.__version__,
        **{package: metadata.version(package) for package in PACKAGES},
    }


def device_name() -> str:
    """The accelerator, or the processor, that JAX computes on."""
    device = jax.devices()[0]
    return f"{device.platform}: {device.device_kind} x {jax.device_count()}"


def write_json(path: Path, content: Any) -> None:
    """Write JSON at once or not at all."""
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n")
