"""The networks of IQL as Linen modules, with the official initialization.

Every kernel is orthogonal with gain sqrt(2), output layers included; biases start at zero.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from iql_jax.algorithm.distributions import Categorical, Gaussian
from iql_jax.algorithm.types import Array

LOG_STD_MIN = -5.0
LOG_STD_MAX = 2.0


PRECISIONS: dict[str, Any] = {
    "float32": jax.lax.Precision.HIGHEST,
    "tensorfloat32": jax.lax.DotAlgorithmPreset.TF32_TF32_F32,
    "bfloat16": jax.lax.DotAlgorithmPreset.BF16_BF16_F32,
}
"""How float32 arrays are multiplied, forward and backward; sums are float32 in each."""


def dense(features: int, name: str, precision: str) -> nn.Dense:
    """A dense layer with IQL's initialization, in float32 but for its products.

    Their precision is explicit because accelerators multiply float32 with less by default: GPUs in
    TF32, TPUs in bfloat16.
    """
    return nn.Dense(
        features,
        kernel_init=nn.initializers.orthogonal(2.0**0.5),
        precision=PRECISIONS[precision],
        name=name,
    )


def hidden_layers(
    x: Array,
    hidden_dims: Sequence[int],
    precision: str,
    *,
    layer_norm: bool = False,
    regularize: Callable[[Array], Array] = lambda x: x,
) -> Array:
    """Dense layers with ReLU, named hidden_0, hidden_1, ... in the module that calls this.

    ``layer_norm`` normalizes the input of each ReLU, by norm_0, norm_1, ...; ``regularize`` is
    applied to the output of each layer. Maps [..., input_dim] to [..., hidden_dims[-1]].
    """
    for i, features in enumerate(hidden_dims):
        x = dense(features, f"hidden_{i}", precision)(x)
        if layer_norm:
            x = nn.LayerNorm(name=f"norm_{i}")(x)
        x = regularize(nn.relu(x))
    return x


def dropout(x: Array, rate: Array, key: jax.Array) -> jax.Array:
    """Zeroes each element with probability ``rate`` and scales up the rest. Consumes the key.

    Unlike in ``flax.linen.Dropout`` the rate may be traced, so members of a population can differ
    in it, and changing it compiles nothing.
    """
    keep = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(keep, x / (1.0 - rate), 0.0)


class ScalarMLP(nn.Module):
    """An MLP with one output: V(s) of observations, Q(s, a) of observations joined with actions.

    With ``layer_norm`` the weights after the last norm bound the output, whatever the input. States
    unlike the data then have no extreme values for bootstrapping to spread (Ball et al.,
    "Efficient Online Reinforcement Learning with Offline Data", 2023,
    https://arxiv.org/abs/2302.02948).
    """

    hidden_dims: Sequence[int]
    layer_norm: bool = False
    precision: str = "float32"

    @nn.compact
    def __call__(self, inputs: Array) -> jax.Array:
        """Maps [..., input_dim] to [...]."""
        hidden = hidden_layers(inputs, self.hidden_dims, self.precision, layer_norm=self.layer_norm)
        return jnp.squeeze(dense(1, "out", self.precision)(hidden), axis=-1)


class Critics(nn.Module):
    """An ensemble of independent action values Q_i(s, a), named q1, q2, ..."""

    hidden_dims: Sequence[int]
    num_critics: int = 2
    layer_norm: bool = False
    precision: str = "float32"

    @nn.compact
    def __call__(self, observations: Array, actions: Array) -> jax.Array:
        """Maps [B, observation_dim] and [B, action_dim] to Q values [num_critics, B]."""
        inputs = jnp.concatenate([observations, actions], axis=-1)
        # A loop rather than a mapped axis: separate products run faster than batched ones on a CPU.
        critics = [
            ScalarMLP(self.hidden_dims, self.layer_norm, self.precision, name=f"q{i + 1}")
            for i in range(self.num_critics)
        ]
        return jnp.stack([critic(inputs) for critic in critics])


def policy_layers(policy: nn.Module, x: Array, rate: Array | None) -> Array:
    """A policy's hidden layers, with dropout; a rate of None leaves that out of the program."""

    def regularize(hidden: Array) -> Array:
        return hidden if rate is None else dropout(hidden, rate, policy.make_rng("dropout"))

    return hidden_layers(x, policy.hidden_dims, policy.precision, regularize=regularize)


class GaussianPolicy(nn.Module):
    """A diagonal Gaussian whose mean is squashed by tanh and whose log std is a free vector.

    The distribution itself is not squashed: samples may lie outside [-1, 1] and are clipped when
    acting. The standard deviation does not depend on the state.
    """

    hidden_dims: Sequence[int]
    action_dim: int
    precision: str = "float32"

    @nn.compact
    def __call__(self, observations: Array, dropout_rate: Array | None = None) -> Gaussian:
        """Maps observations [B, observation_dim] to means inside [-1, 1] and log stds.

        ``dropout_rate`` is a scalar that needs the rng 'dropout', or None.
        """
        hidden = policy_layers(self, observations, dropout_rate)
        means = jnp.tanh(dense(self.action_dim, "mean", self.precision)(hidden))
        log_stds = self.param("log_std", nn.initializers.zeros, (self.action_dim,))
        log_stds = jnp.clip(log_stds, LOG_STD_MIN, LOG_STD_MAX)
        return Gaussian(means, jnp.broadcast_to(log_stds, means.shape))


class CategoricalPolicy(nn.Module):
    """A categorical distribution over the actions of a discrete space, as one-hot vectors."""

    hidden_dims: Sequence[int]
    action_dim: int  # The number of actions.
    precision: str = "float32"

    @nn.compact
    def __call__(self, observations: Array, dropout_rate: Array | None = None) -> Categorical:
        """Maps observations [B, observation_dim] to logits [B, action_dim]."""
        hidden = policy_layers(self, observations, dropout_rate)
        return Categorical(dense(self.action_dim, "logits", self.precision)(hidden))
