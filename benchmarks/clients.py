"""Shows how other software reads the generated datasets (small ones, in a temporary folder).

    python benchmarks/clients.py

Minari has to list, show and read them. Printed is the share of the steps that TorchRL and d3rlpy,
where installed, return. What they lose of the one by Minari's own collector is their own defect.
"""

import contextlib
import importlib.util
import os
import tempfile
from typing import Any

import minari.cli
import numpy as np

from iql_jax.generation.catalog import GENERATED
from iql_jax.generation.generate import generate

SEEN = ("observation", "desired_goal")


def main() -> None:
    """Prints a line for each dataset."""
    clients = [name for name in ("torchrl", "d3rlpy") if importlib.util.find_spec(name)]
    with tempfile.TemporaryDirectory() as tempfile.tempdir:
        os.environ["MINARI_DATASETS_PATH"] = tempfile.mkdtemp()
        for name in GENERATED:
            generate(name, 2_000)
        env = minari.DataCollector(minari.load_dataset(name).recover_environment())
        for i in range(400):
            _ = env.step(env.action_space.sample()) if i % 100 else env.reset(seed=i)
        env.create_dataset("minari/collected-v0")
        for name in minari.list_local_datasets():
            with tempfile.TemporaryFile("w") as said, contextlib.redirect_stdout(said):
                minari.cli.show(name)
                dataset = minari.load_dataset(name)
                print(dataset[0].rewards, dataset.recover_environment(eval_env=True).reset())
                steps = _steps((*map(e.observations.get, SEEN), e.actions) for e in dataset)
                shares = [len(steps & _read(client, name)) / len(steps) for client in clients]
            print(name, "minari: all", *map("{}: {:.0%}".format, clients, shares), flush=True)


def _read(client: str, name: str) -> set[bytes]:
    if client == "d3rlpy":
        buffer, _ = importlib.import_module("d3rlpy.datasets").get_minari(name)
        return _steps((episode.observations, episode.actions) for episode in buffer.episodes)
    replay = importlib.import_module("torchrl.data.datasets").MinariExperienceReplay
    found = replay(name, 256, root=tempfile.mkdtemp(), load_from_local_minari=True)[:]
    return _steps([(*map(found["observation"].get, SEEN), found["action"])])


def _steps(episodes: Any) -> set[bytes]:
    parts = (np.hstack([*(part[: len(last)] for part in seen), last]) for *seen, last in episodes)
    return {row.tobytes() for part in parts for row in part.astype(np.float32)}


if __name__ == "__main__":
    main()
