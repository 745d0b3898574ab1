"""Other objectives and other losses of the actor: numbers of one update, from forward passes."""

import jax
import numpy as np
import pytest
from helpers import ACTION_DIM, assert_close, compiled_update, make_state, make_transitions

from iql_jax.algorithm import update


@jax.jit
def critic_loss_of(state, batch):
    """The critics' loss alone, which compiles quickly."""
    return update(state, batch)[1]["critic_loss"]


def q_of(state, params, observations, actions):
    return np.asarray(state.critic.apply_fn(params, observations, actions), np.float64)


def with_next_actions():
    """A batch of which rows 0 and 1 have no next action, and row 1 needs none."""
    batch = make_transitions()
    masks, has_next = batch.masks.copy(), np.ones_like(batch.masks)
    masks[:2], has_next[:2] = (1.0, 0.0), 0.0
    next_actions = np.random.default_rng(5).uniform(-1, 1, batch.actions.shape).astype(np.float32)
    return batch.replace(masks=masks, next_actions=next_actions, next_action_masks=has_next)


@pytest.mark.parametrize("objective", ["sarsa", "expectile_sarsa"])
def test_sarsa_learns_from_the_next_action_where_there_is_one(objective):
    state = make_state(objective=objective, expectile=0.8, discount=0.9)
    batch = with_next_actions()
    _, metrics = compiled_update(state, batch)
    target = state.target_critic_params
    next_q = q_of(state, target, batch.next_observations, batch.next_actions).min(axis=0)
    y = batch.rewards + 0.9 * batch.masks * next_q
    u = y - q_of(state, state.critic.params, batch.observations, batch.actions)
    weights = 1.0 if objective == "sarsa" else np.abs(0.8 - (u < 0))
    loss = np.sum(weights * u**2, axis=0)[1:].mean()  # Row 0 would need a next action.
    assert float(metrics["critic_loss"]) == pytest.approx(loss, rel=1e-5)
    # V regresses on Q': on the mean, or on the same expectile.
    values = np.asarray(state.v(batch.observations), np.float64)
    u = q_of(state, target, batch.observations, batch.actions).min(axis=0) - values
    weights = 0.5 if objective == "sarsa" else np.abs(0.8 - (u < 0))
    assert float(metrics["value_loss"]) == pytest.approx(np.mean(weights * u**2), rel=1e-5)


def test_sarsa_without_next_actions_is_an_error():
    with pytest.raises(ValueError, match="'sarsa' needs transitions with next actions"):
        update(make_state(objective="sarsa"), make_transitions())


def test_q_learning_takes_the_maximum_over_all_discrete_actions():
    state = make_state(objective="q_learning", discrete_actions=True, discount=0.9)
    one_hot = np.eye(ACTION_DIM, dtype=np.float32)
    batch = make_transitions().replace(actions=one_hot[np.arange(16) % ACTION_DIM])
    new_state, metrics = compiled_update(state, batch)
    target = state.target_critic_params

    def best(observations):
        every = (np.tile(action, (16, 1)) for action in one_hot)
        return np.max([q_of(state, target, observations, a).min(axis=0) for a in every], axis=0)

    y = batch.rewards + 0.9 * batch.masks * best(batch.next_observations)
    q_values = q_of(state, state.critic.params, batch.observations, batch.actions)
    loss = np.mean(np.sum((q_values - y) ** 2, axis=0))
    assert float(metrics["critic_loss"]) == pytest.approx(loss, rel=1e-5)
    # V regresses on the mean of the maxima at the present states; the actor's advantage is new.
    values = np.asarray(state.v(batch.observations), np.float64)
    loss = np.mean(0.5 * (best(batch.observations) - values) ** 2)
    assert float(metrics["value_loss"]) == pytest.approx(loss, rel=1e-5)
    target_q = q_of(state, target, batch.observations, batch.actions).min(axis=0)
    advantage = float(np.mean(target_q - new_state.v(batch.observations)))
    assert float(metrics["advantage"]) == pytest.approx(advantage, rel=1e-4)
    assert int(new_state.step) == 1


def test_q_learning_draws_continuous_actions():
    batch = make_transitions().replace(rewards=np.full(16, 100.0, np.float32))

    def loss(step=0, **settings):
        state = make_state(objective="q_learning", **settings)
        return float(critic_loss_of(state.replace(step=step), batch))

    one = loss(max_over="uniform", max_actions=1)
    assert one == loss(max_over="uniform", max_actions=1)
    assert one != loss(step=1, max_over="uniform", max_actions=1)  # Others in every update.
    # The targets are far above Q: a higher maximum is farther.
    assert one < loss(max_over="uniform", max_actions=100)


# The actor's losses.


def test_the_actors_losses_leave_v_and_q_as_they_are():
    batch = make_transitions()
    states = {
        name: compiled_update(make_state(actor_loss=name, temperature=0.0, alpha=0.4), batch)
        for name in ("awr", "ddpgbc", "bc")
    }
    (awr, _), (ddpgbc, metrics), (bc, _) = states.values()
    for state in (ddpgbc, bc):
        assert_close((state.value, state.critic), (awr.value, awr.critic))
    assert_close(bc.actor.params, awr.actor.params, atol=1e-7)  # AWR at temperature 0 clones.
    # DDPG+BC asks the target critics about the policy's mean.
    state = make_state()
    policy = state.actor.apply_fn(state.actor.params, batch.observations)
    q_values = q_of(state, state.target_critic_params, batch.observations, policy.means).min(axis=0)
    log_probs = np.asarray(policy.log_prob(batch.actions), np.float64)
    loss = -np.mean(q_values) / np.mean(np.abs(q_values)) - 0.4 * np.mean(log_probs)
    assert float(metrics["actor_loss"]) == pytest.approx(loss, rel=1e-4)
    assert float(metrics["policy_q"]) == pytest.approx(np.mean(q_values), rel=1e-4)
