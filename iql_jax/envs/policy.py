"""A policy that acts in NumPy, in processes that must not import JAX."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from iql_jax.envs.description import Layout
from iql_jax.utils.arrays import Float32

_LOG_STD_RANGE = (-5.0, 2.0)


@dataclasses.dataclass(frozen=True, eq=False)
class NumpyPolicy:
    """A policy network with ReLU layers, in float32; made by ``from_layers``.

    Gaussian, with mean ``tanh(output)``, or categorical with the output as logits, and then actions
    are one-hot.
    """

    weights: tuple[Float32, ...]  # Of each layer, [out, in].
    biases: tuple[Float32, ...]  # Of each layer, [out].
    log_std: Float32 | None  # [action_dim], natural logarithms; None if categorical.

    @classmethod
    def from_layers(
        cls,
        layers: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]],
        log_std: npt.ArrayLike | None = None,
    ) -> "NumpyPolicy":
        """Makes a policy of Flax's kernels [in, out] and biases [out] of each layer."""
        return cls(
            weights=tuple(np.ascontiguousarray(np.transpose(k), np.float32) for k, _ in layers),
            biases=tuple(np.asarray(bias, np.float32) for _, bias in layers),
            log_std=None if log_std is None else np.asarray(log_std, np.float32),
        )

    def __call__(
        self, observations: Float32, generator: np.random.Generator | None = None
    ) -> Float32:
        """Returns the likeliest actions, or drawn ones where there is a generator.

        Maps [..., observation_dim] to [..., action_dim], clipped to [-1, 1] or one-hot; not finite
        where the network's output is not.
        """
        # One dot product an output: BLAS would spread a matrix product over threads, which costs
        # more than it saves here, and makes the last bits depend on their number.
        hidden = observations
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = np.maximum(np.vecdot(weight, hidden[..., None, :]) + bias, 0.0)
        output = np.asarray(np.vecdot(self.weights[-1], hidden[..., None, :]) + self.biases[-1])
        if self.log_std is not None:
            action = np.tanh(output)
            if generator is not None:
                std = np.exp(np.clip(self.log_std, *_LOG_STD_RANGE))
                action += std * generator.standard_normal(action.shape, np.float32)
            return np.clip(action, -1.0, 1.0)
        noise = 0.0 if generator is None else generator.gumbel(size=output.shape)
        action = np.eye(output.shape[-1], dtype=np.float32)[np.argmax(output + noise, axis=-1)]
        return np.where(np.isfinite(output).all(axis=-1, keepdims=True), action, np.nan)


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedPolicy:
    """A run's policy, from its environment's own observations to its own actions."""

    network: NumpyPolicy
    layout: Layout

    def __call__(self, observations: Any, generator: np.random.Generator | None = None) -> Any:
        """Acts on one observation or a batch of them: by its mean, or draws with a generator.

        A Dict observation is a dictionary, as the environment gives it.
        """
        laid_out = self.layout.policy_observations(observations)
        return self.layout.environment_actions(self.network(laid_out, generator))
