"""Downloading a Minari dataset: whole, or not at all."""

import contextlib
import os
import pathlib
import sys
import tempfile
import urllib.error
import urllib.request
from unittest import mock


class DownloadFailed(Exception):
    """Says why, in one line."""


def download(dataset_id: str, root: pathlib.Path) -> None:
    """Downloads a dataset to a hidden folder in ``root``, Minari's, and moves it to its place.

    Raises:
        DownloadFailed: if that is not possible, for whatever reason.
    """
    if os.environ.get("MINARI_REMOTE", "hf://").startswith("hf://"):
        _check_hugging_face()
    import minari

    try:
        with (
            tempfile.TemporaryDirectory(prefix=".downloading-", dir=root) as folder,
            mock.patch.dict(os.environ, MINARI_DATASETS_PATH=folder),
            contextlib.redirect_stdout(sys.stderr),
        ):
            minari.download_dataset(dataset_id)
            os.renames(pathlib.Path(folder, dataset_id), root / dataset_id)
            os.makedirs(folder, exist_ok=True)  # It goes with the last thing in it.
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise DownloadFailed(f"{type(error).__name__}: {text}") from error


def _check_hugging_face() -> None:
    """Refuses at once what the client would retry for half a minute."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise DownloadFailed("HF_HUB_OFFLINE is set")
    url = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urllib.request.urlopen(url, timeout=6).close()
    except urllib.error.HTTPError:
        pass  # An answer, if an unfriendly one.
    except (OSError, ValueError) as error:
        raise DownloadFailed(f"{url} cannot be reached ({error})") from error
