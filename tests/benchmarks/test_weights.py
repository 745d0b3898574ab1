"""How many transitions carry AWR's weights: hand-derived shares, and those of a run."""

import jax.numpy as jnp
import numpy as np
import pytest
from benchmark_runs import rows, trained_run

import weights
from iql_jax.training.trained import load_run


def test_the_table_of_known_advantages():
    # Weights at temperature 1: 1/2, 1, 3, 3; at 2: 1/4, 1, 9, 9; the lower bound makes 3 and 9 two.
    advantages = jnp.log(jnp.array([0.5, 1.0, 3.0, 3.0]))
    table = rows(weights.report(advantages, [1.0, 2.0], [2.0, 100.0]))
    assert table == [
        # 5.5^2 / (4 x 9.25) and 7.5^2 / (4 x 19.25); 0.5 / 5.5 and 0.5 / 7.5.
        ["1", "81.8%, 9% below", "73.1%, 7% below"],
        # 5.25^2 / (4 x 9.0625) and 19.25^2 / (4 x 163.0625); 0.25 / 5.25 and 0.25 / 19.25.
        ["2", "76.0%, 5% below", "56.8%, 1% below"],
    ]


def test_weights_that_are_none_are_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["weights.py", "--run=x", "--max_weights", "10", "0"])
    with pytest.raises(SystemExit) as ended:
        weights.main()
    assert ended.value.code == 2
    assert "temperatures are 0 or more, and max_weights positive" in capsys.readouterr().err


def test_the_advantages_of_a_run(tmp_path, data_folders, monkeypatch):
    trained_run(tmp_path / "run", "iql/pointmaze/umaze-v0", steps=600, updates=4)
    run = load_run(tmp_path / "run")
    assert run.step == 4
    data, state = run.dataset.transitions, run.state
    q = state.critic.apply_fn(state.target_critic_params, data.observations, data.actions)
    v = state.value.apply_fn(state.value.params, data.observations)
    expected = np.asarray(q.min(axis=0) - v)
    np.testing.assert_allclose(np.sort(weights.advantages(run)), np.sort(expected), rtol=1e-5)
    monkeypatch.setattr(weights, "MOST", 100)
    drawn = np.asarray(weights.advantages(run))
    assert len(drawn) == 100
    assert np.isclose(drawn[:, None], expected[None], rtol=1e-5).any(axis=1).all()
