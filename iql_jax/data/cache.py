"""A flat copy of each dataset, so that the second run reads it in a second or two.

One uncompressed npz file a dataset lies in ``$IQL_JAX_CACHE`` (``~/.cache/iql_jax`` unless set).
It is remade when the dataset's files change, and when it is damaged: the archive's checksums tell.
Copies of datasets that are gone are removed when another one is made.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import uuid
from typing import Any

import numpy as np
import numpy.typing as npt

from iql_jax.data.episodes import FlatEpisodes, read_episodes
from iql_jax.data.leftovers import sweep
from iql_jax.data.metadata import read_metadata
from iql_jax.utils.console import logger
from iql_jax.utils.files import is_damage

_FORMAT_VERSION = 1
_FIELDS = ("actions", "rewards", "terminations", "truncations", "lengths")
_PREFIX = "observations/"
_TEMPORARY = ".making-"


class _Stale(Exception):
    """The cached copy is of other files or of another format."""


def load_episodes(path: pathlib.Path, progress: bool = True) -> tuple[FlatEpisodes, str]:
    """Load a Minari dataset from the cache, or from its files and into the cache.

    Args:
        path: the dataset's folder, which holds ``data/``.
        progress: whether to show a progress bar.

    Returns:
        The episodes, and their fingerprint (see ``fingerprint``).

    Raises:
        UserError: as ``read_episodes``.
    """
    key = _key(path)
    file = cache_folder() / _file_name(path)
    try:
        return _read(file, key)
    except (FileNotFoundError, _Stale):
        pass
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        what = "is damaged" if is_damage(error) else "cannot be read"
        logger.info(f"the cached copy {file} {what} ({error}); making it again")
    episodes = read_episodes(path, progress)
    digest = fingerprint(episodes)
    try:
        _write(file, key, digest, episodes, source=path)
        sweep(file.parent, f"{_TEMPORARY}*")
        _evict(file.parent)
    except OSError as error:
        logger.info(
            f"cannot keep a fast copy of the dataset in {file.parent} ({error}); going on without"
        )
    return episodes, digest


def cache_folder() -> pathlib.Path:
    """The folder of the cache: ``$IQL_JAX_CACHE``, or ``~/.cache/iql_jax``."""
    chosen = os.environ.get("IQL_JAX_CACHE")
    return pathlib.Path(chosen) if chosen else pathlib.Path.home() / ".cache" / "iql_jax"


def fingerprint(episodes: FlatEpisodes) -> str:
    """SHA-256 over all arrays, their names, types and shapes, in hexadecimal.

    It depends on what the dataset holds and not on how its files store it.
    """
    digest = hashlib.sha256()
    for name, array in sorted(_arrays(episodes).items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _arrays(episodes: FlatEpisodes) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {
        _PREFIX + name: array for name, array in episodes.observations.items()
    }
    return arrays | {name: getattr(episodes, name) for name in _FIELDS}


def _key(path: pathlib.Path) -> str:
    """Changes whenever a file of the dataset, or this format, does."""
    folder = path / "data"
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    states = [
        (file.relative_to(folder).as_posix(), file.stat().st_size, file.stat().st_mtime_ns)
        for file in files
    ]
    return hashlib.sha256(json.dumps([_FORMAT_VERSION, states]).encode()).hexdigest()


def _file_name(path: pathlib.Path) -> str:
    """One name for one dataset in one place."""
    place = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    dataset_id = str(read_metadata(path)["dataset_id"])
    return f"{dataset_id.replace('/', '__')}-{place}.npz"


def _read(file: pathlib.Path, key: str) -> tuple[FlatEpisodes, str]:
    # Opened here, for np.load leaves a damaged file open.
    with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
        header = _header(archive)
        if header["key"] != key:
            raise _Stale
        observations = {name: archive[_PREFIX + name] for name in header["observations"]}
        fields = {name: archive[name] for name in _FIELDS}
    episodes = FlatEpisodes(observations=observations, is_dict=header["is_dict"], **fields)
    return episodes, str(header["fingerprint"])


def _header(archive: Any) -> dict[str, Any]:
    return dict(json.loads(str(archive["header"])))


def _evict(folder: pathlib.Path) -> None:
    """Remove the copies of datasets that are gone."""
    for file in folder.glob("[!.]*.npz"):
        # What cannot be read is said, and made again, when it is asked for.
        with contextlib.suppress(Exception), open(file, "rb") as stream:
            with np.load(stream, allow_pickle=False) as archive:
                source = _header(archive).get("source")  # Older copies do not tell.
            if source is not None and not os.path.exists(source):
                file.unlink()


def _write(
    file: pathlib.Path, key: str, digest: str, episodes: FlatEpisodes, source: pathlib.Path
) -> None:
    """Write under another name first, so that the cache holds whole files only."""
    header = {
        "key": key,
        "fingerprint": digest,
        "observations": list(episodes.observations),
        "is_dict": episodes.is_dict,
        "source": str(source.resolve()),
    }
    contents: dict[str, Any] = {"header": np.array(json.dumps(header)), **_arrays(episodes)}
    file.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile's, which nobody else may read: the folder may be shared.
    temporary = file.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}.npz")
    try:
        with open(temporary, "xb") as stream:
            np.savez(stream, **contents)
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
