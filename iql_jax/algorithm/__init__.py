"""Implicit Q-Learning (Kostrikov et al. 2021) as pure functions on one immutable state.

    state = create_state(jax.random.key(0), observation_dim, action_dim, AgentConfig())
    state, metrics = update_n(state, transitions, 1_000, batch_size=256)
    actions = eval_actions(state.actor, observations)

``update`` is one step of the algorithm on a batch, ``update_n`` many steps on batches drawn on the
device; both may be jitted, scanned and mapped. ``losses`` has the equations, ``replay_buffer`` the
buffer of fine-tuning. Nothing here knows of files, environments or logging.
"""

from iql_jax.algorithm import losses, replay_buffer
from iql_jax.algorithm.config import AgentConfig, check_settings
from iql_jax.algorithm.learner import sample_batch, update, update_n
from iql_jax.algorithm.policy import eval_actions, sample_actions
from iql_jax.algorithm.replay_buffer import ReplayBuffer
from iql_jax.algorithm.state import Hyperparameters, IQLState, TrainState, create_state
from iql_jax.algorithm.types import NEEDS_NEXT_ACTIONS, Array, Metrics, Params, Transitions

__all__ = [
    "NEEDS_NEXT_ACTIONS",
    "AgentConfig",
    "Array",
    "Hyperparameters",
    "IQLState",
    "Metrics",
    "Params",
    "ReplayBuffer",
    "TrainState",
    "Transitions",
    "check_settings",
    "create_state",
    "eval_actions",
    "losses",
    "replay_buffer",
    "sample_actions",
    "sample_batch",
    "update",
    "update_n",
]
