"""The package's update against recorded updates of the official implementation."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iql_jax.algorithm import learner, losses, networks

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tests/data/parity").glob("*.npz"))
SPEC = importlib.util.spec_from_file_location("parity", ROOT / "benchmarks/parity.py")
parity = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(parity)


def test_all_three_files_are_there():
    assert [path.stem for path in FILES] == [
        "antmaze",
        "finetune_no_decay",
        "locomotion_short_schedule",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_array_agrees(path):
    rows = list(parity.compare(path))
    assert {row.step for row in rows} == {1, 5, 20}
    assert {row.group for row in rows} == {
        *parity.NETWORKS,
        *(f"info/{n}" for n in ("value_loss", "critic_loss", "actor_loss", "v", "q1", "q2", "adv")),
    }
    assert [row for row in rows if not row.passed] == []


def online_critics(state, observations, actions):
    return jnp.min(state.critic.apply_fn(state.critic.params, observations, actions), 0)


def mean_over_critics(q_values, targets):
    return jnp.mean(jnp.square(q_values - targets[None]), axis=0)


def clip_at_10(advantages, temperature, max_weight):
    return jnp.minimum(jnp.exp(temperature * advantages), 10.0)


def target_stays(params, target_params, tau):
    return target_params


def no_decay(learning_rate, step, decay_steps):
    return learning_rate


def no_masks(rewards, masks, next_values, discount):
    return rewards + discount * next_values


@pytest.mark.parametrize(
    ("module", "name", "deviation", "file"),
    [
        (learner.IQLState, "target_q", online_critics, "antmaze"),
        (losses, "critic_loss", mean_over_critics, "antmaze"),
        (losses, "advantage_weights", clip_at_10, "antmaze"),
        (learner, "update_target", target_stays, "antmaze"),
        (learner, "cosine_decay", no_decay, "locomotion_short_schedule"),
        (losses, "td_targets", no_masks, "antmaze"),
        (jnp, "tanh", lambda x: x, "antmaze"),
        (networks, "LOG_STD_MAX", -1.0, "antmaze"),
    ],
)
def test_the_comparison_notices_a_deviation(monkeypatch, module, name, deviation, file):
    monkeypatch.setattr(module, name, deviation)
    jax.clear_caches()
    # Up to the first row that it fails: the updates after it would say no more.
    noticed = any(not row.passed for row in parity.compare(ROOT / f"tests/data/parity/{file}.npz"))
    jax.clear_caches()
    assert noticed


def test_the_command_fails_on_a_file_that_differs(tmp_path, capsys):
    with np.load(FILES[0]) as data:
        arrays = dict(data)
    arrays["step_20/value/out/bias"] = arrays["step_20/value/out/bias"] * 1.01
    np.savez(tmp_path / "changed.npz", **arrays)
    assert parity.main([str(tmp_path / "changed.npz")]) == 1
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize("array", ["actor/mean/bias", "value/hidden_0/kernel"])
def test_no_array_that_is_not_finite_passes(tmp_path, capsys, array):
    with np.load(FILES[0]) as data:
        arrays = dict(data)
    arrays[f"step_20/{array}"] = np.full_like(arrays[f"step_20/{array}"], np.nan)
    np.savez(tmp_path / "nan.npz", **arrays)
    assert parity.main([str(tmp_path / "nan.npz")]) == 1
    (failed,) = (line for line in capsys.readouterr().out.splitlines() if line.endswith("  FAILED"))
    assert failed.split()[:3] == ["20", array.partition("/")[0], "nan"]


def test_the_command_says_what_it_cannot_read(tmp_path, capsys):
    assert parity.main([str(tmp_path / "missing.npz")]) == 2
    assert "missing.npz" in capsys.readouterr().err
    for arguments, status in (([], 2), (["--help"], 0)):
        with pytest.raises(SystemExit) as ended:
            parity.main(arguments)
        assert ended.value.code == status
