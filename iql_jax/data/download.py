"""Downloading a Minari dataset: whole and unchanged, or not at all."""

import contextlib
import hashlib
import http.client
import os
import pathlib
import re
import sys
import tempfile
from typing import Any
from unittest import mock

from iql_jax.utils.errors import as_line


class DownloadFailed(Exception):
    """Says why, in one line."""


def download(dataset_id: str, root: pathlib.Path) -> None:
    """Downloads a dataset to a hidden folder in ``root``, Minari's, and moves it to its place.

    Raises:
        DownloadFailed: if that is not possible, for whatever reason.
    """
    import minari
    from huggingface_hub.constants import ENDPOINT
    from minari.storage.remotes import DEFAULT_REMOTE

    kind, _, owner = os.environ.get("MINARI_REMOTE", DEFAULT_REMOTE).partition("://")
    try:
        with (
            tempfile.TemporaryDirectory(prefix=".downloading-", dir=root) as folder,
            mock.patch.dict(os.environ, MINARI_DATASETS_PATH=folder),
            contextlib.redirect_stdout(sys.stderr),
        ):
            if kind == "hf":
                _from_hub(owner, dataset_id, pathlib.Path(folder))
            else:
                minari.download_dataset(dataset_id)
            (root / dataset_id).parent.mkdir(parents=True, exist_ok=True)
            os.rename(pathlib.Path(folder, dataset_id), root / dataset_id)
    except Exception as error:
        raise DownloadFailed(f"{ENDPOINT if kind == 'hf' else owner}: {_reason(error)}") from error


def _from_hub(owner: str, dataset_id: str, folder: pathlib.Path) -> None:
    """Downloads file after file: threads, as of Minari's client, would outlive a Ctrl-C."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # Its retries would bury the one line that says what failed.
    name, _, path = dataset_id.partition("/")
    info = HfApi().dataset_info(f"{owner}/{name}", files_metadata=True, timeout=15)
    files = [file for file in info.siblings or () if file.rfilename.startswith(f"{path}/")]
    if not files:
        raise DownloadFailed("it has no such dataset")
    with mock.patch.object(constants, "HF_HUB_DISABLE_XET", True):  # It has threads of its own.
        for file in sorted(files, key=lambda file: file.size or 0):  # What fails early costs less.
            local = HfApi().hf_hub_download(
                f"{owner}/{name}",
                file.rfilename,
                repo_type="dataset",
                revision=info.sha,
                local_dir=folder / name,
                force_download=True,  # Not from the hub's cache, nor with retries of every step.
            )
            if not _is_unchanged(pathlib.Path(local), file):
                raise DownloadFailed(f"{file.rfilename} arrived damaged, with another checksum")


def _is_unchanged(path: pathlib.Path, file: Any) -> bool:
    """Compares a file with the hub's checksum: of its content, or if it is small, Git's."""
    if file.lfs is not None:
        with path.open("rb") as opened:
            return bool(hashlib.file_digest(opened, "sha256").hexdigest() == file.lfs["sha256"])
    content = path.read_bytes()
    return bool(hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == file.blob_id)


def _reason(error: BaseException) -> str:
    """Returns the first cause in one line: the server's answer, if there was one."""
    while error.__cause__ is not None:
        error = error.__cause__
    if (response := getattr(error, "response", None)) is not None:
        code = response.status_code
        hint = " (no such dataset, or a token that is not valid)" if code == 401 else ""
        return f"it answers {code} {http.client.responses.get(code, '')}{hint}"
    text = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0][:300]
    text = as_line(re.sub(r"/\.downloading-\w+", "", text)).rstrip(".")  # That folder is gone.
    return text if isinstance(error, DownloadFailed) else f"{type(error).__name__}: {text}"
