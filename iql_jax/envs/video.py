"""A film of one episode, also on machines without a display."""

import contextlib
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from iql_jax.envs.episodes import EvaluationResult, episode_seed
from iql_jax.envs.lockstep import Act
from iql_jax.utils.errors import UserError
from iql_jax.utils.files import atomic_path

_DEFAULT_FPS = 30

_PROBE = "import mujoco; c = mujoco.GLContext(64, 64); c.make_current(); c.free()"


def configure_headless_rendering() -> str | None:
    """Choose how MuJoCo renders; call it early, before anything imports mujoco.

    Where MUJOCO_GL is set, or there is a display, or the system is not Linux, nothing changes.
    Otherwise MUJOCO_GL is set to 'egl' (rendering on the GPU, or in Mesa) if that works, else to
    'osmesa'. A separate process tries it, for a broken driver may end the process.

    Returns:
        The value of MUJOCO_GL, None if it stays unset.

    Raises:
        UserError: if neither works.
    """
    chosen = os.environ.get("MUJOCO_GL")
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if chosen is not None or display or sys.platform != "linux":
        return chosen
    for backend in ("egl", "osmesa"):
        if _renders(backend):
            os.environ["MUJOCO_GL"] = backend
            return backend
    raise UserError(
        "cannot render: there is no display, and neither EGL nor OSMesa works; install one of "
        "them (Debian, Ubuntu: 'apt install libegl1 libgl1-mesa-dri', or 'apt install libosmesa6')"
    )


def check_film(path: Path) -> None:
    """Refuse a file that no film can be written to; for before any long work.

    Raises:
        UserError: If it is to be no .mp4, or its folder cannot be written.
    """
    if path.suffix != ".mp4":
        raise UserError(f"a film is an .mp4 file, not {path}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent} cannot hold a film: {error.strerror}") from error
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{path.parent} cannot hold a film: it cannot be written")


def record_episode(
    make_env: Callable[[str | None], gym.Env],
    act: Act,
    seed: int,
    path: Path,
) -> EvaluationResult:
    """Film episode 0 of the evaluation with this seed; a maze is seen whole, from above.

    Args:
        make_env: called with the render mode 'rgb_array'; builds an environment with observations
            [observation_dim] and actions [action_dim].
        act: the policy, called with one observation [1, observation_dim].
        seed: as in ``Evaluator.run``.
        path: where the film is written, an .mp4 file; an older one is replaced.

    Returns:
        The result of that one episode, with its trajectory.

    Raises:
        UserError: if rendering or writing fails, or see ``check_film``.
    """
    check_film(path)
    with contextlib.closing(make_env("rgb_array")) as env:
        _show_whole_maze(env)
        # One frame an environment step.
        with _film(path, int(env.metadata.get("render_fps", _DEFAULT_FPS))) as append:
            rewards, successes, trajectory = _play(env, act, seed, append)
    return EvaluationResult(
        returns=np.array([sum(rewards)], np.float64),
        lengths=np.array([len(rewards)], np.int64),
        successes=np.array([any(successes)]) if successes else None,
        trajectories=[np.stack(trajectory)],
    )


def _play(
    env: gym.Env, act: Act, seed: int, append: Callable[[npt.NDArray[np.uint8]], None]
) -> tuple[list[float], list[bool], list[npt.NDArray[np.float32]]]:
    """Run one episode, a frame for each observation; the rewards, successes and observations."""
    observation, _ = env.reset(seed=episode_seed(seed, 0))
    rewards: list[float] = []
    successes: list[bool] = []
    trajectory = [np.array(observation, np.float32)]
    append(_frame(env))
    over = False
    while not over:
        action = np.asarray(act(trajectory[-1][None]), np.float32)[0]
        observation, reward, terminated, truncated, info = env.step(action)
        rewards.append(float(reward))
        successes += [bool(info["success"])] if "success" in info else []
        trajectory.append(np.array(observation, np.float32))
        append(_frame(env))
        over = terminated or truncated
    return rewards, successes, trajectory


def _frame(env: gym.Env) -> npt.NDArray[np.uint8]:
    """A picture [height, width, 3], of even height and width, as the codec needs."""
    try:
        frame: Any = env.render()
    except Exception as error:
        raise UserError(
            f"rendering failed (MUJOCO_GL={os.environ.get('MUJOCO_GL', '')}): "
            f"{type(error).__name__}: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(frame, np.ndarray) or frame.ndim != 3:
        raise UserError(f"the environment {env} does not render pictures ('rgb_array')")
    height, width = (size - size % 2 for size in frame.shape[:2])
    return np.asarray(frame[:height, :width], np.uint8)


@contextlib.contextmanager
def _film(path: Path, fps: int) -> Iterator[Callable[[npt.NDArray[np.uint8]], None]]:
    """Write frames to a file that appears at ``path`` when all is well.

    Raises:
        UserError: if ffmpeg fails, as on a full disk.
    """
    import imageio.v2  # Only films need it, and only here.
    import imageio_ffmpeg

    count = 0
    with atomic_path(path) as partial:
        writer: Any = imageio.v2.get_writer(
            partial, format="FFMPEG", fps=fps, codec="libx264", quality=7, macro_block_size=1
        )
        # Not `with writer`: after an error that would leave ffmpeg running, and its file behind.
        with contextlib.closing(writer), warnings.catch_warnings():
            # ffmpeg starts at the first frame. Python warns of forks beside JAX's threads, but this
            # one becomes ffmpeg at once.
            warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")

            def append(frame: npt.NDArray[np.uint8]) -> None:
                nonlocal count
                try:
                    writer.append_data(frame)
                except OSError as error:
                    raise _unwritten(path, str(error)) from error
                count += 1

            yield append
        # imageio does not tell when ffmpeg failed.
        try:
            written, _ = imageio_ffmpeg.count_frames_and_secs(str(partial))
        except RuntimeError as error:
            raise _unwritten(path, str(error)) from error
        if written != count:
            raise _unwritten(path, f"{written} of {count} frames arrived")


def _unwritten(path: Path, reason: str) -> UserError:
    return UserError(
        f"the film {path} cannot be written ({reason.strip().splitlines()[0]}); is the disk full?"
    )


def _show_whole_maze(env: gym.Env) -> None:
    """Put the camera of gymnasium_robotics' mazes above their middle.

    Their constructors do not let the camera be chosen: it follows the ant, and crops large mazes.
    """
    maze_env: Any = env.unwrapped
    maze = getattr(maze_env, "maze", None)
    robot = getattr(maze_env, "point_env", None) or getattr(maze_env, "ant_env", None)
    if maze is None or robot is None:
        return
    side = max(maze.map_length, maze.map_width) * maze.maze_size_scaling
    view = math.radians(robot.model.vis.global_.fovy)
    # The walls' tops are nearer to the camera than the floor: a little more than the side is seen.
    distance = 1.1 * side / (2 * math.tan(view / 2))
    robot.mujoco_renderer.camera_id = -1  # The free camera.
    robot.mujoco_renderer.default_cam_config = {
        "distance": distance,
        "azimuth": 90.0,
        "elevation": -90.0,
        "lookat": np.zeros(3),
    }


def _renders(backend: str) -> bool:
    """Whether a fresh process can render with this backend."""
    environment = {**os.environ, "MUJOCO_GL": backend}
    probe = subprocess.run(
        [sys.executable, "-c", _PROBE], env=environment, capture_output=True, check=False
    )
    return probe.returncode == 0
