"""The online phase: environments step on the host while the device updates.

Two programs are queued on the device in turn: one that acts, one that stores transitions and
updates. Acting comes first, so that the host gets its actions and steps the environments while the
updates run. The price is that the policy acts one step late: it has learned from all transitions
but those of the last step of each environment.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from iql_jax.algorithm import (
    IQLState,
    Metrics,
    ReplayBuffer,
    TrainState,
    Transitions,
    replay_buffer,
    sample_actions,
    update,
)
from iql_jax.data.load import Dataset
from iql_jax.envs.rollout import Counters, Rollout
from iql_jax.outputs.transitions import FIELDS, TransitionLog
from iql_jax.training.compilation import compile_program
from iql_jax.training.config import FinetuneConfig
from iql_jax.utils.console import logger
from iql_jax.utils.errors import Diverged, UserError
from iql_jax.utils.streams import Stream, stream_seed

Fields = dict[str, Any]
"""Transitions as NumPy arrays, by the field names of ``Transitions``."""


class Online(contextlib.AbstractContextManager["Online"]):
    """Environments, their transitions, and the device's replay buffer; a context manager.

    The buffer starts with the dataset; the environments' transitions are kept in ``folder``.
    """

    def __init__(self, config: FinetuneConfig, dataset: Dataset, folder: Path) -> None:
        _check_capacity(config, dataset.size)
        self._config = config
        self._dataset = dataset
        self._log = TransitionLog(folder)
        self._act_key = jax.random.key(stream_seed(config.seed, Stream.ACTIONS))
        self._saved: Mapping[str, Any] = {}  # What the run resumes from.
        self._actions: Any = None  # The next ones; None before the start.
        self._failed = False  # An environment has.
        self._made: Fields = {}  # The transitions of the last step.
        environment = dataset.require_environment()
        self._rollout = Rollout(environment, config.num_envs, config.seed, dataset.terminates)

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._rollout.close()

    def save(self) -> dict[str, Any]:
        """Writes the transitions since the last time; returns all else that ``restore`` needs."""
        counters = dataclasses.asdict(self._rollout.counters)
        saved = {"transitions": self._log.save(), "counters": counters}
        if self._actions is not None:
            saved["under_way"] = {  # Numbers in float32 survive JSON to the bit.
                "updates": self._updates,
                "sums": {name: float(total) for name, total in self._sums.items()},
                "actions": np.asarray(self._actions).tolist(),
                "rollout": {} if self._failed else self._rollout.save(),
            }
        return saved

    def restore(self, saved: Mapping[str, Any] | None) -> None:
        """Continues where ``save`` returned this; None in a new run."""
        self._saved = saved or {}
        self._log.restore(self._saved.get("transitions", 0))
        self._rollout.counters = Counters(**self._saved.get("counters", {}))

    def drop_episodes(self) -> None:
        """Has a resumed run start new episodes, after an environment failed in those under way."""
        self._failed = True  # It might fail again where they are repeated.
        self._rollout.counters.episodes_started += self._config.num_envs

    def totals(self) -> dict[str, Any]:
        """Returns the counts for ``summary.json``."""
        counters = self._rollout.counters
        return {"env_steps": counters.env_steps, "episodes": counters.episodes_ended}

    def start(self, state: IQLState) -> None:
        """Fills the buffer, compiles, and starts or repeats episodes, so that rates exclude it."""
        started = time.perf_counter()
        config = self._config
        under_way = self._saved.get("under_way", {})
        rollout = under_way.get("rollout", {})
        steps = max([1, *rollout.get("lengths", [])])
        self._buffer, recent = self._filled_buffer(steps * config.num_envs)
        self._no_sums = no_sums(state, self._buffer, config.batch_size, config.num_offline)
        self._sums, self._updates = jax.tree.map(jnp.zeros_like, self._no_sums), 0
        example = jax.tree.map(lambda x: x[: config.num_envs], self._buffer.transitions)
        sizes = {"batch_size": config.batch_size, "num_offline": config.num_offline}
        lowered = learn.lower(state, self._buffer, example, self._no_sums, np.int32(0), **sizes)
        self._learn = compile_program(lowered)
        if under_way:
            self._updates = under_way["updates"]
            self._sums = {name: jnp.float32(total) for name, total in under_way["sums"].items()}
        goes_on = self._start_episodes(rollout, recent)
        self._actions = np.array(under_way["actions"], np.float32) if goes_on else self._act(state)
        logger.info(
            f"{int(self._buffer.size):,} transitions in the replay buffer; compiled the online "
            f"step; {time.perf_counter() - started:.1f} s"
        )

    def step(self) -> list[dict[str, Any]]:
        """Steps every environment once, with the actions that were asked for before.

        Returns a row of episodes.csv for each episode that ended.

        Raises:
            Diverged: If an action is not finite.
            UserError: If an environment fails; no transition of the step counts then.
        """
        actions = np.asarray(self._actions)  # Waits for the device.
        if not np.isfinite(actions).all():
            raise Diverged("actions not finite")
        self._made, episodes = self._rollout.step(actions)
        self._log.append(self._made)
        return episodes

    def learn(self, state: IQLState) -> IQLState:
        """Asks for the next actions, then for the updates that are due after a step."""
        self._actions = self._act(state)
        config, env_steps = self._config, self._rollout.counters.env_steps
        due = config.updates_per_step * config.num_envs if env_steps > config.start_steps else 0
        made = Transitions(**self._learnable(self._made))
        state, self._buffer, self._sums = self._learn(
            state, self._buffer, made, self._sums, np.int32(due)
        )
        self._updates += due
        return state

    def take_metrics(self, *, whole: bool = True) -> tuple[Metrics, int]:
        """Returns the metrics' means over a chunk's updates, and how many updates count now.

        Before the chunk is whole none do, and its sums go on: parts would be rounded differently.
        """
        updates, sums = self._updates, self._sums
        means = jax.tree.map(lambda total: total / updates, sums) if updates else {}
        if not whole:
            return means, 0
        self._updates, self._sums = 0, jax.tree.map(jnp.zeros_like, self._no_sums)
        return means, updates

    def _filled_buffer(self, num_recent: int) -> tuple[ReplayBuffer, Fields]:
        """Returns a buffer with the dataset and all transitions since, and the last of these."""
        buffer = replay_buffer.init(
            Transitions(**self._dataset.transitions),
            self._config.replay_buffer_size,
            keep_dataset=self._config.num_offline is not None,
        )
        recent = {name: self._dataset.transitions[name][:0] for name in FIELDS}
        for made in self._log.read():
            buffer = replay_buffer.extend(buffer, Transitions(**self._learnable(made)))
            recent = {k: np.concatenate([x, made[k]])[-num_recent:] for k, x in recent.items()}
        return buffer, recent

    def _start_episodes(self, saved: Mapping[str, Any], made: Fields) -> bool:
        """Repeats the episodes that were under way; returns whether all of them go on."""
        if saved:
            started = time.perf_counter()
            dropped = self._rollout.resume(saved, made)
            steps, seconds = sum(saved["lengths"]), time.perf_counter() - started
            logger.info(f"repeated {steps:,} steps of the episodes under way in {seconds:.1f} s")
        else:
            self._rollout.start()
            dropped = self._config.num_envs
        if dropped and self._rollout.counters.env_steps:
            reason = ": repeated, they came out differently" if saved else ""
            logger.info(
                f"dropping {dropped} unfinished training episode(s){reason}; the transitions that "
                "they made are kept"
            )
        return not dropped

    def _act(self, state: IQLState) -> jax.Array:
        step = np.int32(self._rollout.counters.env_steps)
        return act(state.actor, self._act_key, step, self._rollout.observations)

    def _learnable(self, made: Fields) -> Fields:
        """Returns transitions with the reward transform that the dataset's had."""
        return {**made, "rewards": self._dataset.reward_transform(made["rewards"])}


@jax.jit
def act(actor: TrainState, key: jax.Array, step: Any, observations: Any) -> jax.Array:
    """Returns sampled actions [n, action_dim]; the key of a step is folded from the run's."""
    return sample_actions(actor, jax.random.fold_in(key, step), observations)


@functools.partial(
    jax.jit,
    static_argnames=("batch_size", "num_offline"),
    donate_argnames=("state", "buffer", "sums"),
)
def learn(
    state: IQLState,
    buffer: ReplayBuffer,
    transitions: Transitions,
    sums: Metrics,
    num_updates: Any,
    *,
    batch_size: int,
    num_offline: int | None,
) -> tuple[IQLState, ReplayBuffer, Metrics]:
    """Stores transitions, then updates on batches of the buffer: one program.

    The state, the buffer and the sums of the metrics so far are donated. ``num_offline`` of a batch
    are the dataset's; None draws uniformly.
    """
    buffer = replay_buffer.add(buffer, transitions)

    # A loop also for the one update that there usually is: where it is written out instead, XLA's
    # compiler for CPUs merges the store with what reads the batch, and then copies whole columns of
    # the buffer at each call, ten times slower.
    def body(_: Any, carry: tuple[IQLState, Metrics]) -> tuple[IQLState, Metrics]:
        state, sums = carry
        state, metrics = _update_once(state, buffer, batch_size, num_offline)
        return state, jax.tree.map(jnp.add, sums, metrics)

    state, sums = jax.lax.fori_loop(0, num_updates, body, (state, sums))
    return state, buffer, sums


def no_sums(
    state: IQLState, buffer: ReplayBuffer, batch_size: int, num_offline: int | None
) -> Metrics:
    """Returns zeros for ``learn`` to add to."""
    program = functools.partial(_update_once, batch_size=batch_size, num_offline=num_offline)
    shapes = jax.eval_shape(program, state, buffer)[1]
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def _update_once(
    state: IQLState, buffer: ReplayBuffer, batch_size: int, num_offline: int | None
) -> tuple[IQLState, Metrics]:
    """Makes one update; its metrics include the share of its batch that is the dataset's."""
    key, batch_key = jax.random.split(state.key)
    batch, offline_share = replay_buffer.sample(buffer, batch_key, batch_size, num_offline)
    state, metrics = update(state.replace(key=key), batch)
    return state, {**metrics, "offline_share": offline_share}


def _check_capacity(config: FinetuneConfig, num_dataset: int) -> None:
    at_once = config.num_envs
    keeps = config.num_offline is not None
    needed = num_dataset + at_once if keeps else max(num_dataset, at_once)
    if config.replay_buffer_size < needed:
        raise UserError(
            f"config.replay_buffer_size is {config.replay_buffer_size:,}; the dataset's "
            f"{num_dataset:,} transitions, and the {at_once:,} that are stored at once, need "
            f"{needed:,}: raise it, or use fewer of the dataset's "
            "(--config.init_dataset_size)"
        )
