"""The IQL learner: one immutable state, and the update that carries it forward.

``update`` is the algorithm; ``update_n`` applies it many times to batches drawn on the device. Both
are pure, may be jitted, scanned and mapped, and know nothing of files, environments or logging.
"""

import functools
from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp

from iql_jax import networks
from iql_jax.train_state import TrainState
from iql_jax.types import Array, Metrics, Params, Transitions
from iql_jax.updates import update_actor, update_q, update_target, update_v


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


class IQLState(flax.struct.PyTreeNode):
    """Everything that an update reads and writes."""

    actor: TrainState
    critic: TrainState
    value: TrainState
    target_critic_params: Params
    key: jax.Array  # The one source of randomness of training.
    step: Array  # The update count, int32.
    hyperparameters: Hyperparameters
    use_dropout: bool = flax.struct.field(pytree_node=False)


def create_state(
    key: jax.Array,
    observation_dim: int,
    action_dim: int,
    *,
    hidden_dims: Sequence[int] = (256, 256),
    num_critics: int = 2,
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
) -> IQLState:
    """The state before the first update; the defaults are the paper's for locomotion.

    Args:
        key: A PRNG key; it seeds the networks and all later randomness. Consumed.
        observation_dim: Length of an observation.
        action_dim: Length of an action.
        hidden_dims: Widths of the hidden layers of all networks.
        num_critics: Size of the critic ensemble.
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
    """
    key, actor_key, critic_key, value_key = jax.random.split(key, 4)
    observations = jnp.zeros((1, observation_dim))
    actions = jnp.zeros((1, action_dim))
    policy_network, critic_network, value_network = _networks(
        tuple(hidden_dims), action_dim, num_critics
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
            **{
                name: jnp.asarray(number, jnp.float32)
                for name, number in {
                    "expectile": expectile,
                    "temperature": temperature,
                    "max_weight": max_weight,
                    "discount": discount,
                    "tau": tau,
                    "actor_lr": actor_lr,
                    "value_lr": value_lr,
                    "critic_lr": critic_lr,
                    "actor_decay_steps": (
                        float("inf") if actor_decay_steps is None else actor_decay_steps
                    ),
                    "dropout_rate": dropout_rate,
                }.items()
            }
        ),
        use_dropout=dropout_rate > 0.0,
    )


@functools.lru_cache
def _networks(
    hidden_dims: tuple[int, ...], action_dim: int, num_critics: int
) -> tuple[networks.GaussianPolicy, networks.Critics, networks.ScalarMLP]:
    """One instance of each network a structure, so that states of one structure share programs."""
    return (
        networks.GaussianPolicy(hidden_dims, action_dim),
        networks.Critics(hidden_dims, num_critics),
        networks.ScalarMLP(hidden_dims),
    )


def cosine_decay(learning_rate: Array, step: Array, decay_steps: Array) -> Array:
    """``learning_rate`` on a half cosine from its full size at step 0 to 0 at ``decay_steps``."""
    progress = jnp.minimum(step / decay_steps, 1.0)
    return learning_rate * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))


def target_q_values(state: IQLState, batch: Transitions) -> jax.Array:
    """The minimum over the target critics of Q'(s, a) for the data's actions, [B]."""
    q_values = state.critic.apply_fn(state.target_critic_params, batch.observations, batch.actions)
    return jnp.min(q_values, axis=0)


def update(state: IQLState, batch: Transitions) -> tuple[IQLState, Metrics]:
    """One update of V, actor, Q and target, in the official implementation's order.

    V moves first, towards the *target* critics. The actor's advantage and the critics' targets then
    use the *new* V; the advantage keeps the target critics. The target critics move last, towards
    the *new* critics.

    Args:
        state: The state before the update.
        batch: B transitions.

    Returns:
        The state after the update, and metrics: a flat dict of scalars, each a mean over the batch
        before the network it describes has moved.
    """
    hp = state.hyperparameters
    key, dropout_key = jax.random.split(state.key) if state.use_dropout else (state.key, None)

    target_q = target_q_values(state, batch)
    value, value_metrics = update_v(
        state.value, batch, target_q, expectile=hp.expectile, learning_rate=hp.value_lr
    )

    # One pass of the new V over both observations is faster than two.
    both = jnp.concatenate([batch.observations, batch.next_observations])
    values, next_values = jnp.split(value.apply_fn(value.params, both), 2)

    actor, actor_metrics = update_actor(
        state.actor,
        batch,
        target_q - values,
        temperature=hp.temperature,
        max_weight=hp.max_weight,
        learning_rate=cosine_decay(hp.actor_lr, state.step, hp.actor_decay_steps),
        dropout_rate=hp.dropout_rate if state.use_dropout else None,
        dropout_key=dropout_key,
    )
    critic, critic_metrics = update_q(
        state.critic, batch, next_values, discount=hp.discount, learning_rate=hp.critic_lr
    )
    target_critic_params = update_target(critic.params, state.target_critic_params, hp.tau)

    new_state = state.replace(
        actor=actor,
        critic=critic,
        value=value,
        target_critic_params=target_critic_params,
        key=key,
        step=state.step + 1,
    )
    return new_state, {**value_metrics, **actor_metrics, **critic_metrics}


def sample_batch(key: jax.Array, transitions: Transitions, batch_size: int) -> Transitions:
    """``batch_size`` transitions drawn uniformly with replacement. The key is consumed."""
    indices = jax.random.randint(key, (batch_size,), 0, transitions.size)
    return jax.tree.map(lambda x: x[indices], transitions)


_Carry = tuple[IQLState, tuple[jax.Array, Transitions], Metrics]


@functools.partial(jax.jit, static_argnames="batch_size", donate_argnames="state")
def update_n(
    state: IQLState, transitions: Transitions, num_updates: Array | int, *, batch_size: int
) -> tuple[IQLState, Metrics]:
    """Apply ``update`` ``num_updates`` times to batches drawn on the device, in one program.

    ``num_updates`` is traced. One program therefore serves intervals of every length, and the
    updates it makes are the same bits however a run is cut into intervals.

    Args:
        state: The state before; its buffers are donated and must not be used again.
        transitions: The dataset, on the device.
        num_updates: How often to update, at least 1.
        batch_size: Transitions in a batch.

    Returns:
        The state after, and each metric's mean over the updates.
    """

    def draw(state: IQLState) -> tuple[jax.Array, Transitions]:
        """The next batch, and the state's key after drawing it."""
        key, batch_key = jax.random.split(state.key)
        return key, sample_batch(batch_key, transitions, batch_size)

    def body(_: Array, carry: _Carry) -> _Carry:
        state, (key, batch), sums = carry
        state, metrics = update(state.replace(key=key), batch)
        # Drawn an update ahead: the draw does not wait for the update, so they run side by side.
        return state, draw(state), jax.tree.map(jnp.add, sums, metrics)

    drawn = draw(state)
    metric_shapes = jax.eval_shape(update, state, drawn[1])[1]
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metric_shapes)
    state, _, sums = jax.lax.fori_loop(0, num_updates, body, (state, drawn, zeros))
    return state, jax.tree.map(lambda x: x / num_updates, sums)
