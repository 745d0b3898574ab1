"""The folder of a run: its record, which run it belongs to, and which process may write to it."""

import contextlib
import json
import platform
import uuid
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
from filelock import FileLock, Timeout
from packaging.version import InvalidVersion, Version

import iql_jax
from iql_jax.utils.console import logger
from iql_jax.utils.errors import UserError
from iql_jax.utils.files import atomic_path, partial_path, read_json

# Settings that say how a run is shown and carried, not what it computes: free to change on resume.
FREE_ON_RESUME = (
    "dataset_fallback",
    "eval_processes",
    "population_size",
    "progress",
    "trust_environment",
    "video",
    "wandb_project",
)

# Free as well, and recorded: memory may run out where the replay buffer is made, hours into a run.
FREE_FOR_MEMORY = ("replay_buffer_size",)

OLDEST_READ = Version("0.2")  # The first version whose run folders this one reads.

PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "numpy"),
    *("minari", "gymnasium", "gymnasium-robotics", "mujoco"),
)

_KINDS = {"config.json": "run", "population.json": "population"}

Record = dict[str, Any]


class LockedFolder:
    """A folder of this program, locked for this process while the context is open.

    What fails before anything was started leaves a new folder as it was.
    """

    RECORD: ClassVar[str]  # The file that identifies this kind of folder.

    def __init__(self, path: Path) -> None:
        self.path = path
        # The system releases it when its process dies.
        self._lock = FileLock(path / ".lock", blocking=False)
        self._is_new = False
        self._had_record = False

    def __enter__(self) -> Self:
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"--workdir {self.path} is a file; name a folder")
        self._is_new = not self.path.exists()
        holds = self._names()
        self._had_record = self.RECORD in holds
        if self._had_record:
            self.recorded()
        # A kill while the record was being written leaves a part of it.
        elif holds - {".lock", partial_path(Path(self.RECORD)).name}:
            other = next((f"a {kind}" for file, kind in _KINDS.items() if file in holds), None)
            raise UserError(
                f"--workdir {self.path} holds {other or f'files but no {_KINDS[self.RECORD]}'}; "
                "name a new or empty folder"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise UserError(
                f"another process is training in {self.path}; wait for it or stop it"
            ) from error
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        holds = self._names()
        if error is not None and not self._had_record and holds == {".lock", self.RECORD}:
            (self.path / self.RECORD).unlink()
            holds.remove(self.RECORD)
        if self._is_new and holds == {".lock"}:  # While it is locked.
            (self.path / ".lock").unlink()
            with contextlib.suppress(OSError):  # Another process may have started to use it.
                self.path.rmdir()
        self._lock.release()

    def recorded(self) -> Any:
        """Returns what the record holds; raises UserError if it is not one of ours."""
        raise NotImplementedError

    def _names(self) -> set[str]:
        return {path.name for path in self.path.iterdir()} if self.path.is_dir() else set()


class RunFolder(LockedFolder):
    """The folder of one run, with its run record: ``config.json``."""

    RECORD = "config.json"

    def recorded(self) -> Record:
        """Returns the run record; raises UserError if there is none, or too old a one."""
        return read_record(self.path)

    def check_settings(self, config: Record, complete: Callable[[Record], Record]) -> None:
        """Refuses a folder of a run with other settings; call it before any long work.

        ``complete`` adds keys that the recorded settings lack, with today's default.
        """
        if not (self.path / self.RECORD).exists():
            return
        before = complete(self.recorded()["config"])
        changed = [
            f"{key} {before.get(key)!r} -> {config.get(key)!r}"
            for key in sorted({**before, **config})
            if key not in (*FREE_ON_RESUME, *FREE_FOR_MEMORY) and before.get(key) != config.get(key)
        ]
        if changed:
            raise UserError(
                f"--workdir {self.path} belongs to a run with other settings "
                f"({', '.join(changed)}); name another folder for this one"
            )

    def claim(self, config: Record, dataset: Record) -> None:
        """Writes the run record, or checks that the one already here is of the same data."""
        record: Record = {
            "run_id": uuid.uuid4().hex,
            "config": config,
            "dataset": dataset,
            "versions": versions(),
            "device": device_name(),
        }
        if not (self.path / self.RECORD).exists():
            write_json(self.path / self.RECORD, record)
            return
        before = self.recorded()
        check_same_data(self.path, before, dataset)
        then, now = ({**r["versions"], "device": r["device"]} for r in (before, record))
        changed = [
            f"{key} {then.get(key)} -> {now[key]}" for key in now if then.get(key) != now[key]
        ]
        if changed:
            logger.info(
                f"the run was started elsewhere ({', '.join(changed)}): its bits may differ from "
                "now on"
            )


def read_record(folder: Path) -> Record:
    """Returns the run record of a folder; raises UserError if it has none, or too old a one."""
    path = folder / RunFolder.RECORD
    if not path.exists():
        raise UserError(f"{folder} holds no run: config.json is missing")
    record = read_json(path, "name another folder")
    try:
        data, writer = record["dataset"], Version(record["versions"]["iql_jax"])
        entries = [record["config"], data["choices"], record["run_id"], record["device"]]
        entries += [data[key] for key in ("id", "requested_id", "origin", "fingerprint")]
        if [*map(type, entries)] != [dict] * 2 + [str] * 6:
            raise TypeError
    except (KeyError, TypeError, InvalidVersion) as error:
        raise UserError(f"{path} is not the record of a run; name another folder") from error
    if writer < OLDEST_READ:
        raise UserError(
            f"{path} was written by iql_jax {writer}; this version reads runs from {OLDEST_READ} "
            "on: use that version or start a new folder"
        )
    return record


def record_change(folder: Path, config: Record) -> None:
    """Brings a run record up to date with the settings that are free to change for memory."""
    record = read_record(folder)
    for key in FREE_FOR_MEMORY:
        before, now = record["config"].get(key), config[key]
        if before != now:
            logger.info(f"from here on with {key} {now:,} (before: {before})")
            record["config"][key] = now
            write_json(folder / RunFolder.RECORD, record)


def started_with(requested: str, folders: Iterable[Path]) -> str:
    """Returns the id of the dataset that the first of these runs got for ``requested``, or ''."""
    for folder in folders:
        if (folder / RunFolder.RECORD).exists():
            dataset = read_record(folder)["dataset"]
            if dataset["requested_id"] == requested:
                return str(dataset["id"])
    return ""


def check_same_data(folder: Path, record: Record, dataset: Record) -> None:
    """Refuses data other than those of the run record: by fingerprint, and by what metadata say."""
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
            "their metadata have changed, or this version reads them in another way"
        )


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that may change a run's numbers."""
    return {
        "python": platform.python_version(),
        "iql_jax": iql_jax.__version__,
        **{package: metadata.version(package) for package in PACKAGES},
    }


def device_name() -> str:
    """Returns the name of the accelerator, or of the processor, that JAX computes on."""
    device = jax.devices()[0]
    return f"{device.platform}: {device.device_kind} x {jax.device_count()}"


def write_json(path: Path, content: Any) -> None:
    """Writes JSON at once or not at all."""
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n")
