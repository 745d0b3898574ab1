"""Trains a goal-direction ant controller from nothing, with SBX's SAC.

Run it as ``python scripts/train_ant_controller.py --workdir DIR [--steps N] [--seed S]``, after
``pip install sbx-rl``. The same command on the same folder resumes from the last snapshot. The
folder holds ``snapshot.npz`` (networks, optimizers, replay buffer), ``evaluations.csv``, and of the
evaluated controllers ``latest.npz``, in the end the last, and ``best.npz``.
``distill_ant_controller.py`` then makes the packaged ``ant_controller.npz`` of one of them: of the
last of ``--steps 725000``, an hour on one core that was shared.
"""

import argparse
import csv
import dataclasses
import functools
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any, Final

import flax.serialization
import jax
import numpy as np
from sbx import SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from ant_direction_env import AntDirectionConfig, AntDirectionEnv
from distill_ant_controller import write_controller
from iql_jax.generation.ant_controller import AntController
from iql_jax.utils.files import atomic_path

NUM_ENVS: Final = 16
MAZE_ID: Final = "AntMaze_Large-v4"
BUFFER_SIZE: Final = 1_000_000
EVALUATION_STEPS: Final = 400
RECOVERY_STEPS: Final = 100

_BUFFER_ARRAYS: Final = (
    "observations",
    "next_observations",
    "actions",
    "rewards",
    "dones",
    "timeouts",
)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Quality of a controller under action noise.

    Attributes:
        env_steps: environment steps it was trained for.
        hours: wall-clock hours of training until then, evaluations included.
        speed: mean speed along the direction (m/s) over all steps.
        falls_per_1000: how often the ant went over, per 1,000 steps.
        fallen_share: share of steps in which it lay.
        alignment: mean over upright steps of the cosine of four times the heading: 1 along an axis
            of the world, -1 halfway between two.
        recovery_share: share of the fallen starts from which it stood up within 100 steps.
        score: what the best controller is chosen by: speed, less costs of lying and of headings
            between the axes.
    """

    env_steps: int
    hours: float
    speed: float
    falls_per_1000: float
    fallen_share: float
    alignment: float
    recovery_share: float
    score: float


def make_model(seed: int) -> SAC:
    """Make an untrained SAC agent on ``NUM_ENVS`` environments."""
    return SAC(
        "MlpPolicy",
        DummyVecEnv([functools.partial(AntDirectionEnv, config) for config in _configs()]),
        learning_rate=5e-4,
        buffer_size=BUFFER_SIZE,
        learning_starts=10_000,
        batch_size=256,
        gamma=0.98,
        train_freq=1,
        gradient_steps=8,
        policy_delay=2,
        policy_kwargs={"net_arch": [256, 256], "layer_norm": True},
        seed=seed,
    )


def _configs() -> list[AntDirectionConfig]:
    """Lay out the tasks: open ground in one half of the environments, a maze in the other."""
    return [AntDirectionConfig(maze_id=MAZE_ID if i % 2 else None) for i in range(NUM_ENVS)]


def extract_controller(model: SAC) -> AntController:
    """Take the mean action of the agent's policy as a controller."""
    params = jax.device_get(model.policy.actor_state.params["params"])
    # Dense_3 is the standard deviation, which a deterministic controller has no use for.
    layers = [params[f"Dense_{i}"] for i in range(3)]
    return AntController([(layer["kernel"], layer["bias"]) for layer in layers])


def run_controller(
    controller: AntController, *, fallen: bool, steps: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Run a controller in ``NUM_ENVS`` environments side by side.

    Returns:
        Speed along the direction (m/s), height of the up vector and alignment with the axes of the
        world, each [steps, NUM_ENVS].
    """
    envs = [
        AntDirectionEnv(dataclasses.replace(config, episode_steps=steps + 1, fallen_steps=None))
        for config in _configs()
    ]
    features = np.stack(
        [env.reset(seed=seed + i, options={"fallen": fallen})[0] for i, env in enumerate(envs)]
    )
    speeds = np.zeros((steps, NUM_ENVS))
    uprights = np.zeros((steps, NUM_ENVS))
    alignments = np.zeros((steps, NUM_ENVS))
    for step in range(steps):
        actions = controller(features)
        for i, env in enumerate(envs):
            features[i], _, _, _, info = env.step(actions[i])
            speeds[step, i], uprights[step, i] = info["speed"], info["upright"]
            alignments[step, i] = info["alignment"]
    for env in envs:
        env.close()
    return speeds, uprights, alignments


def evaluate(controller: AntController, *, env_steps: int, hours: float, seed: int) -> Evaluation:
    """Measure a controller from standing starts, and from fallen ones for its recovery."""
    speeds, uprights, alignments = run_controller(
        controller, fallen=False, steps=EVALUATION_STEPS, seed=seed
    )
    fallen = uprights < 0.0
    alignment = float(alignments[~fallen].mean())
    falls = int(np.sum(fallen[1:] & ~fallen[:-1]))
    _, recoveries, _ = run_controller(controller, fallen=True, steps=RECOVERY_STEPS, seed=seed)
    return Evaluation(
        env_steps=env_steps,
        hours=hours,
        speed=float(speeds.mean()),
        falls_per_1000=1000.0 * falls / speeds.size,
        fallen_share=float(fallen.mean()),
        alignment=alignment,
        recovery_share=float(np.mean(recoveries[-1] > 0.7)),
        score=float(speeds.mean() - 5.0 * fallen.mean() - (1.0 - alignment)),
    )


def save_atomically(path: pathlib.Path, write: Callable[[Any], None]) -> None:
    """Write a file such that at any moment ``path`` is the old or the new version in full."""
    with atomic_path(path) as partial, open(partial, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def save_snapshot(model: SAC, path: pathlib.Path) -> None:
    """Save networks, optimizers, counters and replay buffer."""
    buffer = model.replay_buffer
    filled = buffer.buffer_size if buffer.full else buffer.pos
    states = flax.serialization.to_bytes(_states(model))
    arrays = {
        "states": np.frombuffer(states, dtype=np.uint8),
        "counters": np.array([model.num_timesteps, model._n_updates, buffer.pos, buffer.full]),
    }
    arrays |= {name: getattr(buffer, name)[:filled] for name in _BUFFER_ARRAYS}
    save_atomically(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def load_snapshot(model: SAC, path: pathlib.Path) -> None:
    """Restore what ``save_snapshot`` saved."""
    with np.load(path, allow_pickle=False) as arrays:
        states = flax.serialization.from_bytes(_states(model), arrays["states"].tobytes())
        counters = [int(counter) for counter in arrays["counters"]]
        for name in _BUFFER_ARRAYS:
            array = arrays[name]
            getattr(model.replay_buffer, name)[: len(array)] = array
    model.policy.actor_state = states["actor"]
    model.policy.qf_state = states["critic"]
    model.ent_coef_state = states["entropy"]
    model.key = states["key"]
    model.num_timesteps, model._n_updates = counters[:2]
    model.replay_buffer.pos, model.replay_buffer.full = counters[2], bool(counters[3])


def _states(model: SAC) -> dict[str, Any]:
    return {
        "actor": model.policy.actor_state,
        "critic": model.policy.qf_state,
        "entropy": model.ent_coef_state,
        "key": model.key,
    }


class Recorder(BaseCallback):
    """Evaluates, prints, keeps the CSV and the controllers, and takes snapshots."""

    def __init__(self, workdir: pathlib.Path, *, evaluate_every: int, seed: int) -> None:
        super().__init__()
        self._workdir = workdir
        self._evaluate_every = evaluate_every
        self._seed = seed
        self._start_time = time.time()
        self._hours_before = 0.0
        self._best_score = -np.inf

    def _on_training_start(self) -> None:
        self._evaluated = self.num_timesteps
        self._next_evaluation = self.num_timesteps + self._evaluate_every
        path = self._workdir / "evaluations.csv"
        if path.exists():
            with open(path, newline="") as file:
                rows = list(csv.DictReader(file))
            if rows:
                self._best_score = max(float(row["score"]) for row in rows)
                self._hours_before = float(rows[-1]["hours"])

    def _on_step(self) -> bool:
        if self.num_timesteps >= self._next_evaluation:
            self._next_evaluation += self._evaluate_every
            self._evaluate()
            # Together, so that a resumed training has the evaluations of its own steps. (After a
            # kill between the two it evaluates them again: the table has such a row twice.)
            save_snapshot(self.model, self._workdir / "snapshot.npz")
        return True

    def _on_training_end(self) -> None:
        if self.num_timesteps > self._evaluated:
            self._evaluate()

    def _evaluate(self) -> None:
        self._evaluated = self.num_timesteps
        controller = extract_controller(self.model)
        write = functools.partial(write_controller, controller)
        result = evaluate(
            controller,
            env_steps=self.num_timesteps,
            hours=self._hours_before + (time.time() - self._start_time) / 3600,
            seed=self._seed,
        )
        save_atomically(self._workdir / "latest.npz", write)
        if result.score > self._best_score:
            self._best_score = result.score
            save_atomically(self._workdir / "best.npz", write)
        row = {name: round(value, 4) for name, value in dataclasses.asdict(result).items()}
        path = self._workdir / "evaluations.csv"
        is_new = not path.exists()
        with open(path, "a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if is_new:
                writer.writeheader()
            writer.writerow(row)
        values = self.logger.name_to_value
        entropy, loss = values.get("train/ent_coef"), values.get("train/critic_loss")
        print(row, f"entropy coefficient {entropy}, critic loss {loss}", flush=True)


def main() -> None:
    """Train, or go on training, until ``--steps`` environment steps have been taken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=3_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluate_every", type=int, default=50_000)
    options = parser.parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)

    model = make_model(options.seed)
    snapshot = options.workdir / "snapshot.npz"
    if snapshot.exists():
        load_snapshot(model, snapshot)
        # Not the episodes of the first start once more.
        model.get_env().seed(options.seed + model.num_timesteps)
        print(f"resumed at {model.num_timesteps} steps", flush=True)
    recorder = Recorder(
        options.workdir,
        evaluate_every=options.evaluate_every,
        seed=options.seed,
    )
    model.learn(
        options.steps - model.num_timesteps,
        callback=recorder,
        log_interval=None,
        reset_num_timesteps=False,
    )
    save_snapshot(model, snapshot)


if __name__ == "__main__":
    main()
