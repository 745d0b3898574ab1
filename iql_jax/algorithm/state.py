"""The agent's state: one immutable pytree, and how it starts."""

import functools
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax.training import train_state

from iql_jax.algorithm import networks
from iql_jax.algorithm.config import AgentConfig
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


class Hyperparameters(flax.struct.PyTreeNode):
    """The numbers of ``AgentConfig`` that an update uses: float32 scalars, all traced.

    Changing one compiles nothing.
    """

    discount: Array
    expectile: Array
    temperature: Array
    max_weight: Array
    tau: Array
    actor_lr: Array
    value_lr: Array
    critic_lr: Array
    dropout_rate: Array
    alpha: Array
    actor_decay_steps: Array  # Updates over which actor_lr decays to 0 on a cosine; inf: never.


class IQLState(flax.struct.PyTreeNode):
    """Everything that an update reads and writes."""

    actor: TrainState
    critic: TrainState
    value: TrainState
    target_critic_params: Params
    key: jax.Array  # The only source of randomness in training.
    step: Array  # Updates so far, int32.
    hyperparameters: Hyperparameters
    # Static: another value is another program.
    use_dropout: bool = flax.struct.field(pytree_node=False)
    objective: str = flax.struct.field(pytree_node=False)
    actor_loss: str = flax.struct.field(pytree_node=False)
    max_actions: int = flax.struct.field(pytree_node=False)
    max_over: str = flax.struct.field(pytree_node=False)

    def v(self, observations: Array) -> jax.Array:
        """``V(s)``, [B]."""
        values: jax.Array = self.value.apply_fn(self.value.params, observations)
        return values

    def target_q(self, observations: Array, actions: Array) -> jax.Array:
        """``min_i Q'_i(s, a)``, the minimum over the target critics, [B]."""
        q_values = self.critic.apply_fn(self.target_critic_params, observations, actions)
        return jnp.min(q_values, axis=0)


def create_state(
    key: jax.Array,
    observation_dim: int,
    action_dim: int,
    config: AgentConfig,
    *,
    discrete_actions: bool = False,
) -> IQLState:
    """Returns the state before the first update.

    Args:
        key: A PRNG key; it seeds the networks and all later randomness. Consumed.
        observation_dim: Length of an observation.
        action_dim: Length of an action; the number of actions if they are discrete.
        config: Sizes, rates and losses. A cosine schedule ends after ``config.num_updates``.
        discrete_actions: Whether actions are one-hot vectors and the policy is categorical.
    """
    key, actor_key, critic_key, value_key = jax.random.split(key, 4)
    observations, actions = jnp.zeros((1, observation_dim)), jnp.zeros((1, action_dim))
    policy_network, critic_network, value_network = _networks(
        tuple(config.hidden_dims),
        action_dim,
        config.num_critics,
        config.layer_norm,
        discrete_actions,
        config.matmul_precision,
    )
    actor_params = _init(policy_network, actor_key, observations)
    critic_params = _init(critic_network, critic_key, observations, actions)
    value_params = _init(value_network, value_key, observations)
    decays = config.opt_decay_schedule == "cosine"
    numbers = {
        name: jnp.asarray(getattr(config, name), jnp.float32)
        for name in Hyperparameters.__dataclass_fields__
        if name != "actor_decay_steps"
    }
    return IQLState(
        actor=TrainState.create_adam(policy_network.apply, actor_params),
        critic=TrainState.create_adam(critic_network.apply, critic_params),
        value=TrainState.create_adam(value_network.apply, value_params),
        # A copy, so that the state can be donated: no two of its leaves share a buffer.
        target_critic_params=jax.tree.map(jnp.copy, critic_params),
        key=key,
        step=jnp.zeros((), jnp.int32),
        hyperparameters=Hyperparameters(
            **numbers,
            actor_decay_steps=jnp.asarray(config.num_updates if decays else jnp.inf, jnp.float32),
        ),
        use_dropout=config.dropout_rate > 0.0,
        objective=config.objective,
        actor_loss=config.actor_loss,
        max_actions=config.max_actions,
        max_over=config.max_over,
    )


def _init(network: nn.Module, key: jax.Array, *inputs: Array) -> Params:
    """Returns parameters, which are the same in every precision; float32 is on every device."""
    return network.clone(precision="float32").init(key, *inputs)


@functools.lru_cache
def _networks(
    hidden_dims: tuple[int, ...],
    action_dim: int,
    num_critics: int,
    layer_norm: bool,
    discrete_actions: bool,
    precision: str,
) -> tuple[nn.Module, networks.Critics, networks.ScalarMLP]:
    """Returns one instance of each network per structure, so that alike states share programs."""
    policy = networks.CategoricalPolicy if discrete_actions else networks.GaussianPolicy
    return (
        policy(hidden_dims, action_dim, precision),
        networks.Critics(hidden_dims, num_critics, layer_norm, precision),
        networks.ScalarMLP(hidden_dims, layer_norm, precision),
    )
