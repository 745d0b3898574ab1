"""The online phase: environments step on the host while the device updates.

Two programs are queued on the device in turn: one that acts, one that stores transitions and
updates. Acting comes first, so that the host gets its actions and steps the environments while the
updates run; the device never waits for the host unless the environments are slower than it. The
price is that the policy acts one step late: it has learned from all transitions but those of the
last step of each environment.

With ``train_freq`` K, learning is asked for every K steps, with the updates of all of them. A call
of a program costs as much as a good part of an update on a CPU; the price is that the policy of
K steps has learned from all transitions but those of up to the last 2 K - 1.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from iql_jax.algorithm import replay_buffer
from iql_jax.algorithm.learner import IQLState, update
from iql_jax.algorithm.policy import sample_actions
from iql_jax.algorithm.replay_buffer import ReplayBuffer
from iql_jax.algorithm.train_state import TrainState
from iql_jax.algorithm.types import Array, Metrics, Transitions
from iql_jax.data.load import Dataset
from iql_jax.envs.rollout import Counters, Rollout
from iql_jax.outputs.transitions import TransitionLog
from iql_jax.training.compilation import compile_program
from iql_jax.training.config import FinetuneConfig
from iql_jax.training.phases import Extra, Phase, Stretch
from iql_jax.utils.console import logger
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import StopRequest
from iql_jax.utils.streams import Stream, stream_seed

Learn = Callable[
    [IQLState, ReplayBuffer, Transitions, Array, Metrics, Array],
    tuple[IQLState, ReplayBuffer, Metrics],
]
"""``learn``, compiled."""


@dataclasses.dataclass
class _Begun:
    """What there is from the phase's first step on."""

    learn: Learn
    no_sums: Metrics  # Zeros to begin with.
    buffer: ReplayBuffer
    actor: TrainState  # That acts until something is learned again.
    actions: jax.Array  # [num_envs, action_dim], for the next step.
    new: list[Transitions]  # Not learned from yet, those of fewer than ``train_freq`` steps.


class Online(Extra):
    """The phase that learns from environments, and what the loop keeps of it.

    Args:
        config: The settings.
        dataset: What the buffer begins with; says in which environment.
        folder: The run's folder.
        first_step: The run's step at which the phase begins.

    Raises:
        UserError: If the dataset names no environment, or one that cannot be built; if the
            settings do not go with its size.
    """

    def __init__(
        self, config: FinetuneConfig, dataset: Dataset, folder: Path, first_step: int
    ) -> None:
        self._config = config
        self._dataset = dataset
        self._first_step = first_step
        _check_capacity(config, dataset.size)
        self._log = TransitionLog(folder / "transitions")
        self._rows: list[tuple[str, int, Mapping[str, float | None]]] = []
        self._evaluations: list[float] = []  # 1 - success of each in this phase.
        self._act_key = jax.random.key(stream_seed(config.seed, Stream.ACTIONS))
        self._due = 0  # Updates that steps have asked for and that are not made yet.
        self._begun: _Begun | None = None
        self.interaction = Rollout(
            dataset.require_environment(), config.num_envs, config.seed, dataset.terminates
        )

    def __enter__(self) -> "Online":
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """Close the environments."""
        self.interaction.close(force=error is not None)

    def phase(self) -> Phase[IQLState]:
        """The phase; its steps are those of the environments."""
        return Phase(
            self._config.max_steps, self._advance, stride=self._config.num_envs, begin=self._begin
        )

    # As ``phases.Extra``.

    def save(self) -> dict[str, Any]:
        """Write the transitions since the last time; returns how far everything is."""
        return {
            "transitions": self._log.save(),
            "counters": dataclasses.asdict(self.interaction.counters),
            "evaluations": self._evaluations,
            "due": self._due,
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Begin where ``save`` returned this, with new episodes; empty for a new run."""
        self.interaction.counters = Counters(**saved.get("counters", {}))
        self._evaluations = list(saved.get("evaluations", []))
        self._due = saved.get("due", 0)
        self._log.restore(saved.get("transitions", 0))

    def rows(self) -> list[tuple[str, int, Mapping[str, float | None]]]:
        """A row of episodes.csv for each episode that ended since the last call."""
        rows, self._rows = self._rows, []
        return rows

    def columns(self, updates: float, steps: float) -> dict[str, float | None]:
        """The two rates; before the first environment step, batches are all of the dataset."""
        if self.interaction.counters.env_steps == 0:
            return {
                "offline_share": 1.0,
                "updates_per_second": updates,
                "env_steps_per_second": None,
            }
        return {"updates_per_second": updates, "env_steps_per_second": steps}

    def add_regret(self, row: dict[str, float | None]) -> dict[str, float | None]:
        """An evaluation's row with ``regret``: the mean of 1 - success over those of this phase.

        (That of episodes.csv is over training episodes, as CORL defines it.) None before the first
        environment step, and where no success is reported.
        """
        success = row["success_rate"]
        if success is None or self.interaction.counters.env_steps == 0:
            return {**row, "regret": None}
        self._evaluations.append(1.0 - success)
        return {**row, "regret": float(np.mean(self._evaluations))}

    # The phase itself.

    def _begin(self, state: IQLState) -> None:
        """Fill the buffer, compile, and begin episodes, so that rates exclude it."""
        started = time.perf_counter()
        if self.interaction.counters.env_steps:
            logger.info(
                f"dropping {self._config.num_envs} unfinished training episode(s); "
                "the transitions that they made are kept"
            )
        buffer = self._fill_buffer()
        batch_size, num_offline = self._config.batch_size, self._config.num_offline
        sums = no_sums(state, buffer, batch_size, num_offline)
        example = jax.tree.map(lambda x: x[:1], Transitions(**self._dataset.transitions))
        lowered = learn.lower(
            state,
            buffer,
            self._padded([example]),
            np.zeros((), np.int32),
            sums,
            np.zeros((), np.int32),
            batch_size=batch_size,
            num_offline=num_offline,
        )
        self.interaction.start()
        actor = self._actor_of(state)
        self._begun = _Begun(compile_program(lowered), sums, buffer, actor, self._act(actor), [])
        logger.info(
            f"{int(buffer.size):,} transitions in the replay buffer; compiled the online step; "
            f"{time.perf_counter() - started:.1f} s"
        )

    def _fill_buffer(self) -> ReplayBuffer:
        """The dataset, and all that the environments have made since."""
        buffer = replay_buffer.init(
            Transitions(**self._dataset.transitions),
            self._config.replay_buffer_size,
            keep_dataset=self._config.num_offline is not None,
        )
        for made in self._log.read():
            buffer = replay_buffer.extend(buffer, self._learnable(Transitions(**made)))
        return buffer

    def _advance(self, state: IQLState, num_steps: int, stop: StopRequest) -> Stretch[IQLState]:
        """Make environment steps, followed by their updates."""
        config, counters, begun = self._config, self.interaction.counters, self._begun
        assert begun is not None
        first, updates, failure = counters.env_steps, 0, None
        broken: Metrics = {}
        sums = jax.tree.map(jnp.zeros_like, begun.no_sums)
        while counters.env_steps - first < num_steps and stop.signum is None:
            actions = np.asarray(begun.actions)
            if not np.isfinite(actions).all():
                broken = {"actions": jnp.asarray(jnp.nan)}  # As a metric that the loop stops at.
                break
            try:
                made, ended = self.interaction.step(actions)
            except UserError as error:
                # A signal to the whole process group ends the workers first.
                failure = None if stop.signum is not None else error
                break
            self._log.append(made)
            step = self._first_step + counters.env_steps
            self._rows += [("episodes", step, row) for row in ended]
            begun.new.append(Transitions(**made))
            if counters.env_steps > config.start_steps:
                self._due += config.updates_per_step * config.num_envs
            # What is left over at the end of a stretch waits for the next one.
            if len(begun.new) < config.train_freq and counters.env_steps < config.max_steps:
                begun.actions = self._act(begun.actor)
                continue
            updates += self._due
            state, sums = self._learn(state, sums)
        metrics = jax.tree.map(lambda total: total / updates, sums) if updates else {}
        made_steps = counters.env_steps - first
        return Stretch(state, {**metrics, **broken}, made_steps, updates, failure)

    def _learn(self, state: IQLState, sums: Metrics) -> tuple[IQLState, Metrics]:
        """Ask for the next actions, then for the updates that are due."""
        begun = self._begun
        assert begun is not None
        begun.actor = self._actor_of(state)
        begun.actions = self._act(begun.actor)
        count = np.asarray(len(begun.new) * self._config.num_envs, np.int32)
        due = np.asarray(self._due, np.int32)
        state, begun.buffer, sums = begun.learn(
            state, begun.buffer, self._padded(begun.new), count, sums, due
        )
        begun.new, self._due = [], 0
        return state, sums

    def _actor_of(self, state: IQLState) -> TrainState:
        """The actor for the next steps; a copy if it has to outlive the state, which is donated."""
        return copy_actor(state.actor) if self._config.train_freq > 1 else state.actor

    def _act(self, actor: TrainState) -> jax.Array:
        step = np.asarray(self.interaction.counters.env_steps, np.int32)
        return act(actor, self._act_key, step, self.interaction.observations)

    def _padded(self, new: Sequence[Transitions]) -> Transitions:
        """Transitions to learn from, and zeros after them up to the most there can be."""
        most = self._config.train_freq * self._config.num_envs

        def pad(*parts: Array) -> Array:
            missing = most - sum(len(rows) for rows in parts)
            zeros = np.zeros((missing, *parts[0].shape[1:]), parts[0].dtype)
            return np.concatenate([*parts, zeros])

        return jax.tree.map(pad, *map(self._learnable, new))

    def _learnable(self, made: Transitions) -> Transitions:
        """Transitions with the reward transform that the dataset's had."""
        return made.replace(rewards=self._dataset.reward_transform(made.rewards))


@jax.jit
def copy_actor(actor: TrainState) -> TrainState:
    """A copy of what it takes to act, for states are donated."""
    return jax.tree.map(jnp.copy, actor.replace(opt_state=()))


@jax.jit
def act(actor: TrainState, key: jax.Array, step: Array, observations: Array) -> jax.Array:
    """Sampled actions [n, action_dim]; the key of a step is folded from the run's."""
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
    count: Array,
    sums: Metrics,
    num_updates: Array,
    *,
    batch_size: int,
    num_offline: int | None,
) -> tuple[IQLState, ReplayBuffer, Metrics]:
    """Store transitions, then update on batches drawn from the buffer, in one program.

    Args:
        state: The learner's state; donated, as are the next and the sums.
        buffer: The buffer.
        transitions: [n, ...].
        count: How many of them to store, the first ones, int32.
        sums: Of the metrics so far, see ``no_sums``.
        num_updates: How many updates, int32; may be 0.
        batch_size: Transitions in a batch.
        num_offline: How many of them are the dataset's; None draws uniformly.
    """
    buffer = replay_buffer.add(buffer, transitions, count)

    # A loop also for the one update that there usually is: where it is written out instead, XLA's
    # compiler for CPUs merges the store with what reads the batch, and then copies whole columns of
    # the buffer at each call, ten times slower.
    def body(_: Array, carry: tuple[IQLState, Metrics]) -> tuple[IQLState, Metrics]:
        state, sums = carry
        state, metrics = _update_once(state, buffer, batch_size, num_offline)
        return state, jax.tree.map(jnp.add, sums, metrics)

    state, sums = jax.lax.fori_loop(0, num_updates, body, (state, sums))
    return state, buffer, sums


def no_sums(
    state: IQLState, buffer: ReplayBuffer, batch_size: int, num_offline: int | None
) -> Metrics:
    """Zeros for ``learn`` to add to."""
    program = functools.partial(_update_once, batch_size=batch_size, num_offline=num_offline)
    shapes = jax.eval_shape(program, state, buffer)[1]
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def _update_once(
    state: IQLState, buffer: ReplayBuffer, batch_size: int, num_offline: int | None
) -> tuple[IQLState, Metrics]:
    """One update, with the share of its batch that is the dataset's among its metrics."""
    key, batch_key = jax.random.split(state.key)
    batch, offline_share = replay_buffer.sample(buffer, batch_key, batch_size, num_offline)
    state, metrics = update(state.replace(key=key), batch)
    return state, {**metrics, "offline_share": offline_share}


def _check_capacity(config: FinetuneConfig, num_dataset: int) -> None:
    at_once = config.train_freq * config.num_envs
    keeps = config.num_offline is not None
    needed = num_dataset + at_once if keeps else max(num_dataset, at_once)
    if config.replay_buffer_size < needed:
        raise UserError(
            f"config.replay_buffer_size is {config.replay_buffer_size:,}; the dataset's "
            f"{num_dataset:,} transitions, and the {at_once:,} that are stored at once, need "
            f"{needed:,}: raise it, or use fewer of the dataset's "
            "(--config.init_dataset_size)"
        )
