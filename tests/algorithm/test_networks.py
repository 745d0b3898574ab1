"""The networks and distributions: initialization, bounds, normalization, dropout, acting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import make_state, make_transitions

from iql_jax.algorithm import eval_actions, networks, sample_actions, update
from iql_jax.algorithm.distributions import Categorical, Gaussian


def test_kernels_are_orthogonal_with_gain_sqrt_2_and_biases_zero():
    state = make_state()
    for params in (state.actor.params, state.critic.params["params"]["q1"], state.value.params):
        layers = dict(params.get("params", params))
        np.testing.assert_array_equal(layers.pop("log_std", 0.0), 0.0)
        for leaves in layers.values():
            kernel = np.asarray(leaves["kernel"], np.float64)
            if kernel.shape[0] < kernel.shape[1]:
                kernel = kernel.T
            np.testing.assert_allclose(kernel.T @ kernel, 2.0 * np.eye(kernel.shape[1]), atol=1e-5)
            np.testing.assert_array_equal(leaves["bias"], 0.0)


def test_the_policy_by_hand():
    network = networks.GaussianPolicy((4,), 3)
    observations = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    params = network.init(jax.random.key(0), observations)
    own = params["params"]
    own["mean"]["bias"] = np.array([5.0, -5.0, 0.1], np.float32)
    own["log_std"] = np.array([-9.0, 0.5, 9.0], np.float32)
    means, log_stds = network.apply(params, observations)
    hidden = np.maximum(0.0, observations @ np.asarray(own["hidden_0"]["kernel"]))
    expected = np.tanh(hidden @ np.asarray(own["mean"]["kernel"]) + own["mean"]["bias"][None])
    np.testing.assert_allclose(means, expected, atol=1e-6)
    np.testing.assert_array_equal(log_stds, np.tile([[-5.0, 0.5, 2.0]], (6, 1)))


def test_layer_norm_by_hand():
    network = networks.ScalarMLP((4, 4), layer_norm=True)
    inputs = np.random.default_rng(0).normal(size=(5, 3))
    params = network.init(jax.random.key(0), jnp.asarray(inputs))
    own = jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])
    assert set(own) == {"hidden_0", "norm_0", "hidden_1", "norm_1", "out"}
    own["norm_0"] = {"scale": np.arange(1.0, 5.0), "bias": np.full(4, 0.5)}
    x = inputs
    for i in range(2):
        x = x @ own[f"hidden_{i}"]["kernel"] + own[f"hidden_{i}"]["bias"]
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6)
        x = np.maximum(0, x * own[f"norm_{i}"]["scale"] + own[f"norm_{i}"]["bias"])
    expected = x @ own["out"]["kernel"][:, 0] + own["out"]["bias"]
    np.testing.assert_allclose(network.apply({"params": own}, inputs), expected, rtol=1e-4)


def test_the_structure_follows_the_config():
    state = make_state(layer_norm=True, num_critics=3)
    assert set(state.critic.params["params"]) == {"q1", "q2", "q3"}
    for params in (state.critic.params["params"]["q2"], state.value.params["params"]):
        assert {"norm_0", "norm_1"} <= set(params)
    assert not any(name.startswith("norm") for name in state.actor.params["params"])
    assert set(make_state().value.params["params"]) == {"hidden_0", "hidden_1", "out"}


def test_dropout_keeps_the_mean_and_the_rate():
    dropped = networks.dropout(jnp.ones((200, 500)), jnp.asarray(0.1), jax.random.key(0))
    assert set(np.unique(dropped)) == {np.float32(0.0), np.float32(1.0) / np.float32(0.9)}
    # 100,000 Bernoulli draws: the standard deviation of the share is 0.001.
    assert float(jnp.mean(dropped == 0)) == pytest.approx(0.1, abs=0.005)


def test_a_gaussian():
    policy = Gaussian(jnp.array([[0.5, -1.0]]), jnp.log(jnp.array([[0.1, 2.0]])))
    z = np.array([(0.3 - 0.5) / 0.1, (0.0 + 1.0) / 2.0])
    expected = np.sum(-0.5 * z**2 - 0.5 * np.log(2 * np.pi)) - np.log(0.1 * 2.0)
    assert float(policy.log_prob(jnp.array([[0.3, 0.0]]))[0]) == pytest.approx(expected, rel=1e-5)
    # No squashing: the density at the mean is (2 pi)^(-d/2) / prod(std), also at the bounds.
    at_mean = -np.log(2 * np.pi) - np.log(0.1 * 2.0)
    assert float(policy.log_prob(policy.means)[0]) == pytest.approx(at_mean, rel=1e-5)
    assert float(policy.metrics()["policy_std"]) == pytest.approx((0.1 + 2.0) / 2)


def test_candidates_of_a_gaussian_come_from_where_they_are_said_to():
    policy = Gaussian(jnp.full((5, 2), 0.5), jnp.full((5, 2), -3.0))
    near, far = (
        np.asarray(policy.candidates(jax.random.key(0), 200, source))
        for source in ("policy", "uniform")
    )
    assert near.shape == far.shape == (200, 5, 2)
    assert np.abs(near - 0.5).max() < 5 * np.exp(-3)
    assert near.mean() == pytest.approx(0.5, abs=0.005)
    assert near.std() == pytest.approx(np.exp(-3), rel=0.1)
    assert np.abs(far).max() <= 1.0
    assert far.min() < -0.98
    assert abs(far.mean()) < 0.05


def test_a_categorical():
    probabilities = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    policy = Categorical(jnp.log(jnp.asarray(probabilities)))
    actions = jnp.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(policy.log_prob(actions), np.log([0.3, 0.6]), rtol=1e-5)
    np.testing.assert_array_equal(policy.mode(), [[0, 1, 0], [1, 0, 0]])
    samples = jax.vmap(policy.sample)(jax.random.split(jax.random.key(0), 4_000))
    assert set(np.unique(samples)) == {0.0, 1.0}
    np.testing.assert_allclose(samples.mean(axis=0), probabilities, atol=0.03)
    expected_q = policy.expected_q(lambda a: a @ jnp.array([10.0, 20.0, 30.0]))
    np.testing.assert_allclose(expected_q, [2 + 10 + 9, 6 + 6 + 3], rtol=1e-5)
    candidates = policy.candidates(jax.random.key(0), 7, "policy")
    np.testing.assert_array_equal(candidates, np.repeat(np.eye(3)[:, None], 2, axis=1))
    entropy = -np.mean(np.sum(probabilities * np.log(probabilities), axis=1))
    assert float(policy.metrics()["policy_entropy"]) == pytest.approx(entropy, rel=1e-5)


def test_actions_are_clipped_and_use_their_key():
    actor, observations = make_state().actor, 10 * make_transitions().observations
    assert eval_actions(actor, observations).shape == (16, 2)
    one, again, other = (
        sample_actions(actor, jax.random.key(seed), observations) for seed in (2, 2, 3)
    )
    assert float(jnp.abs(one).max()) == 1.0  # Standard deviation 1: some lie outside.
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("precision", "written"),
    [
        ("float32", "precision = [HIGHEST, HIGHEST]"),
        ("tensorfloat32", "lhs_precision_type = tf32, rhs_precision_type = tf32"),
        ("bfloat16", "lhs_precision_type = bf16, rhs_precision_type = bf16"),
    ],
)
def test_the_precision_reaches_every_product_of_an_update(precision, written):
    state = make_state(matmul_precision=precision, actor_loss="ddpgbc")
    traced = jax.jit(update).trace(state, make_transitions())
    program = traced.lower(lowering_platforms=("cuda",)).as_text()
    products = [line for line in program.splitlines() if "dot_general" in line]
    assert len(products) > 40
    assert [line for line in products if written not in line] == []
    for x, y in zip(jax.tree.leaves(state.actor), jax.tree.leaves(make_state().actor), strict=True):
        np.testing.assert_array_equal(x, y)  # Parameters start alike, in float32.
        assert x.dtype == y.dtype
