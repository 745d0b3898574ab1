"""Films: their frames, what is reported about the episode, and failures."""

import copy
import functools
import os
import resource
import signal
import subprocess
import sys

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import pytest

from iql_jax.envs import video
from iql_jax.envs.description import EnvironmentDescription
from iql_jax.envs.lockstep import Evaluator
from iql_jax.envs.make import make_environment
from iql_jax.envs.video import check_film, configure_headless_rendering, record_episode
from iql_jax.utils.errors import UserError
from iql_jax.utils.files import partial_path

# ffmpeg's reader forks to become ffmpeg; JAX, started by other tests, warns of any fork.
pytestmark = pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning")

SEED = 3


class Lamp(gym.Env):
    """Ends after a seeded number of steps; its picture grows brighter with each."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, render_mode=None, size=(64, 96), fault=""):
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
        self.render_mode = render_mode
        self.closed = False
        self._size = size
        self._fault = fault

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._length = int(self.np_random.integers(5, 15))
        self._steps = 0
        return self._observation(), {}

    def step(self, action):
        self._steps += 1
        success = self._steps == 2
        over = self._steps == self._length
        return self._observation(), 2 * float(action[0]), False, over, {"success": success}

    def render(self):
        if self._fault == "nothing":
            return None
        if self._fault == "raises" and self._steps == 3:
            raise RuntimeError("lost the\ncontext")
        return np.full((*self._size, 3), 15 * self._steps, np.uint8)

    def close(self):
        self.closed = True

    def _observation(self):
        return np.array([self._steps, self._length], np.float32)


def act(observations):
    return 0.5 * np.ones((len(observations), 1))


def read(path):
    """The frames of a film: [frames, height, width, 3] and the frames a second."""
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    reader.close()
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path)]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout
    width, height = meta["size"]
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3), meta["fps"]


def test_a_film_has_a_frame_for_each_observation(tmp_path):
    path = tmp_path / "folder" / "film.mp4"
    made = []

    def make_env(render_mode):
        made.append(Lamp(render_mode))
        return made[-1]

    result = record_episode(make_env, act, SEED, path)
    frames, fps = read(path)
    steps = int(result.lengths[0])
    assert frames.shape == (steps + 1, 64, 96, 3)
    brightness = frames.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(brightness, 15 * np.arange(steps + 1), atol=6)
    assert fps == 10
    assert made[0].render_mode == "rgb_array"
    assert made[0].closed
    assert [p.name for p in path.parent.iterdir()] == ["film.mp4"]


def test_a_film_shows_the_first_episode_of_the_evaluation(tmp_path):
    film = record_episode(Lamp, act, SEED, tmp_path / "film.mp4")
    with Evaluator(Lamp, 2, processes=1) as evaluator:
        evaluation = evaluator.run(act, 3, SEED, record=1)
    assert len(set(evaluation.lengths)) > 1
    assert film.returns == evaluation.returns[0]
    assert film.lengths == evaluation.lengths[0]
    assert film.successes == evaluation.successes[0]
    assert film.successes[0]
    np.testing.assert_array_equal(film.trajectories[0], evaluation.trajectories[0])


def test_frames_of_odd_size_are_cropped(tmp_path):
    path = tmp_path / "film.mp4"
    record_episode(functools.partial(Lamp, size=(65, 97)), act, SEED, path)
    assert read(path)[0].shape[1:] == (64, 96, 3)


@pytest.mark.parametrize(
    ("fault", "message"),
    [("raises", "rendering failed .*RuntimeError: lost the context"), ("nothing", "rgb_array")],
)
def test_a_film_that_fails_leaves_the_older_one(tmp_path, fault, message):
    path = tmp_path / "film.mp4"
    path.write_bytes(b"older")
    with pytest.raises(UserError, match=message):
        record_episode(functools.partial(Lamp, fault=fault), act, SEED, path)
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]
    assert path.read_bytes() == b"older"


class Noise(Lamp):
    """Pictures that no codec makes small."""

    def render(self):
        return np.random.default_rng(self._steps).integers(0, 255, (64, 96, 3), dtype=np.uint8)


@pytest.mark.skipif(sys.platform != "linux", reason="file sizes are limited as Linux does")
def test_a_film_that_the_disk_has_no_room_for_leaves_the_older_one(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(b"older")
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # ffmpeg inherits it.
    try:
        with pytest.raises(UserError, match=r"film\.mp4 cannot be written \(.*disk full"):
            record_episode(Noise, act, SEED, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]
    assert path.read_bytes() == b"older"


# imageio leaves the pipe to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ffmpeg_that_dies_is_told_in_one_line(tmp_path):
    path = tmp_path / "film.mp4"
    partial_path(path).symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"^the film .*film\.mp4 cannot be written .*disk full\?$"):
        record_episode(functools.partial(Lamp, size=(512, 512)), act, SEED, path)
    assert list(tmp_path.iterdir()) == []


def test_a_film_is_an_mp4_file(tmp_path):
    with pytest.raises(UserError, match=r"\.mp4 file, not .*film\.gif"):
        record_episode(Lamp, act, SEED, tmp_path / "film.gif")


def test_a_folder_that_is_a_file_holds_no_film(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot hold a film: File exists"):
        check_film(tmp_path / "file" / "film.mp4")


@pytest.fixture
def headless(monkeypatch):
    """A Linux machine without a display; monkeypatch undoes what is set in the environment."""
    monkeypatch.setattr(video.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("working", "expected"),
    [({"egl", "osmesa"}, "egl"), ({"egl"}, "egl"), ({"osmesa"}, "osmesa")],
)
def test_a_backend_that_works_is_chosen(headless, monkeypatch, working, expected):
    monkeypatch.setattr(video, "_renders", lambda backend: backend in working)
    assert configure_headless_rendering() == expected
    assert os.environ["MUJOCO_GL"] == expected


def test_no_backend_that_works_is_an_error_that_says_what_to_install(headless, monkeypatch):
    monkeypatch.setattr(video, "_renders", lambda backend: False)
    with pytest.raises(UserError, match=r"apt install libegl1 .* libosmesa6"):
        configure_headless_rendering()
    assert "MUJOCO_GL" not in os.environ


@pytest.mark.parametrize("name", ["DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"])
def test_a_display_or_the_users_choice_is_left_alone(headless, monkeypatch, name):
    monkeypatch.setattr(video, "_renders", lambda backend: pytest.fail("probed"))
    monkeypatch.setenv(name, "glfw")
    assert configure_headless_rendering() == (None if name != "MUJOCO_GL" else "glfw")


def test_a_broken_backend_does_not_render():
    assert not video._renders("no-such-backend")


def test_a_maze_is_filmed_without_a_display(headless, tmp_path):
    gymnasium_robotics = pytest.importorskip("gymnasium_robotics")
    try:
        configure_headless_rendering()
    except UserError as error:
        pytest.skip(str(error))  # A machine without OpenGL renders nothing; the error says so.
    gym.register_envs(gymnasium_robotics)
    spec = copy.deepcopy(gym.spec("PointMaze_UMaze-v3"))
    spec.kwargs["continuing_task"] = False
    spec.max_episode_steps = 12
    recipe = EnvironmentDescription(
        spec=spec.to_json(),
        kwargs={},
        observation_keys=("observation",),
        observation_mean=None,
        observation_std=None,
        maze=None,
    )
    path = tmp_path / "film.mp4"
    result = record_episode(
        functools.partial(make_environment, recipe),
        lambda observations: np.ones((1, 2)),
        SEED,
        path,
    )
    frames, fps = read(path)
    assert frames.shape == (13, 480, 480, 3)
    assert fps == 50
    assert result.lengths[0] == 12
    # Seen from above, walls are all along the rim of the picture and only floor lies beyond
    # them; the goal is red, the ball green and, pushed, moves.
    red, green, blue = frames.astype(int).transpose(3, 0, 1, 2)
    goal = (red > 150) & (green < 80) & (blue < 80)
    ball = (green > 100) & (red < 110) & (blue < 120)
    wall = (red > 180) & (green > 120) & (blue < 130)
    assert goal.any(axis=(1, 2)).all()
    assert ball.any(axis=(1, 2)).all()
    assert np.abs(frames[-1].astype(int) - frames[0]).max() > 50
    for rim in (wall[:, 20], wall[:, -20], wall[..., 20], wall[..., -20]):
        assert rim.mean() > 0.9
