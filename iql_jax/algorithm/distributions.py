"""The policy's distribution over actions: Gaussian or, in discrete spaces, categorical.

Both have the same methods, so no caller asks which one it has. An action is a vector throughout; in
a discrete space it is the one-hot vector of the choice.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from iql_jax.algorithm.types import Array, Metrics


class Gaussian(NamedTuple):
    """A diagonal Gaussian over continuous actions.

    It is not squashed: samples may lie outside [-1, 1] and are clipped for acting.
    """

    means: Array  # [B, action_dim]
    log_stds: Array  # [B, action_dim], natural logarithms

    def log_prob(self, actions: Array) -> jax.Array:
        """Log density of actions [B, action_dim] in nats, [B]."""
        chex.assert_equal_shape([self.means, self.log_stds, actions])
        standardized = (actions - self.means) * jnp.exp(-self.log_stds)
        per_dimension = -0.5 * (jnp.square(standardized) + jnp.log(2.0 * jnp.pi)) - self.log_stds
        return jnp.sum(per_dimension, axis=-1)

    def mode(self) -> jax.Array:
        """The most likely actions, clipped to [-1, 1], [B, action_dim]."""
        return jnp.clip(self.means, -1.0, 1.0)

    def sample(self, key: jax.Array) -> jax.Array:
        """Sampled actions, clipped to [-1, 1], [B, action_dim]. Consumes the key."""
        noise = jax.random.normal(key, self.means.shape, self.means.dtype)
        return jnp.clip(self.means + jnp.exp(self.log_stds) * noise, -1.0, 1.0)

    def expected_q(self, q_function: Callable[[Array], jax.Array]) -> jax.Array:
        """``Q(s, pi(s))`` at the mode, [B], differentiable in the policy."""
        return q_function(self.mode())

    def candidates(self, key: jax.Array, count: int, source: str) -> jax.Array:
        """Actions to take a maximum over, [count, B, action_dim]. Consumes the key.

        The source 'policy' draws them from this distribution, 'uniform' from the whole space.
        """
        if source == "policy":
            return jax.vmap(self.sample)(jax.random.split(key, count))
        return jax.random.uniform(key, (count, *self.means.shape), minval=-1.0, maxval=1.0)

    def metrics(self) -> Metrics:
        """The mean standard deviation."""
        return {"policy_std": jnp.mean(jnp.exp(self.log_stds))}


class Categorical(NamedTuple):
    """A distribution over the n actions of a discrete space, which are one-hot vectors."""

    logits: Array  # [B, n]

    def log_prob(self, actions: Array) -> jax.Array:
        """Log probability of one-hot actions [B, n] in nats, [B]."""
        chex.assert_equal_shape([self.logits, actions])
        return jnp.sum(jax.nn.log_softmax(self.logits) * actions, axis=-1)

    def mode(self) -> jax.Array:
        """The most likely actions, one-hot, [B, n]."""
        return self._one_hot(jnp.argmax(self.logits, axis=-1))

    def sample(self, key: jax.Array) -> jax.Array:
        """Sampled actions, one-hot, [B, n]. Consumes the key."""
        return self._one_hot(jax.random.categorical(key, self.logits))

    def expected_q(self, q_function: Callable[[Array], jax.Array]) -> jax.Array:
        """The exact mean of Q(s, a) over the policy's actions, [B]."""
        probabilities = jax.nn.softmax(self.logits)
        return jnp.sum(probabilities.T * jax.vmap(q_function)(self._all()), axis=0)

    def candidates(self, key: jax.Array, count: int, source: str) -> jax.Array:
        """All n actions, [n, B, n], whatever the arguments: the maximum over them is exact."""
        del key, count, source
        return self._all()

    def metrics(self) -> Metrics:
        """The mean entropy in nats."""
        log_probs = jax.nn.log_softmax(self.logits)
        return {"policy_entropy": -jnp.mean(jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1))}

    def _one_hot(self, choices: Array) -> jax.Array:
        return jax.nn.one_hot(choices, self.logits.shape[-1], dtype=self.logits.dtype)

    def _all(self) -> jax.Array:
        batch_size, n = self.logits.shape
        every = jnp.eye(n, dtype=self.logits.dtype)
        return jnp.broadcast_to(every[:, None], (n, batch_size, n))
