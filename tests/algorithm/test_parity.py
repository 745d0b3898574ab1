"""The update against recorded updates of the official implementation, and of ``numpy_iql``."""

from pathlib import Path

import numpy as np
import numpy_iql
import pytest

import parity

FILES = sorted((Path(__file__).parents[1] / "data/parity").glob("*.npz"))
INFOS = ("value_loss", "critic_loss", "actor_loss", "v", "q1", "q2", "adv")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_array_agrees_with_the_official_implementation(path):
    rows = list(parity.compare(path))
    assert {row.step for row in rows} == {1, 5, 20}
    assert {row.group for row in rows} == {*parity.NETWORKS, *(f"info/{name}" for name in INFOS)}
    assert [row for row in rows if not row.passed] == []


# A file with hyperparameters of its own.

HYPER = {
    "hidden_dims": (32, 32),
    "discount": 0.9,
    "expectile": 0.8,
    "temperature": 2.0,
    "max_weight": 0.8,
    "tau": 0.1,
    "actor_lr": 1e-3,
    "value_lr": 2e-3,
    "critic_lr": 4e-3,
    "max_steps": 8,
    "opt_decay_schedule": "cosine",
    "seed": 0,
}


def flattened(prefix, tree):
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        k: v for name, sub in tree.items() for k, v in flattened(f"{prefix}/{name}", sub).items()
    }


@pytest.fixture(scope="module")
def recorded():
    """The arrays of a parity file that ``numpy_iql`` computed."""
    rng = np.random.default_rng(0)
    num_updates, shape = 5, (5, 64)  # The sizes of antmaze.npz, to share its program.
    batches = {
        "observations": rng.normal(size=(*shape, 29)),
        "actions": rng.uniform(-1, 1, (*shape, 8)),
        "rewards": rng.normal(size=shape),
        "masks": 1.0 * (rng.uniform(size=shape) > 0.25),
        "next_observations": rng.normal(size=(*shape, 29)),
    }
    batches = {name: rows.astype(np.float32) for name, rows in batches.items()}
    trained = numpy_iql.initial_networks(rng, 29, 8, 32)
    optimizers = {name: numpy_iql.Adam(params) for name, params in trained.items()}
    arrays = {f"batch/{name}": rows for name, rows in batches.items()}
    arrays |= flattened("step_0", trained)
    infos = []
    for i in range(num_updates):
        batch = {name: rows[i].astype(np.float64) for name, rows in batches.items()}
        trained, info = numpy_iql.update(trained, optimizers, batch, i, HYPER)
        infos.append(info)
        if i + 1 in (1, num_updates):
            arrays |= flattened(f"step_{i + 1}", trained)
    arrays |= {f"info/{name}": np.array([info[name] for info in infos]) for name in INFOS}
    # Some weights are clipped, others not.
    weights = np.exp(HYPER["temperature"] * arrays["info/adv"])
    assert 0.1 < np.mean(weights > HYPER["max_weight"]) < 0.9
    return arrays


def replay(folder, arrays, hyper=HYPER):
    np.savez(folder / "own.npz", hyper=str(hyper), **arrays)
    return parity.main([str(folder / "own.npz")])


def test_a_file_with_learning_rates_of_its_own_agrees(tmp_path, recorded, capsys):
    assert replay(tmp_path, recorded) == 0
    assert capsys.readouterr().out.count("info/adv") == 2


@pytest.mark.parametrize(
    ("hyper", "phrase"),
    [
        ({**HYPER, "weight_decay": 0.1}, "unknown key 'weight_decay'"),
        ({**HYPER, "dropout_rate": 0.1}, "without dropout"),
        ("no dict", "cannot replay"),
    ],
)
def test_what_cannot_be_replayed_is_refused_in_one_line(tmp_path, recorded, capsys, hyper, phrase):
    assert replay(tmp_path, recorded, hyper) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path / 'own.npz'}: ")
    assert phrase in line


@pytest.mark.parametrize(("factor", "shown"), [(1.01, "e-0"), (np.nan, "nan")])
def test_one_array_that_differs_fails(tmp_path, recorded, capsys, factor, shown):
    name = "step_5/actor/mean/bias"
    assert replay(tmp_path, {**recorded, name: factor * recorded[name]}) == 1
    (failed,) = (line for line in capsys.readouterr().out.splitlines() if line.endswith("  FAILED"))
    step, group, error = failed.split()[:3]
    assert (step, group) == ("5", "actor")
    assert shown in error
