"""Many environments in few processes, behind Gymnasium's vector API.

``AsyncVectorEnv`` keeps one process, and pays one exchange over a pipe per step, for each of its
environments. A step of a MuJoCo maze costs no more than such an exchange, so it is no faster than
stepping one environment after the other. Here a worker process holds a *shard*: several
environments that it steps in turn, presented to ``AsyncVectorEnv`` as one environment. A vector
step then costs one exchange per processor core, and the time goes into physics.

A shard never ends by itself: which of its environments ended is part of what it observes, so the
autoreset mode is DISABLED, and no step is spent on an environment without an episode.

Nothing here imports JAX: worker processes import this module.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from iql_jax.utils.errors import UserError
from iql_jax.utils.processes import start_method

MakeEnv = Callable[[], gym.Env]
Record = dict[str, npt.NDArray[Any]]
"""What a step brought, by name, one row an environment:

- ``observations`` [n, observation_dim] float32; rows of idle environments stay as they were
- ``rewards`` [n] float64
- ``ended`` [n] bool: the episode was terminated or truncated at this step
- ``terminated`` [n] bool: it was terminated, whether or not it was truncated as well
- ``successes`` [n] int8: ``info['success']``, or -1 where the environment does not report it
"""

NO_SUCCESS_REPORTED = -1


class ShardedEnvironments:
    """A fixed number of environments that run assigned episodes; the others are idle."""

    def __init__(
        self,
        make_env: MakeEnv | Sequence[MakeEnv],
        num_envs: int,
        processes: int,
        purpose: str = "evaluation",
    ) -> None:
        """Start the worker processes; with one process, everything stays in this one.

        Args:
            make_env: builds an environment with Box observations [observation_dim] and Box actions
                [action_dim]; must be picklable. Or [num_envs] that build one each, of the same
                sizes.
            num_envs: how many environments to hold at most.
            processes: how many processes to spread them over at most.
            purpose: what the episodes are for, in messages.

        Raises:
            UserError: if an environment does not build, or has other spaces.
        """
        if num_envs < 1 or processes < 1:
            raise ValueError(f"need an environment and a process, not {num_envs} and {processes}")
        size = -(-num_envs // processes)
        shards = -(-num_envs // size)
        makes = [make_env] * num_envs if callable(make_env) else list(make_env)
        # Of shard k are the environments k, k + shards, ...: see the slots below.
        factories = [
            functools.partial(Shard, makes[k::shards], size, k * size, os.getpid(), purpose)
            for k in range(shards)
        ]
        self.num_envs = num_envs
        # Environment i is row i % shards, i // shards of the vector environment: few environments
        # then share the cores evenly. Rows beyond num_envs are never used.
        grid = np.arange(shards * size).reshape(shards, size)
        self._slots = grid.T.ravel()[:num_envs]
        self._vector = _build_vector(factories)
        space: Any = self._vector.single_observation_space
        self._observation_dim: int = space["observations"].shape[1]
        self.action_dim: int = (self._vector.single_action_space.shape or ())[1]
        self._actions = np.zeros((shards * size, self.action_dim), np.float32)

    @property
    def closed(self) -> bool:
        """Whether the environments are gone."""
        return self._vector.closed

    def start(self, assignments: Mapping[int, tuple[int, int]]) -> npt.NDArray[np.float32]:
        """Begin episodes in some environments; the others go on or stay idle.

        Args:
            assignments: environment -> (episode, seed of its reset).

        Returns:
            The observations of all environments [num_envs, observation_dim].

        Raises:
            UserError: if an environment fails.
        """
        episodes = {int(self._slots[i]): episode for i, episode in assignments.items()}
        with _process_errors():
            record, infos = self._vector.reset(options={"episodes": episodes})
        _raise_reported(infos)
        return self._rows(record["observations"])

    def step(self, actions: npt.NDArray[np.float32]) -> Record:
        """Step every environment that is in an episode.

        Args:
            actions: [num_envs, action_dim].

        Raises:
            UserError: if an environment fails.
        """
        self._actions[self._slots] = actions
        shape = (self._vector.num_envs, -1, self.action_dim)
        with _process_errors():
            record, _, _, _, infos = self._vector.step(self._actions.reshape(shape))
        _raise_reported(infos)
        rows = {name: self._rows(values) for name, values in record.items()}
        for name in ("ended", "terminated"):
            rows[name] = rows[name].astype(np.bool_)
        return rows

    def close(self, force: bool = False) -> None:
        """End the worker processes; may be called again.

        Args:
            force: do not wait for what they are doing.
        """
        if self.closed:
            return
        if not force:
            # A worker that died cannot answer; the others are then ended below.
            with contextlib.suppress(EOFError, OSError):
                self._vector.close()
                return
        if isinstance(self._vector, AsyncVectorEnv):
            _end_processes(self._vector)
        else:
            self._vector.close()

    def _rows(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A copy, [num_envs, ...], of what the shards wrote, [shards, size, ...]."""
        return values.reshape(-1, *values.shape[2:])[self._slots]


class Shard(gym.Env[Record, npt.NDArray[Any]]):
    """Several environments, stepped one after the other, as one Gymnasium environment.

    Its observation is the ``Record`` of its environments. An error of one of them is reported as
    ``info['error']``, one line: raised, it would be logged with its traceback by ``AsyncVectorEnv``
    and need an exception that can be pickled.
    """

    def __init__(
        self,
        make_envs: Sequence[MakeEnv],
        size: int,
        first_slot: int,
        owner: int,
        purpose: str,
    ) -> None:
        """Build the first environment; the others are built when they get an episode.

        Args:
            make_envs: what builds each.
            size: how many there are room for, at least as many.
            first_slot: the number of the first of them among all shards' environments.
            owner: the process that shall receive the keyboard's interrupt.
            purpose: what the episodes are for, in messages.

        Raises:
            UserError: if the environment's spaces are not Boxes of one dimension.
        """
        if os.getpid() != owner:
            # Ctrl-C reaches the whole process group; the owner decides and closes the workers.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._make_envs = make_envs
        self._purpose = purpose
        self._envs: list[gym.Env | None] = [make_envs[0]()] + [None] * (size - 1)
        self._first_slot = first_slot
        self._episodes: list[int | None] = [None] * size
        self._steps = [0] * size
        observation_dim, action_dim = _dimensions(self._envs[0])
        spaces: Any = gym.spaces.Dict(
            observations=gym.spaces.Box(-np.inf, np.inf, (size, observation_dim), np.float32),
            rewards=gym.spaces.Box(-np.inf, np.inf, (size,), np.float64),
            ended=gym.spaces.Box(0, 1, (size,), np.int8),
            terminated=gym.spaces.Box(0, 1, (size,), np.int8),
            successes=gym.spaces.Box(NO_SUCCESS_REPORTED, 1, (size,), np.int8),
        )
        self.observation_space = spaces
        self.action_space = gym.spaces.Box(-np.inf, np.inf, (size, action_dim), np.float32)
        self._record: Record = {
            name: np.zeros(space.shape, space.dtype) for name, space in spaces.items()
        }

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Record, dict[str, Any]]:
        """Begin the episodes that fall to this shard.

        Args:
            seed: not used; each episode has its own.
            options: 'episodes' is a mapping slot -> (episode, seed).
        """
        assignments: Mapping[int, tuple[int, int]] = (options or {})["episodes"]
        for i in range(len(self._envs)):
            if self._first_slot + i in assignments:
                episode, episode_seed = assignments[self._first_slot + i]
                self._episodes[i], self._steps[i] = episode, 0
                try:
                    self._record["observations"][i] = self._env(i).reset(seed=episode_seed)[0]
                except Exception as error:
                    return self._record, {"error": self._describe(i, error)}
        return self._record, {}

    def step(self, action: npt.NDArray[Any]) -> tuple[Record, float, bool, bool, dict[str, Any]]:
        """Step each environment that is in an episode; ``action`` is [size, action_dim]."""
        record = self._record
        for i, episode in enumerate(self._episodes):
            if episode is None:
                continue
            self._steps[i] += 1
            try:
                observation, reward, terminated, truncated, info = self._env(i).step(action[i])
                record["observations"][i] = observation
                record["rewards"][i] = reward
                record["successes"][i] = int(info.get("success", NO_SUCCESS_REPORTED))
            except Exception as error:
                return record, 0.0, False, False, {"error": self._describe(i, error)}
            record["ended"][i] = terminated or truncated
            record["terminated"][i] = terminated
            if terminated or truncated:
                self._episodes[i] = None
        return record, 0.0, False, False, {}

    def close(self) -> None:
        """Close the environments that were built."""
        for env in self._envs:
            if env is not None:
                env.close()

    def _env(self, i: int) -> gym.Env:
        env = self._envs[i]
        if env is None:
            env = self._envs[i] = self._make_envs[i]()
        return env

    def _describe(self, i: int, error: Exception) -> str:
        """One line on an environment's error."""
        message = " ".join(str(error).split())
        if isinstance(error, UserError):
            return message
        where = f"at step {self._steps[i]}" if self._steps[i] else "at its reset"
        return (
            f"the environment failed in {self._purpose} episode {self._episodes[i]} {where}: "
            f"{type(error).__name__}: {message}"
        )


def _dimensions(env: gym.Env | None) -> tuple[int, int]:
    """The lengths of an environment's observations and actions."""
    spaces = [] if env is None else [env.observation_space, env.action_space]
    shapes = [space.shape if isinstance(space, gym.spaces.Box) else None for space in spaces]
    dims = [shape[0] for shape in shapes if shape is not None and len(shape) == 1]
    if len(dims) != 2:
        raise UserError(
            "the environment must have vectors as observations and actions, not "
            + " and ".join(map(str, spaces))
        )
    return dims[0], dims[1]


def _build_vector(factories: list[functools.partial[Shard]]) -> AsyncVectorEnv | SyncVectorEnv:
    if len(factories) == 1:
        return SyncVectorEnv(factories, copy=False, autoreset_mode=AutoresetMode.DISABLED)
    before = set(multiprocessing.active_children())
    try:
        with _process_errors(), _main_module_hidden():
            return AsyncVectorEnv(
                factories,
                shared_memory=True,
                copy=False,
                context=start_method(),
                autoreset_mode=AutoresetMode.DISABLED,
            )
    except BaseException:
        # Interrupted or failed halfway: no object is left that could end what was started.
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
            process.join()
        raise


def _end_processes(vector: AsyncVectorEnv) -> None:
    """End the workers whatever state they are in, which ``AsyncVectorEnv.close`` cannot."""
    for process in vector.processes:
        process.terminate()
    for process in vector.processes:
        process.join()
    for pipe in vector.parent_pipes:
        if pipe is not None:
            pipe.close()
    vector.closed = True


@contextlib.contextmanager
def _main_module_hidden() -> Iterator[None]:
    """Keep processes that are started from importing the entry point's module.

    multiprocessing has each of them import it, for functions defined there. An entry point imports
    JAX: seconds and 150 MB a process, for nothing, since Gymnasium pickles such functions by value.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _process_errors() -> Iterator[None]:
    """Turn a worker's sudden death into a ``UserError``."""
    try:
        yield
    except (EOFError, ConnectionError) as error:
        raise UserError(
            "an environment's process ended without a word (killed, or out of memory?); "
            "try fewer environments at once (eval_envs, num_envs)"
        ) from error


def _raise_reported(infos: Mapping[str, Any]) -> None:
    for message in infos.get("error", ()):
        if message is not None:
            raise UserError(message)
