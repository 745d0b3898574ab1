"""A population: the update of one learner, mapped over members.

Members are states of one structure, stacked leaf by leaf on a leading axis [N]. Their datasets lie
one after the other in common arrays, and each member draws from its own. No number of a member
depends on another's.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from iql_jax.algorithm import Array, IQLState, Metrics, Transitions, update_n

MEMBERS, REPLICATED = PartitionSpec("members"), PartitionSpec()


class Pool(flax.struct.PyTreeNode):
    """The data of a population: all transitions, and which of them each member learns from."""

    transitions: Transitions  # Of one dataset after the other.
    first: Array  # [N] int32, the row of a member's first transition.
    size: Array  # [N] int32, how many transitions it has.

    @classmethod
    def of(cls, datasets: Sequence[Mapping[str, npt.NDArray[Any]]]) -> "Pool":
        """Pools the members' transitions on the host; members may share a dataset."""
        distinct = {id(dataset): dataset for dataset in datasets}
        sizes = [len(dataset["rewards"]) for dataset in distinct.values()]
        first = dict(zip(distinct, np.cumsum([0, *sizes]), strict=False))
        fields = {name: [d[name] for d in distinct.values()] for name in datasets[0]}
        joined = {k: v[0] if len(v) == 1 else np.concatenate(v) for k, v in fields.items()}
        return cls(
            transitions=Transitions(**joined),
            first=np.array([first[id(dataset)] for dataset in datasets], np.int32),
            size=np.array([len(dataset["rewards"]) for dataset in datasets], np.int32),
        )


def stack(states: Sequence[IQLState]) -> IQLState:
    """Stacks states of one structure into a population on the host: NumPy arrays [N, ...].

    PRNG keys become their plain data, so that they are sharded and saved like other numbers.
    """
    bare = [state.replace(key=jax.random.key_data(state.key)) for state in states]
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *bare)


def maps_in_turn() -> bool:
    """Returns whether the program updates its members one after the other, or all at once.

    A CPU's caches hold the state of one member: one core updates 4 members of 256 x 256 units 117
    times a second in turn, and 109 under ``jax.vmap``. An accelerator is far from busy with one.
    """
    return jax.default_backend() == "cpu"


class Placement:
    """Where a population's N members are: spread evenly over the devices of a mesh.

    Where N is no multiple of the number of devices, copies of the last member fill the rest.
    """

    def __init__(self, num_members: int) -> None:
        devices = jax.devices()
        if jax.process_count() == 1:
            devices = devices[:num_members]
        self.num_members, self.mesh = num_members, Mesh(np.array(devices), tuple(MEMBERS))

    def spread(self, population: Any) -> Any:
        """Puts the members' arrays [N, ...], and copies of the last, on the devices."""
        rows = np.arange(-(-self.num_members // self.mesh.size) * self.mesh.size)
        rows = np.minimum(rows, self.num_members - 1)
        return jax.tree.map(lambda x: self._put(np.asarray(x)[rows], MEMBERS), population)

    def place(self, pool: Pool) -> Pool:
        """Puts a pool on the devices: all transitions on each."""
        transitions = jax.tree.map(lambda x: self._put(x, REPLICATED), pool.transitions)
        return Pool(transitions, first=self.spread(pool.first), size=self.spread(pool.size))

    def gather(self, tree: Any) -> Any:
        """Returns the members' arrays as NumPy arrays [N, ...], on every host."""
        host = multihost_utils.process_allgather(tree, tiled=True)
        return jax.tree.map(lambda x: x[: self.num_members], host)

    def member(self, population: IQLState, index: int) -> IQLState:
        """Returns one member of a gathered population, as a run on its own has it."""
        state = jax.tree.map(lambda x: x[index], population)
        return state.replace(key=jax.random.wrap_key_data(self._put(state.key, REPLICATED)))

    def _put(self, array: npt.NDArray[Any], spec: PartitionSpec) -> jax.Array:
        """Puts an array that every host has on the devices; each host fills its own."""
        sharding = NamedSharding(self.mesh, spec)
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
    """Makes ``num_updates`` (at least 1) of every member, on batches of its own, in one program.

    The population, which is donated, and the pool are spread over the mesh; ``in_turn`` is as in
    ``maps_in_turn``. Returns the members after, and each one's means of metrics.
    """

    def on_device(population: IQLState, pool: Pool, num_updates: Array) -> tuple[IQLState, Metrics]:
        def update_member(member: tuple[IQLState, Array, Array]) -> tuple[IQLState, Metrics]:
            state, *rows = member
            state = state.replace(key=jax.random.wrap_key_data(state.key))
            state, metrics = update_n(
                state, pool.transitions, num_updates, batch_size=batch_size, rows=tuple(rows)
            )
            return state.replace(key=jax.random.key_data(state.key)), metrics

        members = (population, pool.first, pool.size)
        return jax.lax.map(update_member, members) if in_turn else jax.vmap(update_member)(members)

    specs: Any = (REPLICATED, MEMBERS, MEMBERS)  # In place of the pool's arrays.
    mapped = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(MEMBERS, Pool(*specs), REPLICATED),
        out_specs=MEMBERS,
        check_vma=False,
    )
    return mapped(population, pool, jnp.asarray(num_updates))
