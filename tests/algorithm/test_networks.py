"""The networks: their beginning, their bounds, and layer normalisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iql_jax.algorithm import networks
from iql_jax.algorithm.learner import create_state, update
from tests.helpers import make_state, make_transitions


def test_initialisation_is_orthogonal_with_gain_sqrt_2_and_zero_biases():
    state = create_state(jax.random.key(0), 5, 2, hidden_dims=(8, 8))
    for params in (state.actor.params, state.critic.params["params"]["q1"], state.value.params):
        params = params.get("params", params)
        for layer, leaves in params.items():
            if layer == "log_std":
                np.testing.assert_array_equal(leaves, 0.0)
                continue
            kernel = np.asarray(leaves["kernel"], np.float64)
            if kernel.shape[0] < kernel.shape[1]:
                kernel = kernel.T
            np.testing.assert_allclose(kernel.T @ kernel, 2.0 * np.eye(kernel.shape[1]), atol=1e-5)
            np.testing.assert_array_equal(leaves["bias"], 0.0)


def test_log_std_is_clipped():
    network = networks.GaussianPolicy((8,), 3)
    observations = jnp.zeros((1, 4))
    params = network.init(jax.random.key(0), observations)
    params["params"]["log_std"] = jnp.array([-9.0, 0.5, 9.0])
    np.testing.assert_allclose(network.apply(params, observations)[1], [[-5.0, 0.5, 2.0]])


def test_layer_norm_by_hand():
    network = networks.ScalarMLP((4, 4), layer_norm=True)
    inputs = np.random.default_rng(0).normal(size=(5, 3))
    params = network.init(jax.random.key(0), jnp.asarray(inputs))
    own = jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])
    assert set(own) == {"hidden_0", "norm_0", "hidden_1", "norm_1", "out"}
    # A scale and a bias that are not those of the beginning.
    own["norm_0"] = {"scale": np.arange(1.0, 5.0), "bias": np.full(4, 0.5)}
    x = inputs
    for i in range(2):
        x = x @ own[f"hidden_{i}"]["kernel"] + own[f"hidden_{i}"]["bias"]
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6)
        x = np.maximum(0, x * own[f"norm_{i}"]["scale"] + own[f"norm_{i}"]["bias"])
    expected = x @ own["out"]["kernel"][:, 0] + own["out"]["bias"]
    np.testing.assert_allclose(network.apply({"params": own}, inputs), expected, rtol=1e-4)


def test_with_layer_norm_values_are_bounded_far_from_the_data():
    far = 1e6 * np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    largest = {}
    for layer_norm in (False, True):
        network = networks.ScalarMLP((16, 16), layer_norm)
        params = network.init(jax.random.key(0), far)
        largest[layer_norm] = np.abs(network.apply(params, far)).max()
    # Normalised, 16 numbers have a norm of 4 at most; the last layer's is sqrt(2).
    assert largest[True] <= 4 * 2**0.5
    assert largest[False] > 1e5


@pytest.mark.parametrize("layer_norm", [False, True])
def test_layer_norm_is_in_v_and_the_critics_alone(layer_norm):
    state = make_state(layer_norm=layer_norm)
    normalised = {"norm_0", "norm_1"} if layer_norm else set()
    for params in (state.critic.params["params"]["q2"], state.value.params["params"]):
        assert {name for name in params if name.startswith("norm")} == normalised
    assert not any(name.startswith("norm") for name in state.actor.params["params"])
    after, metrics = jax.jit(update)(state, make_transitions())
    assert all(np.isfinite(metric) for metric in metrics.values())
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), after.value.params, state.value.params)
    assert all(jax.tree.leaves(moved))
