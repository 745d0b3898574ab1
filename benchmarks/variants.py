"""The update with one thing written otherwise: what ``throughput.py --variants`` times.

Each function changes modules of this process. The losses, and so what is learned, stay the same.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from iql_jax.algorithm import Array, Transitions, learner, networks

Product = Callable[[Array, Array], jax.Array]


def transposed(weights: bool, inputs: bool) -> Callable[[], None]:
    """Writes transposes of the factors of hidden layers' gradients before the products are made.

    XLA multiplies rows by columns fastest on some CPUs. ``weights``: in the gradient of the inputs;
    ``inputs``: in that of the weights.
    """

    def dot(a: Array, b: Array, axis_a: int, axis_b: int) -> jax.Array:
        dimensions = ((axis_a,), (axis_b,)), ((), ())
        return jax.lax.dot_general(a, b, dimensions, precision=jax.lax.Precision.HIGHEST)

    def written(x: Array) -> Any:
        return jax.lax.optimization_barrier(x.T)

    def backward(factors: tuple[Array, Array], grad: Array) -> tuple[jax.Array, jax.Array]:
        x, kernel = factors
        to_x = dot(grad, written(kernel), 1, 0) if weights else dot(grad, kernel, 1, 1)
        return to_x, dot(written(x), grad, 1, 0) if inputs else dot(x, grad, 0, 0)

    product = jax.custom_vjp(lambda x, kernel: dot(x, kernel, 1, 0))
    product.defvjp(lambda x, kernel: (product(x, kernel), (x, kernel)), backward)
    plain = networks.dense

    def dense(features: int, name: str, precision: str) -> Any:
        if not name.startswith("hidden"):
            return plain(features, name, precision)
        return nn.Dense(
            features,
            kernel_init=nn.initializers.orthogonal(2.0**0.5),
            dot_general=lambda x, kernel, *_, **__: product(x, kernel),
            name=name,
        )

    def change() -> None:
        vars(networks).update(dense=dense)

    return change


def packed_rows() -> None:
    """Draws batches as rows of one array, which ``pack`` makes."""

    def sample_batch(key: Any, data: Transitions, batch_size: int, rows: Any = None) -> Transitions:
        indices = jax.random.randint(key, (batch_size,), 0, data.size)
        parts = jnp.split(data.observations[indices], np.cumsum([29, 8, 1, 1]), axis=1)
        observations, actions, rewards, masks, after = parts
        return Transitions(observations, actions, rewards[:, 0], masks[:, 0], after)

    vars(learner).update(sample_batch=sample_batch)


def pack(data: Transitions) -> Transitions:
    """Returns transitions whose observations hold all their fields, [N, 68]."""
    fields = data.observations, data.actions, data.rewards, data.masks, data.next_observations
    columns = [x.reshape(len(x), -1) for x in fields]
    return data.replace(observations=np.concatenate(columns, axis=1))


def no_target_average() -> None:
    """Leaves out the target critics' average: more than one pass with Adam's could save."""
    vars(learner).update(update_target=lambda state: state)


PACKED = "batches as rows of one array"
VARIANTS: dict[str, Callable[[], None]] = {
    "transposed weights": transposed(weights=True, inputs=False),
    "transposed inputs": transposed(weights=False, inputs=True),
    "transposed weights and inputs": transposed(weights=True, inputs=True),
    PACKED: packed_rows,
    "without the target's average": no_target_average,
}
"""At AntMaze size."""

KITCHEN = {"kitchen size": 0.1, "kitchen size without dropout": 0.0}
"""The rate of dropout by name."""

KITCHEN_SIZES = 60, 9
"""Numbers of an observation and of an action."""
