"""Downloading a Minari dataset: whole or not at all, and a quick answer without a network.

Left alone, Minari's client repeats failed requests for about half a minute and logs each of them;
so the server is tried once, briefly, before Minari is asked.
"""

import contextlib
import http.client
import importlib.util
import os
import pathlib
import sys
import tempfile
import threading
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator

from iql_jax.data.leftovers import sweep
from iql_jax.utils.console import logger

_PREFIX = ".downloading-"

REACH_SECONDS = 6.0
"""How long the server may take to answer, name look-up included."""


class DownloadFailed(Exception):
    """Says why, in one line."""


def download(dataset_id: str, root: pathlib.Path) -> None:
    """Download a dataset into Minari's folder.

    The files go to a hidden folder in ``root`` and are moved to their place at the end.

    Args:
        dataset_id: its Minari id.
        root: the folder of all datasets.

    Raises:
        DownloadFailed: if that is not possible, for whatever reason.
    """
    sweep(root, f"{_PREFIX}*")
    remote = os.environ.get("MINARI_REMOTE", "hf://farama-minari")
    _check_client(remote)
    unreachable = _why_unreachable(_server(remote))
    if unreachable is not None:
        raise DownloadFailed(unreachable)
    import minari

    try:
        with (
            tempfile.TemporaryDirectory(
                prefix=_PREFIX, dir=root, ignore_cleanup_errors=True
            ) as folder,
            contextlib.redirect_stdout(sys.stderr),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always")
            with _datasets_path(folder):
                minari.download_dataset(dataset_id)
            _move_datasets(pathlib.Path(folder), root)
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise DownloadFailed(f"{type(error).__name__}: {text}") from error
    for warning in caught:
        logger.info(f"Minari: {' '.join(str(warning.message).split())}")


def _check_client(remote: str) -> None:
    if remote.startswith("hf://"):
        if importlib.util.find_spec("huggingface_hub") is None:
            raise DownloadFailed("huggingface_hub is not installed: pip install 'minari[hf]'")
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            raise DownloadFailed("HF_HUB_OFFLINE is set")


def _server(remote: str) -> str:
    if remote.startswith("hf://"):
        return os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    return "https://storage.googleapis.com"


def _why_unreachable(url: str) -> str | None:
    """Ask a server for anything at all; None if it answers.

    In a thread, for a look-up of the server's name cannot be given a time limit.
    """
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(url, timeout=REACH_SECONDS):
                outcome.append(None)
        except urllib.error.HTTPError:
            outcome.append(None)  # An answer, if an unfriendly one.
        except (OSError, ValueError, http.client.HTTPException) as error:
            outcome.append(f"{url} cannot be reached ({getattr(error, 'reason', error)})")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(REACH_SECONDS)
    return outcome[0] if outcome else f"{url} did not answer within {REACH_SECONDS:g} s"


@contextlib.contextmanager
def _datasets_path(folder: str) -> Iterator[None]:
    """Point Minari, which takes its folder from the environment alone, to another one."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before


def _move_datasets(source: pathlib.Path, root: pathlib.Path) -> None:
    """Move each dataset and each namespace description that is not there yet.

    An empty folder is no dataset: one takes its place.
    """
    found = [file.parent.parent for file in source.rglob("data/metadata.json")]
    found += list(source.rglob("namespace_metadata.json"))
    for item in found:
        target = root / item.relative_to(source)
        if not (target / "data" if item.is_dir() else target).exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(item, target)
