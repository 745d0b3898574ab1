"""The learner's state: one immutable pytree, and its beginning."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from iql_jax.algorithm import networks
from iql_jax.algorithm.train_state import TrainState
from iql_jax.algorithm.types import Array, Params


class Hyperparameters(flax.struct.PyTreeNode):
    """The numbers of the algorithm, all traced: none of them compiles anything anew.

    Every leaf is a float32 scalar. Names follow the official implementation.
    """

    expectile: Array  # The paper's tau, in (0, 1).
    temperature: Array  # The paper's beta: multiplies the advantage.
    max_weight: Array  # Clip of the advantage weights.
    discount: Array
    tau: Array  # Share of the new critics in the target critics.
    actor_lr: Array
    value_lr: Array
    critic_lr: Array
    actor_decay_steps: Array  # Updates over which actor_lr goes to 0 on a cosine; inf: constant.
    dropout_rate: Array  # Unused unless the state uses dropout.
    # The weight of staying with the data; None unless the extraction is 'ddpgbc'.
    alpha: Array | None = None


class IQLState(flax.struct.PyTreeNode):
    """Everything that an update reads and writes."""

    actor: TrainState
    critic: TrainState
    value: TrainState
    target_critic_params: Params
    key: jax.Array  # The one source of randomness of training.
    step: Array  # The update count, int32.
    hyperparameters: Hyperparameters
    # What makes another program when it changes.
    use_dropout: bool = flax.struct.field(pytree_node=False)
    objective: str = flax.struct.field(pytree_node=False, default="iql")
    actor_loss: str = flax.struct.field(pytree_node=False, default="awr")
    max_actions: int = flax.struct.field(pytree_node=False, default=10)
    max_over: str = flax.struct.field(pytree_node=False, default="policy")

    def target_q(self, observations: Array, actions: Array) -> jax.Array:
        """``min_i Q'_i(s, a)``, the minimum over the target critics, [B]."""
        q_values = self.critic.apply_fn(self.target_critic_params, observations, actions)
        return jnp.min(q_values, axis=0)


def create_state(
    key: jax.Array,
    observation_dim: int,
    action_dim: int,
    *,
    hidden_dims: Sequence[int] = (256, 256),
    num_critics: int = 2,
    layer_norm: bool = False,
    expectile: float = 0.7,
    temperature: float = 3.0,
    max_weight: float = 100.0,
    discount: float = 0.99,
    tau: float = 0.005,
    actor_lr: float = 3e-4,
    value_lr: float = 3e-4,
    critic_lr: float = 3e-4,
    actor_decay_steps: float | None = 1_000_000,
    dropout_rate: float = 0.0,
    discrete_actions: bool = False,
    objective: str = "iql",
    actor_loss: str = "awr",
    max_actions: int = 10,
    max_over: str = "policy",
    alpha: float = 0.3,
) -> IQLState:
    """The state before the first update; the defaults are the paper's for locomotion.

    Args:
        key: A PRNG key; it seeds the networks and all later randomness. Consumed.
        observation_dim: Length of an observation.
        action_dim: Length of an action; the number of actions where they are discrete.
        hidden_dims: Widths of the hidden layers of all networks.
        num_critics: Size of the critic ensemble.
        layer_norm: Whether V and the critics normalise their layers; see ``networks.ScalarMLP``.
        expectile: In (0, 1); towards 1, V approaches the best action in the data.
        temperature: Multiplies the advantage in the actor's weights; 0 clones behaviour.
        max_weight: Upper clip of the actor's weights.
        discount: In [0, 1].
        tau: Share of the new critics in the target critics at each update, in (0, 1].
        actor_lr: Learning rate of the actor, at the start of its schedule.
        value_lr: Learning rate of V.
        critic_lr: Learning rate of the critics.
        actor_decay_steps: Updates over which ``actor_lr`` decays to 0 on a cosine; None keeps it.
        dropout_rate: Of the actor's hidden units, in [0, 1); 0 leaves dropout out of the program.
        discrete_actions: Whether actions are one-hot vectors, and the policy categorical.
        objective: How V and Q learn: a key of ``objectives.OBJECTIVES``.
        actor_loss: How the policy learns from them: a key of ``extractions.EXTRACTIONS``.
        max_actions: Of 'q_learning': over how many actions it takes the maximum, if not discrete.
        max_over: Of 'q_learning': what they are drawn from, 'policy' or 'uniform'.
        alpha: Of 'ddpgbc': the weight of staying with the data.
    """
    key, actor_key, critic_key, value_key = jax.random.split(key, 4)
    observations = jnp.zeros((1, observation_dim))
    actions = jnp.zeros((1, action_dim))
    policy_network, critic_network, value_network = _networks(
        tuple(hidden_dims), action_dim, num_critics, layer_norm, discrete_actions
    )
    critic_params = critic_network.init(critic_key, observations, actions)

    return IQLState(
        actor=TrainState.create_adam(
            policy_network.apply, policy_network.init(actor_key, observations)
        ),
        critic=TrainState.create_adam(critic_network.apply, critic_params),
        value=TrainState.create_adam(
            value_network.apply, value_network.init(value_key, observations)
        ),
        # A copy, so that the state can be donated: no two of its leaves share a buffer.
        target_critic_params=jax.tree.map(jnp.copy, critic_params),
        key=key,
        step=jnp.zeros((), jnp.int32),
        hyperparameters=Hyperparameters(
            expectile=_scalar(expectile),
            temperature=_scalar(temperature),
            max_weight=_scalar(max_weight),
            discount=_scalar(discount),
            tau=_scalar(tau),
            actor_lr=_scalar(actor_lr),
            value_lr=_scalar(value_lr),
            critic_lr=_scalar(critic_lr),
            actor_decay_steps=_scalar(jnp.inf if actor_decay_steps is None else actor_decay_steps),
            dropout_rate=_scalar(dropout_rate),
            alpha=_scalar(alpha) if actor_loss == "ddpgbc" else None,
        ),
        use_dropout=dropout_rate > 0.0,
        objective=objective,
        actor_loss=actor_loss,
        max_actions=max_actions,
        max_over=max_over,
    )


def _scalar(number: float) -> jax.Array:
    return jnp.asarray(number, jnp.float32)


@functools.lru_cache
def _networks(
    hidden_dims: tuple[int, ...],
    action_dim: int,
    num_critics: int,
    layer_norm: bool,
    discrete_actions: bool,
) -> tuple[nn.Module, networks.Critics, networks.ScalarMLP]:
    """One instance of each network a structure, so that states of one structure share programs."""
    policy = networks.CategoricalPolicy if discrete_actions else networks.GaussianPolicy
    return (
        policy(hidden_dims, action_dim),
        networks.Critics(hidden_dims, num_critics, layer_norm),
        networks.ScalarMLP(hidden_dims, layer_norm),
    )
