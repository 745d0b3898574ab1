"""AntMaze umaze with the evaluation maze that Minari's metadata name: the data's walls, mirrored.

A dataset in Minari's folder that shares the transitions' file with ``iql/antmaze-waiting``, and
differs from it in ``eval_env_spec`` alone. Its map is that of ``EVAL_ENV_MAPS["umaze"]`` in
Farama-Foundation/minari-dataset-generation-scripts, scripts/D4RL/antmaze/create_antmaze_dataset.py,
as the published ``D4RL/antmaze/umaze-diverse-v1`` has it too (Minari issue 304). The same script
collects umaze in a maze whose passage is on the right: half a turn leads from one map to the other.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from minari.namespace import create_namespace, list_local_namespaces

from iql_jax.data.find import datasets_root
from iql_jax.data.metadata import read_metadata
from iql_jax.generation.provide import provide

NAMESPACE = "iql/antmaze-mirrored"

MINARI_EVALUATION_MAP: list[list[int | str]] = [
    [1, 1, 1, 1, 1],
    [1, 0, 0, "r", 1],
    [1, 0, 1, 1, 1],
    [1, 0, 0, "g", 1],
    [1, 1, 1, 1, 1],
]


def make_mirrored(task: str) -> str:
    """Make the dataset, unless it is there already, from the embedded one.

    Args:
        task: 'umaze' or 'umaze-diverse'.

    Returns:
        Its id.

    Raises:
        UserError: if the embedded dataset is missing and cannot be made.
    """
    source = datasets_root() / provide(f"iql/antmaze-waiting/{task}-v0").source
    dataset_id = f"{NAMESPACE}/{task}-v0"
    metadata = mirrored_metadata(read_metadata(source), dataset_id)
    target = datasets_root() / dataset_id
    if _is_same(source, target, metadata):
        return dataset_id
    if NAMESPACE not in list_local_namespaces():
        create_namespace(NAMESPACE)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=datasets_root()) as making:
        data = Path(making) / "new" / "data"
        data.mkdir(parents=True)
        for file in _data_files(source):
            _link_or_copy(file, data / file.name)
        (data / "metadata.json").write_text(json.dumps(metadata))
        if target.exists():
            os.replace(target, Path(making) / "old")
        os.replace(data.parent, target)
    return dataset_id


def mirrored_metadata(metadata: dict[str, Any], dataset_id: str) -> dict[str, Any]:
    """The metadata with another evaluation maze, and without scores, which were for the first."""
    kept = {key: entry for key, entry in metadata.items() if not key.startswith("ref_")}
    spec = json.loads(kept["eval_env_spec"])
    spec["kwargs"]["maze_map"] = MINARI_EVALUATION_MAP
    return {**kept, "dataset_id": dataset_id, "eval_env_spec": json.dumps(spec)}


def _data_files(folder: Path) -> list[Path]:
    return sorted(file for file in (folder / "data").iterdir() if file.name != "metadata.json")


def _is_same(source: Path, target: Path, metadata: dict[str, Any]) -> bool:
    """Whether the target is there, of these metadata and of the source's present files."""
    if not (target / "data" / "metadata.json").is_file() or read_metadata(target) != metadata:
        return False
    states = [
        [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in _data_files(folder)]
        for folder in (source, target)
    ]
    return states[0] == states[1]


def _link_or_copy(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:  # A file system without hard links.
        shutil.copy2(file, target)
