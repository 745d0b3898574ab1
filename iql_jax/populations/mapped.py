"""A population: the very update of one learner, mapped over members.

Members are states of one structure that differ in their keys, parameters and hyperparameters. They
are stacked, leaf by leaf, on a leading axis [N], and share one program. Their datasets, one or
several, lie one after the other in common arrays, and each member draws from its own. No number of
a member depends on another's.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from iql_jax.algorithm import (
    Array,
    IQLState,
    Metrics,
    TrainState,
    Transitions,
    eval_actions,
    update_n,
)

AXIS = "members"

Tree = TypeVar("Tree")


class Pool(flax.struct.PyTreeNode):
    """The data of a population: all transitions, and which of them each member learns from."""

    transitions: Transitions  # Of one dataset after the other.
    first: Array  # [N] int32, the row of a member's first transition.
    size: Array  # [N] int32, how many transitions it has.

    @classmethod
    def of(cls, datasets: Sequence[Transitions]) -> "Pool":
        """A pool on the host for members with these datasets, of which many may be the same."""
        distinct = list({id(dataset): dataset for dataset in datasets}.values())
        ends = np.cumsum([dataset.size for dataset in distinct])
        first_of = {
            id(dataset): end - dataset.size for dataset, end in zip(distinct, ends, strict=True)
        }
        return cls(
            transitions=distinct[0]
            if len(distinct) == 1
            else jax.tree.map(lambda *fields: np.concatenate(fields), *distinct),
            first=np.array([first_of[id(dataset)] for dataset in datasets], np.int32),
            size=np.array([dataset.size for dataset in datasets], np.int32),
        )


def stack(states: Sequence[IQLState]) -> IQLState:
    """States of one structure as a population on the host.

    Its leaves are NumPy arrays [N, ...], with the PRNG keys as their plain data: so they can be
    padded, sharded, gathered and saved like any other numbers.
    """
    bare = [state.replace(key=jax.random.key_data(state.key)) for state in states]
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *bare)


def maps_in_turn() -> bool:
    """Whether members are updated one after the other within the program, or all at once.

    A CPU's caches hold the state of one member: on one core of an AMD EPYC with hidden layers
    256 x 256, members in turn make 123, 117 and 111 updates/s in all for 2, 4 and 8 of them, and
    under ``jax.vmap`` 112, 109 and 104. An accelerator is far from busy with one.
    """
    return jax.default_backend() == "cpu"


def map_members(function: Callable[..., Any], in_turn: bool) -> Callable[..., Any]:
    """``function`` over the leading axis of all its arguments."""
    if in_turn:
        return lambda *arguments: jax.lax.map(lambda one: function(*one), arguments)
    return jax.vmap(function)


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a population's members are: spread evenly over the devices of a mesh.

    Where their number is no multiple of the devices', copies of the last member fill the rest.

    Attributes:
        num_members: N, without the copies.
        mesh: Of one axis.
    """

    num_members: int
    mesh: Mesh

    @classmethod
    def of(cls, num_members: int) -> "Placement":
        """Over all devices; where there is one host, over no more of them than members."""
        devices = jax.devices()
        if jax.process_count() == 1:
            devices = devices[:num_members]
        return cls(num_members, Mesh(np.array(devices), (AXIS,)))

    def spread(self, population: Tree) -> Tree:
        """What the members have on the host [N, ...], on the devices [N and copies, ...]."""
        sharding = NamedSharding(self.mesh, PartitionSpec(AXIS))
        rows = np.arange(-(-self.num_members // self.mesh.size) * self.mesh.size)
        rows = np.minimum(rows, self.num_members - 1)
        return jax.tree.map(lambda x: _put(np.asarray(x)[rows], sharding), population)

    def place(self, pool: Pool) -> Pool:
        """A pool on the devices: all transitions on each."""
        sharding = NamedSharding(self.mesh, PartitionSpec())
        return Pool(
            transitions=jax.tree.map(lambda x: _put(np.asarray(x), sharding), pool.transitions),
            first=self.spread(pool.first),
            size=self.spread(pool.size),
        )

    def gather(self, tree: Any) -> Any:
        """What belongs to the members, [N, ...], as NumPy arrays on every host."""
        whole = NamedSharding(self.mesh, PartitionSpec())
        if jax.process_count() > 1:
            tree = jax.jit(_same, out_shardings=whole)(tree)
        return jax.tree.map(lambda x: np.asarray(x)[: self.num_members], tree)

    def member(self, population: IQLState, index: int) -> IQLState:
        """One member of a population on the host, as a learner of its own has it."""
        state = jax.tree.map(lambda x: x[index], population)
        whole = NamedSharding(self.mesh, PartitionSpec())
        return state.replace(key=jax.random.wrap_key_data(_put(np.asarray(state.key), whole)))


def _same(tree: Tree) -> Tree:
    """What gathering computes; one function, so that JAX compiles it once."""
    return tree


def _put(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """Put an array that every host has onto devices, of which each host fills its own."""
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


@functools.partial(
    jax.jit, static_argnames=("batch_size", "mesh", "in_turn"), donate_argnames="population"
)
def update_population_n(
    population: IQLState,
    pool: Pool,
    num_updates: Array | int,
    *,
    batch_size: int,
    mesh: Mesh,
    in_turn: bool,
) -> tuple[IQLState, Metrics]:
    """``update_n`` for every member, each on batches of its own, in one program.

    Args:
        population: The members, spread over the mesh; donated.
        pool: Their data, placed likewise.
        num_updates: How often to update each member, at least 1; traced.
        batch_size: Transitions in a batch.
        mesh: The devices.
        in_turn: Whether a device updates its members one after the other; see ``maps_in_turn``.

    Returns:
        The members after, and the mean of each metric over the updates, [N and copies].
    """

    def on_device(population: IQLState, pool: Pool, num_updates: Array) -> tuple[IQLState, Metrics]:
        def update_member(state: IQLState, *rows: Array) -> tuple[IQLState, Metrics]:
            state = state.replace(key=jax.random.wrap_key_data(state.key))
            state, metrics = update_n(
                state, pool.transitions, num_updates, batch_size=batch_size, rows=rows
            )
            return state.replace(key=jax.random.key_data(state.key)), metrics

        return map_members(update_member, in_turn)(population, pool.first, pool.size)

    members, same = PartitionSpec(AXIS), PartitionSpec()
    pool_specs: dict[str, Any] = {"transitions": same, "first": members, "size": members}
    mapped = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(members, Pool(**pool_specs), same),
        out_specs=members,
        check_vma=False,
    )
    return mapped(population, pool, jnp.asarray(num_updates))


@functools.partial(jax.jit, static_argnames="in_turn")
def eval_population_actions(actors: TrainState, observations: Array, *, in_turn: bool) -> jax.Array:
    """Every member's mean actions for observations of its own.

    Args:
        actors: The members' actors, leaves [N, ...].
        observations: [N, B, observation_dim].
        in_turn: See ``maps_in_turn``.

    Returns:
        [N, B, action_dim].
    """
    return map_members(eval_actions, in_turn)(actors, observations)
