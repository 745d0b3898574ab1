"""Downloading a Minari dataset: whole, or not at all."""

import contextlib
import importlib.util
import os
import pathlib
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator

from iql_jax.utils.console import logger

_REACH_SECONDS = 6.0


class DownloadFailed(Exception):
    """Says why, in one line."""


def download(dataset_id: str, root: pathlib.Path) -> None:
    """Downloads a dataset into Minari's folder.

    The files go to a hidden folder in ``root`` and are moved to their place at the end.

    Args:
        dataset_id: its Minari id.
        root: the folder of all datasets.

    Raises:
        DownloadFailed: if that is not possible, for whatever reason.
    """
    if os.environ.get("MINARI_REMOTE", "hf://").startswith("hf://"):
        _check_hugging_face()
    if (root / dataset_id / "data").exists():
        raise DownloadFailed(f"{root / dataset_id} holds an incomplete dataset: delete it")
    import minari

    folder = ""
    try:
        folder = tempfile.mkdtemp(prefix=".downloading-", dir=root)
        with (
            _datasets_path(folder),
            contextlib.redirect_stdout(sys.stderr),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always")
            minari.download_dataset(dataset_id)
        _move_datasets(pathlib.Path(folder), root)
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise DownloadFailed(f"{type(error).__name__}: {text}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not (root / dataset_id / "data").exists():
        raise DownloadFailed("the server sent no dataset of this id")
    for warning in caught:
        logger.info(f"Minari: {' '.join(str(warning.message).split())}")


def _check_hugging_face() -> None:
    """Refuses at once what the client would retry for half a minute."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise DownloadFailed("huggingface_hub is not installed: pip install 'minari[hf]'")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise DownloadFailed("HF_HUB_OFFLINE is set")
    url = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urllib.request.urlopen(url, timeout=_REACH_SECONDS).close()
    except urllib.error.HTTPError:
        pass  # An answer, if an unfriendly one.
    except (OSError, ValueError) as error:
        raise DownloadFailed(f"{url} cannot be reached ({error})") from error


@contextlib.contextmanager
def _datasets_path(folder: str) -> Iterator[None]:
    """Points Minari, which takes its folder from the environment alone, to another one."""
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
    """Moves each dataset and each namespace description that is not there yet.

    An empty folder is no dataset: one takes its place.
    """
    found = [file.parent.parent for file in source.rglob("data/metadata.json")]
    found += list(source.rglob("namespace_metadata.json"))
    for item in found:
        target = root / item.relative_to(source)
        if not (target / "data" if item.is_dir() else target).exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(item, target)
