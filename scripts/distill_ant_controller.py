"""Distills the trained ant controller into a small one, which is the one that is packaged.

Run it as ``python scripts/distill_ant_controller.py --teacher FILE --out FILE [--seed S]``, with
the controller that ``train_ant_controller.py`` leaves; some minutes on one core. It is DAgger (Ross
et al. 2011): the student walks, the teacher says what it would have done, and the student learns
from all of that.

The student walks as well as its teacher but reacts less sharply, for it is small. A policy has to
learn that reaction from the data: cloned from the same number of steps of travel, what is left of
the error beyond the action noise is half of the teacher's.
"""

import argparse
import functools
import pathlib
from typing import IO, Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

from iql_jax.generation.ant_controller import (
    ACTION_DIM,
    FEATURE_DIM,
    AntController,
    ant_actions,
    canonical_features,
)
from iql_jax.generation.antmaze import ACTION_NOISE, TASKS
from iql_jax.generation.ants import Ants

WIDTH = 64
MAZES = ("medium-play", "large-play")
ANTS = 24  # In each maze.
ROUNDS = 40
STEPS = 120  # Of each ant in a round.
EPISODE_STEPS = 300
TEACHER_ROUNDS = 6  # In which the teacher acts now and then, half as often each time.
BATCH_SIZE = 512
FIRST_UPDATES, UPDATES_PER_SAMPLE = 2_000, 0.02  # Of a round.

Layers = list[tuple[jax.Array, jax.Array]]
Array = npt.NDArray[np.float32]


class Walkers:
    """Ants in one maze that begin anew when they have stood at their goals, or walked for long."""

    def __init__(self, task: str, seed: int) -> None:
        self.ants = Ants(TASKS[task], ANTS)
        self._generator = np.random.default_rng(seed)
        self._ages = np.zeros(ANTS, np.int64)
        for i in range(ANTS):
            self._reset(i)

    def step(self, actions: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Step under action noise; returns speeds along the way (m/s) and who lies, both [ANTS]."""
        directions, before = self.ants.directions(), self.ants.states[:, :2].copy()
        noise = self._generator.normal(scale=ACTION_NOISE, size=(ANTS, ACTION_DIM))
        self.ants.step(np.clip(actions + noise, -1.0, 1.0).astype(np.float32))
        speeds = np.sum((self.ants.states[:, :2] - before) * directions, axis=1) / 0.05
        self._ages += 1
        leave = self.ants.at_goal() & (self._generator.random(ANTS) < 0.05)
        for i in np.flatnonzero(leave | (self._ages > EPISODE_STEPS)):
            self._reset(int(i))
        return speeds.astype(np.float32), self.ants.upright() < 0.0

    def _reset(self, i: int) -> None:
        self._ages[i] = 0
        self.ants.reset(i, int(self._generator.integers(2**31)))


def student_actions(layers: Layers, features: Any) -> jax.Array:
    """Canonical actions [B, 8] for features [B, FEATURE_DIM], as ``AntController`` has them."""
    hidden = features
    for weight, bias in layers[:-1]:
        hidden = jax.nn.relu(hidden @ weight + bias)
    return jnp.tanh(hidden @ layers[-1][0] + layers[-1][1])


def make_student(seed: int) -> Layers:
    """Layers of an untrained student."""
    widths = (FEATURE_DIM, WIDTH, WIDTH, ACTION_DIM)
    keys = jax.random.split(jax.random.key(seed), len(widths) - 1)
    orthogonal = jax.nn.initializers.orthogonal()
    return [
        (orthogonal(key, (fan_in, fan_out)), jnp.zeros(fan_out))
        for key, fan_in, fan_out in zip(keys, widths[:-1], widths[1:], strict=True)
    ]


@functools.partial(jax.jit, static_argnames="optimizer")
def fit(
    layers: Layers,
    optimizer_state: optax.OptState,
    data: tuple[Array, Array],
    count: Any,
    num_updates: Any,
    key: jax.Array,
    *,
    optimizer: optax.GradientTransformation,
) -> tuple[Layers, optax.OptState]:
    """Regress the student on the first ``count`` rows of features and teacher's actions."""

    def body(i: Any, carry: tuple[Layers, optax.OptState]) -> tuple[Layers, optax.OptState]:
        layers, optimizer_state = carry
        rows = jax.random.randint(jax.random.fold_in(key, i), (BATCH_SIZE,), 0, count)
        features, actions = (jnp.asarray(array)[rows] for array in data)

        def loss(layers: Layers) -> jax.Array:
            return jnp.mean(jnp.square(student_actions(layers, features) - actions))

        updates, optimizer_state = optimizer.update(jax.grad(loss)(layers), optimizer_state, layers)
        return optax.apply_updates(layers, updates), optimizer_state

    return jax.lax.fori_loop(0, num_updates, body, (layers, optimizer_state))


def distil(teacher: AntController, seed: int) -> AntController:
    """Teach a student; prints a line for each round."""
    generator = np.random.default_rng(seed)
    mazes = [Walkers(task, seed + i) for i, task in enumerate(MAZES)]
    per_round = STEPS * ANTS * len(MAZES)
    features = np.zeros((ROUNDS * per_round, FEATURE_DIM), np.float32)
    wanted = np.zeros((ROUNDS * per_round, ACTION_DIM), np.float32)
    layers = make_student(seed)
    optimizer = optax.adamw(1e-3)
    optimizer_state = optimizer.init(layers)
    act = jax.jit(student_actions)
    count = 0
    for number in range(ROUNDS):
        teachers_share = 0.5**number if number < TEACHER_ROUNDS else 0.0
        speeds, lying = [], []
        for _ in range(STEPS):
            for maze in mazes:
                rows = slice(count, count + ANTS)
                features[rows], turns = canonical_features(
                    maze.ants.states[:, 2:], maze.ants.directions()
                )
                wanted[rows] = teacher(features[rows])
                by_teacher = generator.random((ANTS, 1)) < teachers_share
                actions = np.where(by_teacher, wanted[rows], act(layers, features[rows]))
                speed, fallen = maze.step(ant_actions(actions, turns))
                speeds.append(speed)
                lying.append(fallen)
                count += ANTS
        layers, optimizer_state = fit(
            layers,
            optimizer_state,
            (features, wanted),
            count,
            int(FIRST_UPDATES + UPDATES_PER_SAMPLE * count),
            jax.random.key(seed + number),
            optimizer=optimizer,
        )
        print(
            f"round {number + 1} of {ROUNDS}: {np.mean(speeds):.2f} m/s along the way, "
            f"{np.mean(lying):.1%} of the steps on the back",
            flush=True,
        )
    return AntController(layers)


def write_controller(controller: AntController, file: IO[bytes]) -> None:
    """Write what ``AntController.load`` loads, in half precision."""
    arrays: dict[str, Any] = {}
    for i, (weights, biases) in enumerate(controller.layers):
        arrays |= {f"weight_{i}": np.float16(weights), f"bias_{i}": np.float16(biases)}
    np.savez_compressed(file, allow_pickle=False, **arrays)


def main() -> None:
    """Distil, and write the student."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    teacher = AntController.load(options.teacher)
    with options.out.open("wb") as file:  # Fails before the work.
        write_controller(distil(teacher, options.seed), file)


if __name__ == "__main__":
    main()
