"""A network, its optimizer's state, and one step of Adam."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.training import train_state

from iql_jax.algorithm.types import Array, Params

# One instance for all states: to JAX another instance is another optimizer, and recompiles.
_ADAM = optax.scale_by_adam()


class TrainState(train_state.TrainState):
    """Flax's ``TrainState`` whose learning rate is an argument of the step, not of the optimizer.

    As an argument the rate may be any traced number: scheduled, different in each member of a
    population, or changed between calls without recompiling.
    """

    @classmethod
    def create_adam(cls, apply_fn: Any, params: Params) -> "TrainState":
        """Returns a state at the start of Adam with b1 0.9, b2 0.999 and eps 1e-8."""
        state = cls.create(apply_fn=apply_fn, params=params, tx=_ADAM)
        # Flax starts with a Python int, which would recompile when it becomes an array.
        return state.replace(step=jnp.zeros((), jnp.int32))

    def apply_gradients(  # type: ignore[override]  # The rate is required here.
        self, *, grads: Params, learning_rate: Array | float
    ) -> "TrainState":
        """One Adam step down ``grads``, a pytree like ``params``."""
        directions, opt_state = self.tx.update(grads, self.opt_state, self.params)
        params = jax.tree.map(lambda p, d: p - learning_rate * d, self.params, directions)
        return self.replace(step=self.step + 1, params=params, opt_state=opt_state)
