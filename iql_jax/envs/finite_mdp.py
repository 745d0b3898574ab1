"""Finite Markov decision processes, solved exactly: the standard for learned values."""

import dataclasses

import numpy as np

from iql_jax.utils.arrays import Bool, Float64

_CONVERGED = 1e-12


@dataclasses.dataclass(frozen=True, eq=False)
class FiniteMDP:
    """S states and A actions, with rewards for entering states.

    Attributes:
        transitions: [S, A, S], the probability of each next state.
        rewards: [S], on entering a state.
        terminal: [S], whether the episode ends there; values of such states are 0.
    """

    transitions: Float64
    rewards: Float64
    terminal: Bool

    def optimal_q(self, discount: float) -> Float64:
        """Returns ``Q*`` [S, A] by value iteration."""
        values = np.zeros(len(self.terminal))
        while True:
            q_values = self.backup(values, discount)
            new = np.where(self.terminal, 0.0, q_values.max(axis=1))
            if np.abs(new - values).max() < _CONVERGED:
                return q_values
            values = new

    def backup(self, values: Float64, discount: float) -> Float64:
        """Returns ``E[r + discount * V(s')]`` [S, A] for values [S], 0 at terminal states."""
        return self.transitions @ (self.rewards + discount * values)

    def success_probability(self, policy: Float64, start: int, steps: int) -> float:
        """Returns how likely a policy [S, A] gets from ``start`` to a terminal state in time."""
        chain = np.einsum("sa,sat->st", policy, self.transitions)
        chain[self.terminal] = np.eye(len(chain))[self.terminal]  # There it stays.
        reached = np.linalg.matrix_power(chain, steps)[start]
        return float(reached[self.terminal].sum())


def greedy(q_values: Float64) -> Float64:
    """Returns the policy [S, A] of the best action in each state, the first where several are."""
    return np.eye(q_values.shape[1])[q_values.argmax(axis=1)]
