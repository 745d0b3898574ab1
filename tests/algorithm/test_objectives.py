"""The other objectives and extractions: every expected number comes from forward passes alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ACTION_DIM, make_state, make_transitions

from iql_jax.algorithm import losses
from iql_jax.algorithm.distributions import Categorical, Gaussian
from iql_jax.algorithm.learner import create_state, update, update_n
from iql_jax.algorithm.policy import eval_actions
from iql_jax.algorithm.types import Transitions
from iql_jax.data.actions import next_action_fields

# Losses.


def test_expectile_critic_loss_by_hand():
    q_values, targets = jnp.array([[1.0, 2.0], [3.0, 0.0]]), jnp.array([2.0, 1.0])
    # u = [[1, -1], [-1, 1]], weighted 0.9 above and 0.1 below, summed over the critics.
    loss = losses.expectile_critic_loss(q_values, targets, 0.9)
    np.testing.assert_allclose(loss, [0.9 + 0.1, 0.1 + 0.9], rtol=1e-6)
    np.testing.assert_allclose(
        losses.expectile_critic_loss(q_values, targets, 0.5),
        0.5 * losses.critic_loss(q_values, targets),
    )
    gradients = jax.grad(
        lambda q, y: jnp.sum(losses.expectile_critic_loss(q, y, 0.9)), argnums=(0, 1)
    )(q_values, targets)
    np.testing.assert_allclose(gradients[0], [[-1.8, 0.2], [0.2, -1.8]], rtol=1e-5)
    np.testing.assert_array_equal(gradients[1], [0.0, 0.0])


def test_ddpgbc_loss_by_hand():
    q_values, log_probs = jnp.array([1.0, -3.0]), jnp.array([-2.0, -4.0])
    loss = losses.ddpgbc_loss(q_values, log_probs, 0.5)
    np.testing.assert_allclose(loss, [-0.5 + 1.0, 1.5 + 2.0], rtol=1e-5)
    # The scale, mean|Q| = 2, has no gradient.
    gradient = jax.grad(lambda q: jnp.sum(losses.ddpgbc_loss(q, log_probs, 0.5)))(q_values)
    np.testing.assert_allclose(gradient, [-0.5, -0.5], rtol=1e-5)


def test_masked_mean():
    values = jnp.array([1.0, 10.0, 3.0])
    assert losses.masked_mean(values, jnp.array([1.0, 0.0, 1.0])) == 2.0
    assert losses.masked_mean(values, jnp.zeros(3)) == 0.0


# Distributions.


def test_a_categorical_distribution():
    logits = jnp.log(jnp.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]]))
    policy = Categorical(logits)
    actions = jnp.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(policy.log_prob(actions), np.log([0.3, 0.6]), rtol=1e-5)
    np.testing.assert_array_equal(policy.mode(), [[0, 1, 0], [1, 0, 0]])
    keys = jax.random.split(jax.random.key(0), 4_000)
    samples = np.asarray(jax.vmap(policy.sample)(keys))
    assert set(np.unique(samples)) == {0.0, 1.0}
    np.testing.assert_allclose(samples.mean(axis=0), np.exp(logits), atol=0.03)
    worth = jnp.array([10.0, 20.0, 30.0])
    expected = policy.expected_q(lambda a: a @ worth)
    np.testing.assert_allclose(expected, [2 + 10 + 9, 6 + 6 + 3], rtol=1e-5)
    candidates = policy.candidates(jax.random.key(0), 7, "policy")
    np.testing.assert_array_equal(candidates, np.repeat(np.eye(3)[:, None], 2, axis=1))
    entropy = -np.mean([sum(p * np.log(p) for p in row) for row in np.exp(logits)])
    assert float(policy.describe()["policy_entropy"]) == pytest.approx(entropy, rel=1e-5)


def test_candidates_of_a_gaussian_come_from_where_they_are_said_to():
    policy = Gaussian(jnp.full((5, 2), 0.5), jnp.full((5, 2), -3.0))
    near = np.asarray(policy.candidates(jax.random.key(0), 200, "policy"))
    far = np.asarray(policy.candidates(jax.random.key(0), 200, "uniform"))
    assert near.shape == far.shape == (200, 5, 2)
    assert np.abs(near - 0.5).max() < 5 * np.exp(-3)
    assert np.abs(far).max() <= 1.0
    assert far.min() < -0.98
    assert abs(far.mean()) < 0.05


# Objectives: the numbers of one update.


def with_next_actions():
    """A batch of which rows 0 and 1 have no next action, and row 1 needs none."""
    batch = make_transitions()
    rng = np.random.default_rng(5)
    masks = batch.masks.copy()
    masks[:2] = 1.0, 0.0
    has_next = np.ones_like(masks)
    has_next[:2] = 0.0
    following = rng.uniform(-1, 1, batch.actions.shape).astype(np.float32)
    return batch.replace(masks=masks, next_actions=following, next_action_masks=has_next)


def q_of(state, params, observations, actions):
    return np.asarray(state.critic.apply_fn(params, observations, actions), np.float64)


@pytest.mark.parametrize("objective", ["sarsa", "expectile_sarsa"])
def test_sarsa_learns_from_the_next_action_where_there_is_one(objective):
    state = make_state(objective=objective, expectile=0.8, discount=0.9)
    batch = with_next_actions()
    _, metrics = jax.jit(update)(state, batch)
    target = state.target_critic_params
    next_q = q_of(state, target, batch.next_observations, batch.next_actions).min(axis=0)
    y = batch.rewards + 0.9 * batch.masks * next_q
    u = y - q_of(state, state.critic.params, batch.observations, batch.actions)
    weights = 1.0 if objective == "sarsa" else np.abs(0.8 - (u < 0))
    loss = np.sum(weights * u**2, axis=0)[1:].mean()  # Row 0 would need a next action.
    assert float(metrics["critic_loss"]) == pytest.approx(loss, rel=1e-5)
    # V regresses on Q': on the mean, or on the same expectile.
    values = np.asarray(state.value.apply_fn(state.value.params, batch.observations), np.float64)
    u = q_of(state, target, batch.observations, batch.actions).min(axis=0) - values
    weights = 0.5 if objective == "sarsa" else np.abs(0.8 - (u < 0))
    assert float(metrics["value_loss"]) == pytest.approx(np.mean(weights * u**2), rel=1e-5)


def test_sarsa_without_next_actions_is_an_error():
    with pytest.raises(ValueError, match="needs transitions with next actions"):
        update(make_state(objective="sarsa"), make_transitions())


def test_q_learning_takes_the_maximum_over_all_discrete_actions():
    state = make_state(objective="q_learning", discrete_actions=True, discount=0.9)
    batch = make_transitions()
    batch = batch.replace(actions=np.eye(ACTION_DIM, dtype=np.float32)[np.arange(16) % ACTION_DIM])
    _, metrics = jax.jit(update)(state, batch)
    every = [np.tile(row, (16, 1)).astype(np.float32) for row in np.eye(ACTION_DIM)]

    def best(observations):
        target = state.target_critic_params
        return np.max([q_of(state, target, observations, a).min(0) for a in every], axis=0)

    y = batch.rewards + 0.9 * batch.masks * best(batch.next_observations)
    q_values = q_of(state, state.critic.params, batch.observations, batch.actions)
    loss = np.mean(np.sum((q_values - y) ** 2, axis=0))
    assert float(metrics["critic_loss"]) == pytest.approx(loss, rel=1e-5)
    # V regresses on the mean of the maxima at the present states.
    values = np.asarray(state.value.apply_fn(state.value.params, batch.observations), np.float64)
    loss = np.mean(0.5 * (best(batch.observations) - values) ** 2)
    assert float(metrics["value_loss"]) == pytest.approx(loss, rel=1e-5)


def test_a_maximum_over_more_continuous_actions_is_higher():
    losses_by_count = []
    for max_actions in (1, 100):
        state = make_state(objective="q_learning", max_actions=max_actions, max_over="uniform")
        batch = make_transitions().replace(rewards=np.full(16, 100.0, np.float32))
        losses_by_count.append(float(jax.jit(update)(state, batch)[1]["critic_loss"]))
    assert losses_by_count[1] > losses_by_count[0]  # Targets far above Q: the higher the farther.


def q_learning_loss(step=0, **settings):
    """The critics' loss in an update of the same networks."""
    state = make_state(objective="q_learning", **settings).replace(step=step)
    return float(jax.jit(update)(state, make_transitions())[1]["critic_loss"])


def test_q_learning_draws_other_actions_in_each_update():
    one, again, other = (
        q_learning_loss(step, max_over="uniform", max_actions=1) for step in (0, 0, 1)
    )
    assert one == again != other


def test_q_learning_draws_from_the_policy_or_uniformly():
    assert q_learning_loss(max_over="policy") != q_learning_loss(max_over="uniform")


# Extractions.


def test_extractions_leave_v_and_q_as_they_are():
    states = [
        jax.jit(update)(make_state(actor_loss=name), make_transitions())[0]
        for name in ("awr", "ddpgbc", "bc")
    ]
    for state in states[1:]:
        for network in ("critic", "value"):
            jax.tree.map(
                np.testing.assert_array_equal,
                getattr(states[0], network).params,
                getattr(state, network).params,
            )
        assert not np.array_equal(
            states[0].actor.params["params"]["mean"]["kernel"],
            state.actor.params["params"]["mean"]["kernel"],
        )


def test_bc_is_awr_at_temperature_0():
    cloned, _ = jax.jit(update)(make_state(actor_loss="bc"), make_transitions())
    weighted, _ = jax.jit(update)(make_state(temperature=0.0), make_transitions())
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-7),
        cloned.actor.params,
        weighted.actor.params,
    )


def test_ddpgbc_asks_the_target_critics_about_the_policys_mean():
    state = make_state(actor_loss="ddpgbc", alpha=0.4)
    batch = make_transitions()
    _, metrics = jax.jit(update)(state, batch)
    policy = state.actor.apply_fn(state.actor.params, batch.observations)
    q_values = q_of(state, state.target_critic_params, batch.observations, policy.means).min(0)
    log_probs = np.asarray(policy.log_prob(batch.actions), np.float64)
    loss = -np.mean(q_values) / np.mean(np.abs(q_values)) - 0.4 * np.mean(log_probs)
    assert float(metrics["actor_loss"]) == pytest.approx(loss, rel=1e-4)
    assert float(metrics["policy_q"]) == pytest.approx(np.mean(q_values), rel=1e-4)


@pytest.mark.parametrize("actor_loss", ["awr", "ddpgbc"])
def test_a_discrete_bandit_is_solved(actor_loss):
    """Action 1 of 3 pays 1; the data hold it a tenth of the time."""
    choices = np.array([0] * 5 + [1] + [2] * 4)
    bandit = Transitions(
        observations=np.ones((10, 1), np.float32),
        actions=np.eye(3, dtype=np.float32)[choices],
        rewards=(choices == 1).astype(np.float32),
        masks=np.zeros(10, np.float32),
        next_observations=np.ones((10, 1), np.float32),
    )
    state = create_state(
        jax.random.key(0), 1, 3, hidden_dims=(16,), discrete_actions=True, actor_loss=actor_loss,
        expectile=0.5, temperature=10.0, alpha=0.05, tau=0.05, actor_lr=3e-3, value_lr=3e-3,
        critic_lr=3e-3,
    )  # fmt: skip
    state, _ = update_n(state, jax.device_put(bandit), 1_500, batch_size=64)
    one = np.ones((1, 1), np.float32)
    np.testing.assert_array_equal(eval_actions(state.actor, one), [[0, 1, 0]])
    values = state.value.apply_fn(state.value.params, one)
    assert float(values[0]) == pytest.approx(0.1, abs=0.03)


# Next actions of a dataset.


def test_next_actions_stay_in_their_episode():
    actions = np.arange(12, dtype=np.float32).reshape(6, 2)
    found = next_action_fields(actions, np.array([3, 1, 2]))
    expected = [[2, 3], [4, 5], [0, 0], [0, 0], [10, 11], [0, 0]]
    np.testing.assert_array_equal(found["next_actions"], expected)
    np.testing.assert_array_equal(found["next_action_masks"], [1, 1, 0, 0, 1, 0])
