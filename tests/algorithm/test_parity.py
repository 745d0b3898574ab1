"""The update against recorded updates of the official implementation, and of ``numpy_iql``."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpy_iql
import pytest
from helpers import QUICKLY

import parity
from iql_jax.algorithm import learner, losses, update, updates

FILES = sorted((Path(__file__).parents[1] / "data/parity").glob("*.npz"))
INFOS = ("value_loss", "critic_loss", "actor_loss", "v", "q1", "q2", "adv")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_array_agrees_with_the_official_implementation(path):
    rows = list(parity.compare(path))
    assert {row.step for row in rows} == {1, 5, 20}
    assert {row.group for row in rows} == {*parity.NETWORKS, *(f"info/{name}" for name in INFOS)}
    assert [row for row in rows if not row.passed] == []


def online_critics(state, observations, actions):
    return jnp.min(state.critic.apply_fn(state.critic.params, observations, actions), axis=0)


@pytest.mark.parametrize(
    ("module", "name", "deviation", "file"),
    [
        (learner.IQLState, "target_q", online_critics, 0),
        (losses, "critic_loss", lambda q, y: jnp.mean(jnp.square(q - y[None]), axis=0), 0),
        (learner, "update_target", lambda state: state, 0),
        (updates, "cosine_decay", lambda rate, step, decay_steps: rate, 2),
    ],
)
def test_the_comparison_notices_a_deviation(monkeypatch, module, name, deviation, file):
    monkeypatch.setattr(module, name, deviation)
    deviating = jax.jit(lambda state, batch: update(state, batch), compiler_options=QUICKLY)
    monkeypatch.setattr(parity, "compiled_update", deviating)
    assert any(not row.passed for row in parity.compare(FILES[file]))


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


@pytest.mark.parametrize("key", ["actor_lr", "value_lr", "critic_lr", "max_weight"])
def test_every_hyperparameter_counts(tmp_path, recorded, key):
    without = {name: number for name, number in HYPER.items() if name != key}
    assert replay(tmp_path, recorded, without) == 1


@pytest.mark.parametrize(
    ("hyper", "phrase"),
    [
        ({**HYPER, "weight_decay": 0.1}, "unknown key 'weight_decay'"),
        ({key: value for key, value in HYPER.items() if key != "tau"}, "no 'tau'"),
        ({**HYPER, "dropout_rate": 0.1}, "without dropout"),
        ({**HYPER, "expectile": 2.0}, "expectile is 2.0; it must be in (0, 1)"),
        ({**HYPER, "max_steps": None}, "max_steps is None"),
        ("no dict", "cannot replay"),
    ],
)
def test_what_cannot_be_replayed_is_refused_in_one_line(tmp_path, recorded, capsys, hyper, phrase):
    assert replay(tmp_path, recorded, hyper) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path / 'own.npz'}: ")
    assert phrase in line


def test_missing_parameters_are_refused(tmp_path, recorded, capsys):
    arrays = {name: array for name, array in recorded.items() if name != "step_0/value/out/bias"}
    assert replay(tmp_path, arrays) == 2
    assert "step_0" in capsys.readouterr().err


@pytest.mark.parametrize("array", ["actor/mean/bias", "value/hidden_0/kernel"])
@pytest.mark.parametrize(("factor", "shown"), [(1.01, "e-0"), (np.nan, "nan")])
def test_one_array_that_differs_fails(tmp_path, recorded, capsys, array, factor, shown):
    name = f"step_5/{array}"
    assert replay(tmp_path, {**recorded, name: factor * recorded[name]}) == 1
    (failed,) = (line for line in capsys.readouterr().out.splitlines() if line.endswith("  FAILED"))
    step, group, error = failed.split()[:3]
    assert (step, group) == ("5", array.partition("/")[0])
    assert shown in error


def test_the_command_names_a_file_that_is_missing(tmp_path, capsys):
    assert parity.main([str(tmp_path / "missing.npz")]) == 2
    assert "missing.npz" in capsys.readouterr().err
