"""A film of one episode, also on machines without a display."""

import contextlib
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from iql_jax.envs.episodes import Episode, EpisodeTask, play
from iql_jax.envs.make import make_environment
from iql_jax.utils.errors import Diverged, UserError, one_line
from iql_jax.utils.files import atomic_path

_PROBE = "import mujoco; c = mujoco.GLContext(64, 64); c.make_current(); c.free()"
_FLOOR, _ROBOT = (0.25, 0.27, 0.33, 1.0), (0.2, 0.8, 1.0, 1.0)  # Red, green, blue, opacity.
_OFF = ("disable", "disabled", "off", "false", "0")  # Values of MUJOCO_GL.


def configure_headless_rendering() -> str | None:
    """Chooses how MuJoCo renders, before anything imports it, and returns MUJOCO_GL.

    It stays where it is set, or there is a display, or the system is not Linux. Otherwise it
    becomes 'egl' or 'osmesa', whichever works first.

    Raises:
        UserError: If neither works, or MUJOCO_GL turns rendering off.
    """
    chosen = os.environ.get("MUJOCO_GL")
    if chosen is not None and chosen.lower() in _OFF:
        raise UserError(f"cannot render with MUJOCO_GL={chosen}; unset it, or set egl or osmesa")
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


def _renders(backend: str) -> bool:
    """Returns whether a process of its own can render: a broken driver may end it."""
    command = [sys.executable, "-c", _PROBE]
    environment = {**os.environ, "MUJOCO_GL": backend}
    return subprocess.run(command, env=environment, capture_output=True).returncode == 0


def check_film(path: Path) -> None:
    """Refuses, before any long work, a file that is no .mp4 or whose folder cannot be made."""
    if path.suffix != ".mp4":
        raise UserError(f"a film is an .mp4 file, not {path}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent} cannot hold a film: {error.strerror}") from error


def record_episode(task: EpisodeTask, path: Path, *, sample: bool = False) -> Episode:
    """Films episode 0 of an evaluation, a frame a step; a maze is seen from above.

    The .mp4 file appears, or replaces an older one, when all is well. ``sample`` draws actions.

    Raises:
        UserError: If the episode, rendering or writing fails.
    """
    import imageio.v2  # Only films need it, and only here.
    import imageio_ffmpeg

    check_film(path)
    with contextlib.closing(make_environment(task.environment, "rgb_array")) as env:
        _show_whole_maze(env)
        fps = int(env.metadata.get("render_fps", 30))
        try:
            with atomic_path(path) as partial:
                writer: Any = imageio.v2.get_writer(
                    partial, format="FFMPEG", fps=fps, codec="libx264", macro_block_size=1
                )
                # Not `with writer`: after an error that would leave ffmpeg running.
                with contextlib.closing(writer), warnings.catch_warnings():
                    # ffmpeg starts at the first frame. Python warns of forks beside JAX's threads,
                    # but this one becomes ffmpeg at once.
                    warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")

                    def film() -> None:
                        writer.append_data(_frame(env))

                    episode = play(task, 0, sample, False, film, env)
                if isinstance(episode, Diverged):
                    raise episode
                # imageio does not say that ffmpeg failed.
                if imageio_ffmpeg.count_frames_and_secs(str(partial))[0] != episode.length + 1:
                    raise OSError("frames are missing")
        except (OSError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise UserError(
                f"the film {path} cannot be written ({reason}); is the disk full?"
            ) from error
    return episode


def _frame(env: gym.Env) -> Any:
    """Returns a picture [height, width, 3], of even height and width, as the codec needs."""
    try:
        frame: Any = env.render()
        height, width = (size - size % 2 for size in frame.shape[:2])
    except Exception as error:
        raise UserError(
            f"rendering failed (MUJOCO_GL={os.environ.get('MUJOCO_GL', '')}): {one_line(error)}"
        ) from error
    return frame[:height, :width]


def _show_whole_maze(env: gym.Env) -> None:
    """Films gymnasium_robotics' mazes from above, on a plain floor; theirs follows the ant."""
    maze_env: Any = env.unwrapped
    maze = getattr(maze_env, "maze", None)
    robot = getattr(maze_env, "point_env", None) or getattr(maze_env, "ant_env", None)
    if maze is None or robot is None:
        return
    side = max(maze.map_length, maze.map_width) * maze.maze_size_scaling
    view = math.radians(robot.model.vis.global_.fovy)
    # The walls' tops are nearer to the camera than the floor: a little more than the side is seen.
    robot.mujoco_renderer.camera_id = -1  # The free camera.
    robot.mujoco_renderer.default_cam_config = {
        "distance": 1.1 * side / (2 * math.tan(view / 2)),
        "azimuth": 90.0,
        "elevation": -90.0,
        "lookat": np.zeros(3),
    }
    model = robot.model
    for geoms, color in ((model.geom_type == 0, _FLOOR), (model.geom_bodyid > 0, _ROBOT)):
        model.geom_matid[geoms], model.geom_rgba[geoms] = -1, color  # Type 0 is a plane.
