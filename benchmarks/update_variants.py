"""What each choice in the update is worth, and where its time goes, at AntMaze size.

    python benchmarks/update_variants.py --repeats=5 --out=update_variants.md

The update as it is, then with one thing done otherwise, then with parts left out, in one process,
all in turn in each repeat; medians over the repeats. Each is compared with the update as it is in
the same repeat, for a machine's speed drifts: told are the median of those ratios and their range.
The last rows bound what is possible: the update without Adam, and its matrix products alone, of the
same shapes, one after the other. What is left out makes no sense as learning, only as a share of
the time. Run it on a quiet machine.
"""

import functools
import re
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from tqdm import tqdm

import medians
import peers
import reports
from antmaze_size import device_name, made_up_transitions, new_state
from iql_jax import cli
from iql_jax.algorithm import networks
from iql_jax.algorithm.extractions import update_actor
from iql_jax.algorithm.learner import IQLState, cosine_decay, sample_batch, update, update_n
from iql_jax.algorithm.objectives import squared_errors
from iql_jax.algorithm.train_state import TrainState
from iql_jax.algorithm.types import Array, Metrics, Transitions
from iql_jax.algorithm.updates import update_q, update_target, update_v
from iql_jax.training.compilation import compile_program

_REPEATS = flags.DEFINE_integer("repeats", 5, "How often each takes its turn.", lower_bound=1)
_UPDATES = flags.DEFINE_integer("updates", 1_000, "Updates in a timing.", lower_bound=1)
_OUT = flags.DEFINE_string("out", "", "Markdown file to write the table to.")

Train = Callable[[int], None]
"""Makes a number of updates, and waits for them."""

Update = Callable[[IQLState, Transitions], tuple[IQLState, Metrics]]


def main(_: list[str]) -> None:
    """Time all variants in turn; print the table."""
    transitions = jax.device_put(made_up_transitions())
    as_it_is = new_state(0)
    variants: dict[str, Train] = {
        "as it is": trainer(update_n, as_it_is, transitions),
        "V of s and s' in two passes": trainer(
            looped(update_in_passes, ahead=True), as_it_is, transitions
        ),
        "the critics' products batched": trainer(update_n, with_stacked_critics(), transitions),
        "Adam on one flat vector a network": trainer(
            update_n, with_optimizer(optax.flatten(optax.scale_by_adam())), transitions
        ),
        "batches drawn between updates": trainer(
            looped(update, ahead=False), as_it_is, transitions
        ),
        "XLA's default vector width": trainer(
            update_n, as_it_is, transitions, jax.stages.Lowered.compile
        ),
        "without Adam": trainer(update_n, with_optimizer(optax.identity()), transitions),
        "its matrix products alone": products(as_it_is, transitions),
    }
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for train in variants.values():
        train(50)
    turns = [name for _ in range(_REPEATS.value) for name in variants]
    for name in tqdm(turns, unit="timing"):
        start = time.perf_counter()
        variants[name](_UPDATES.value)
        rates[name].append(_UPDATES.value / (time.perf_counter() - start))
    reports.publish(table(rates), _OUT.value)


def table(rates: dict[str, list[float]]) -> str:
    """Medians, in markdown."""
    rows = [
        [
            name,
            f"{statistics.median(each):,.0f}",
            f"{min(each):,.0f} to {max(each):,.0f}",
            f"{1e3 / statistics.median(each):.2f}",
            medians.ratio(each, rates["as it is"]),
        ]
        for name, each in rates.items()
    ]
    header = [device_name(), "updates/s", "low to high", "ms", "of the update as it is"]
    return (
        f"{reports.markdown(header, rows)}\n\njax {jax.__version__}, medians of {_REPEATS.value}.\n"
    )


def trainer(
    program: Any,
    state: IQLState,
    transitions: Transitions,
    compiler: Callable[[jax.stages.Lowered], jax.stages.Compiled] = compile_program,
) -> Train:
    """Compile ``update_n``, or what has its arguments, for a copy of a state."""
    state = jax.tree.map(jnp.copy, state)
    none = np.zeros((), np.int32)
    compiled = compiler(program.lower(state, transitions, none, batch_size=peers.BATCH))

    def train(count: int) -> None:
        nonlocal state
        state, metrics = compiled(state, transitions, np.asarray(count, np.int32))
        jax.block_until_ready((state, metrics))

    return train


def looped(one_update: Update, *, ahead: bool) -> Any:
    """``update_n`` of another update; or with each batch drawn when it is needed."""

    @functools.partial(jax.jit, static_argnames="batch_size", donate_argnames="state")
    def loop(
        state: IQLState, transitions: Transitions, num_updates: Array, *, batch_size: int
    ) -> tuple[IQLState, Metrics]:
        def draw(state: IQLState) -> tuple[jax.Array, Transitions]:
            key, batch_key = jax.random.split(state.key)
            return key, sample_batch(batch_key, transitions, batch_size)

        def body(_: Array, carry: Any) -> Any:
            state, drawn, sums = carry
            key, batch = drawn if ahead else draw(state)
            state, metrics = one_update(state.replace(key=key), batch)
            sums = jax.tree.map(jnp.add, sums, metrics)
            return state, draw(state) if ahead else None, sums

        drawn = draw(state)
        shapes = jax.eval_shape(one_update, state, drawn[1])[1]
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        carry = (state, drawn if ahead else None, zeros)
        state, _, sums = jax.lax.fori_loop(0, num_updates, body, carry)
        return state, sums

    return loop


def update_in_passes(state: IQLState, batch: Transitions) -> tuple[IQLState, Metrics]:
    """IQL's update with V after its step in a pass for each of s and s'."""
    hp = state.hyperparameters
    target_q = state.target_q(batch.observations, batch.actions)
    value, value_metrics = update_v(
        state.value, batch, target_q, expectile=hp.expectile, learning_rate=hp.value_lr
    )
    advantages = target_q - value.apply_fn(value.params, batch.observations)
    rate = cosine_decay(hp.actor_lr, state.step, hp.actor_decay_steps)
    actor, actor_metrics = update_actor(
        state, batch, advantages, learning_rate=rate, dropout_key=None
    )
    next_values = value.apply_fn(value.params, batch.next_observations)
    critic, critic_metrics = update_q(
        state.critic,
        batch,
        next_values,
        loss=functools.partial(squared_errors, hp, batch),
        discount=hp.discount,
        learning_rate=hp.critic_lr,
    )
    target = update_target(critic.params, state.target_critic_params, hp.tau)
    state = state.replace(
        actor=actor, critic=critic, value=value, target_critic_params=target, step=state.step + 1
    )
    return state, {**value_metrics, **actor_metrics, **critic_metrics}


def with_stacked_critics() -> IQLState:
    """A state whose two critics are one network with batched products."""
    state = new_state(0)
    one = networks.ScalarMLP((256, 256))
    members = [{"params": state.critic.params["params"][name]} for name in ("q1", "q2")]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)

    def apply(params: Any, observations: Array, actions: Array) -> jax.Array:
        inputs = jnp.concatenate([observations, actions], axis=-1)
        return jnp.asarray(jax.vmap(lambda member: one.apply(member, inputs))(params))

    return state.replace(
        critic=TrainState.create_adam(apply, stacked),
        target_critic_params=jax.tree.map(jnp.copy, stacked),
    )


def with_optimizer(optimizer: optax.GradientTransformation) -> IQLState:
    """A state whose networks learn by another optimizer."""
    state = new_state(0)

    def change(network: TrainState) -> TrainState:
        return network.replace(tx=optimizer, opt_state=optimizer.init(network.params))

    return state.replace(
        actor=change(state.actor), critic=change(state.critic), value=change(state.value)
    )


def products(state: IQLState, transitions: Transitions) -> Train:
    """The matrix products of an update, by their shapes in its program, and nothing else."""
    batch = jax.tree.map(lambda x: x[: peers.BATCH], transitions)
    text = jax.jit(update).lower(state, batch).as_text()
    shapes = re.findall(
        r"stablehlo\.dot_general .*?contracting_dims = \[(\d)\] x \[(\d)\].*?"
        r": \(tensor<(\d+)x(\d+)xf32>, tensor<(\d+)x(\d+)xf32>\)",
        text,
    )
    rng = np.random.default_rng(0)
    numbers = [tuple(map(int, shape)) for shape in shapes]
    operands = [
        tuple(jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((a, b), (c, d)))
        for _, _, a, b, c, d in numbers
    ]

    def body(_: Array, carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        one, operands = carry
        for (left_axis, right_axis, *_rest), (left, right) in zip(numbers, operands, strict=True):
            # Each waits for the one before; none may leave the loop.
            product = jax.lax.dot_general(
                left * one, right, (((left_axis,), (right_axis,)), ((), ()))
            )
            one = jnp.where(product[0, 0] == jnp.inf, 0.0, 1.0)
        return one, operands

    @jax.jit
    def loop(count: Array, operands: Any) -> jax.Array:
        one, _ = jax.lax.fori_loop(0, count, body, (jnp.ones(()), operands))
        return one

    compiled = compile_program(loop.lower(np.zeros((), np.int32), operands))

    def train(count: int) -> None:
        jax.block_until_ready(compiled(np.asarray(count, np.int32), operands))

    return train


if __name__ == "__main__":
    cli.run(main)
