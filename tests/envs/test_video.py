"""Films: their frames, what is reported about the episode, and failures."""

import os
import resource
import signal
import subprocess
import sys

import imageio_ffmpeg
import numpy as np
import pytest
from minari_datasets import maze_spec
from toy_environments import Diary, description

from iql_jax.envs import video
from iql_jax.envs.description import EnvironmentDescription
from iql_jax.envs.episodes import EpisodeTask, Evaluator
from iql_jax.envs.video import check_film, configure_headless_rendering, record_episode
from iql_jax.utils.errors import UserError

# ffmpeg's reader forks to become ffmpeg; JAX, started by other tests, warns of any fork.
pytestmark = pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning")

SEED = 3


class Lamp(Diary):
    """Its picture grows brighter with each step."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode=None, fault=""):
        super().__init__()
        self.render_mode = render_mode
        self._fault = fault

    def render(self):
        if self._fault == "nothing":
            return None
        if self._fault == "raises" and self._steps == 1:
            raise RuntimeError("lost the\ncontext")
        if self._fault == "noise":  # No codec makes it small.
            return np.random.default_rng(self._steps).integers(
                0, 255, (640, 960, 3), dtype=np.uint8
            )
        return np.full((65, 97, 3), 15 * self._steps, np.uint8)


def task(action=0.5, **kwargs):
    """The same action again and again."""
    policy = lambda *_: np.full(2, action, np.float32)
    return EpisodeTask(description(Lamp, **kwargs), policy, SEED)


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


def test_a_film_shows_the_first_episode_of_the_evaluation(tmp_path):
    path = tmp_path / "folder" / "film.mp4"
    film = record_episode(task(), path)
    with Evaluator(1) as evaluator:
        (evaluation,) = evaluator.run([task()], 3)
    assert film.total == evaluation.returns[0]
    assert film.length == evaluation.lengths[0] > 1
    frames, fps = read(path)
    # One for each observation, cropped to even sizes.
    assert frames.shape == (film.length + 1, 64, 96, 3)
    brightness = frames.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(brightness, 15 * np.arange(film.length + 1), atol=6)
    assert fps == 10
    assert [p.name for p in path.parent.iterdir()] == ["film.mp4"]


def check_older_film_is_left(task, tmp_path, message):
    path = tmp_path / "film.mp4"
    path.write_bytes(b"older")
    with pytest.raises(UserError, match=message) as caught:
        record_episode(task, path)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]
    assert path.read_bytes() == b"older"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"fault": "raises"}, "rendering failed .*RuntimeError: lost the context"),
        ({"fault": "nothing"}, "rendering failed"),
        ({"action": np.nan}, "training has diverged"),
    ],
)
def test_a_film_that_fails_leaves_the_older_one(tmp_path, kwargs, message):
    check_older_film_is_left(task(**kwargs), tmp_path, message)


@pytest.mark.skipif(sys.platform != "linux", reason="file sizes are limited as Linux does")
def test_a_film_that_the_disk_has_no_room_for_leaves_the_older_one(tmp_path):
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # ffmpeg inherits it.
    try:
        message = r"film\.mp4 cannot be written \(.*disk full"
        check_older_film_is_left(task(fault="noise"), tmp_path, message)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_film_is_an_mp4_file_in_a_folder(tmp_path):
    with pytest.raises(UserError, match=r"\.mp4 file, not .*film\.gif"):
        check_film(tmp_path / "film.gif")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot hold a film: File exists"):
        check_film(tmp_path / "file" / "film.mp4")


# Rendering without a display.


@pytest.fixture
def headless(monkeypatch):
    """A Linux machine without a display; monkeypatch undoes what is set in the environment."""
    monkeypatch.setattr(video.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize("working", ["egl", "osmesa", None])
def test_a_backend_that_works_is_chosen(headless, monkeypatch, working):
    monkeypatch.setattr(video, "_renders", lambda backend: backend == working)
    if working is None:
        with pytest.raises(UserError, match=r"apt install libegl1 .* libosmesa6"):
            configure_headless_rendering()
    else:
        assert configure_headless_rendering() == working
    assert os.environ.get("MUJOCO_GL") == working


@pytest.mark.parametrize("name", ["DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"])
def test_a_display_or_the_users_choice_is_left_alone(headless, monkeypatch, name):
    monkeypatch.setattr(video, "_renders", lambda backend: pytest.fail("probed"))
    monkeypatch.setenv(name, "glfw")
    assert configure_headless_rendering() == (None if name != "MUJOCO_GL" else "glfw")


def test_rendering_that_is_turned_off_is_refused_before_any_work(headless, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    with pytest.raises(UserError, match=r"MUJOCO_GL=disabled; unset it"):
        configure_headless_rendering()


def test_a_maze_is_filmed_whole_without_a_display(headless, tmp_path):
    assert not video._renders("no-such-backend")
    try:
        configure_headless_rendering()
    except UserError as error:
        pytest.skip(str(error))  # A machine without OpenGL renders nothing; the error says so.
    cells = [[1, 1, 1, 1, 1], [1, "r", 0, "g", 1], [1, 1, 1, 1, 1]]
    spec = maze_spec(cells, continuing_task=False).replace("300", "5")
    path = tmp_path / "film.mp4"
    environment = EnvironmentDescription(
        spec=spec, observation_keys=("observation",), observation_dim=4, action_dim=2
    )
    policy = lambda *_: np.ones(2, np.float32)
    result = record_episode(EpisodeTask(environment, policy, SEED), path)
    frames, fps = read(path)
    assert frames.shape == (6, 480, 480, 3)
    assert (fps, result.length) == (50, 5)
    # Seen from above, walls are at the left and right rims; the goal is red, the ball moves.
    red, green, blue = frames.astype(int).transpose(3, 0, 1, 2)
    goal = (red > 150) & (green < 80) & (blue < 80)
    wall = (red > 180) & (green > 120) & (blue < 130)
    assert goal.any(axis=(1, 2)).all()
    assert np.abs(frames[-1].astype(int) - frames[0]).max() > 50
    assert wall[:, 180:300, [30, -30]].mean() > 0.9
