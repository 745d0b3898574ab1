"""Generated datasets: their content, and what is left where generation ends early."""

import contextlib
import functools
import multiprocessing
import os
import resource
import signal
import types

import minari
import numpy as np
import pytest
from minari_datasets import box, coded_episodes, write_dataset

from iql_jax.generation import antmaze, pointmaze
from iql_jax.generation import generate as module
from iql_jax.generation.generate import generate, hold_place
from iql_jax.generation.maze_tasks import build_environment
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import Interrupted

ID = "iql/pointmaze/umaze-v0"

generate_quietly = functools.partial(generate, progress=False)


@pytest.fixture(autouse=True)
def root(data_folders):
    data_folders.mkdir()
    return data_folders


def collect_and_die(shard, check):
    os.kill(os.getpid(), signal.SIGKILL)


def episodes_of(dataset_id):
    """The observations and actions of all episodes."""
    dataset = minari.load_dataset(dataset_id)
    return [(episode.observations["observation"], episode.actions) for episode in dataset]


@pytest.mark.parametrize(
    ("dataset_id", "steps", "lengths", "observations", "actions"),
    [
        (ID, 300, [16, 29, 62], -63.977556, -141.740987),
        ("iql/antmaze/medium-diverse-v0", 60, [60], 11151.695187, 937.851405),
    ],
)
def test_content_is_what_it_was(dataset_id, steps, lengths, observations, actions):
    """Sums, not bits: the last digits of the physics depend on the processor."""
    generate_quietly(dataset_id, steps)
    episodes = episodes_of(dataset_id)
    assert [len(taken) for _, taken in episodes[:3]] == lengths
    # Weighted, so that the order counts.
    sums = [
        sum((np.arange(1, len(array) + 1) @ array.reshape(len(array), -1)).sum() for array in part)
        for part in zip(*episodes, strict=True)
    ]
    assert sums == pytest.approx([observations, actions], rel=1e-5)


def test_content_depends_on_the_seed_and_not_on_the_processes(monkeypatch):
    monkeypatch.setattr(antmaze, "_STEPS_OF_ANT", 20)
    ant_id, steps = "iql/antmaze/umaze-v0", 330  # 16 ants, and another one for the rest.
    found = []
    for seed, processes in ((0, 1), (0, 2), (7, 1)):
        generate_quietly(ant_id, steps, seed, processes=processes, force=True)
        found.append([array.tobytes() for arrays in episodes_of(ant_id) for array in arrays])
    here, spread, other = found
    assert here == spread
    assert not set(here) & set(other)


def test_a_dataset_stays_unless_it_is_forced_and_minari_reads_it(root):
    assert generate_quietly(ID, 200) == root / ID
    generate_quietly(ID, 300)
    assert minari.load_dataset(ID).total_steps == 200
    generate_quietly(ID, 300, seed=3, force=True)
    dataset = minari.load_dataset(ID)
    assert dataset.total_steps == 300
    metadata = dataset.storage.metadata
    assert metadata["collection"]["seed"] == 3
    assert f"generate {ID} --steps 300 --seed 3" in metadata["description"]
    assert list(minari.list_local_datasets(compatible_minari_version=True)) == [ID]
    assert os.listdir(root) == ["iql"]


@pytest.mark.filterwarnings("ignore:.*(code_permalink|author_email). is set|Implicitly cleaning up")
def test_an_episode_is_described_as_by_minaris_own_collector():
    task = pointmaze.TASKS["umaze"]
    collector = minari.DataCollector(build_environment(task))
    collector.reset(seed=0)
    for _ in range(3):
        collector.step(np.ones(2, np.float32))
    about = dict.fromkeys(("algorithm_name", "author", "description"), "any")
    scores = {"ref_min_score": 0.0, "ref_max_score": 1.0, "requirements": []}
    spec = task.evaluation_spec()
    collected = collector.create_dataset("test/any-v0", eval_env=spec, **about, **scores)
    collector._tmp_dir.cleanup()  # Closing it would close the environment, which others use.
    generate_quietly(ID, 300)
    generated = minari.load_dataset(ID)
    episodes = [next(iter(d.storage.get_episode_metadata([0]))) for d in (collected, generated)]
    assert set(episodes[0]) == set(episodes[1])
    assert episodes[1]["rewards_sum"] == generated[0].rewards.sum() == 1.0
    metadata = generated.storage.metadata
    assert set(collected.storage.metadata) == set(metadata) - {"collection"}
    assert metadata["author"] == {"iql_jax contributors"}


def test_mistakes():
    with pytest.raises(UserError, match="there are: iql/pointmaze/large-v0"):
        generate("iql/pointmaze/larg-v0")
    for numbers in ((0, 0), (5, -1)):
        with pytest.raises(UserError, match="steps must be at least 1 and the seed at least 0"):
            generate(ID, *numbers)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_dataset_that_was_there(root, monkeypatch, signum):
    generate_quietly(ID, 200)
    act = pointmaze.PointController.action
    signals = iter([signum])

    def act_once_interrupted(controller, state):
        for number in signals:
            signal.raise_signal(number)
        return act(controller, state)

    monkeypatch.setattr(pointmaze.PointController, "action", act_once_interrupted)
    before = signal.getsignal(signum)
    with pytest.raises(Interrupted):
        generate_quietly(ID, 1_000, force=True)
    assert signal.getsignal(signum) == before
    assert minari.load_dataset(ID).total_steps == 200
    assert os.listdir(root) == ["iql"]


def test_processes_end_in_the_middle_of_their_shards():
    hours = antmaze.procedure("umaze", 100 * 2_000, 0)

    def stop():
        if multiprocessing.active_children():
            raise Interrupted(signal.SIGTERM)

    with pytest.raises(Interrupted):
        list(module._collect(hours, 2, stop))
    assert multiprocessing.active_children() == []


def test_a_killed_worker_and_a_full_disk_are_one_line(root, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(pointmaze, "collect", collect_and_die)
        with pytest.raises(UserError, match="worker process ended without a word"):
            generate_quietly(ID, 1_000, processes=2)
    assert os.listdir(root) == []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(UserError, match=f"{ID} cannot be written in .*File too large") as error:
            generate_quietly(ID, 1_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value)
    assert os.listdir(root) == []


def test_what_a_killed_process_left_goes_with_the_next_generation(root):
    left = root / f".new-{ID.replace('/', '.')}"
    (left / "new" / "data" / "half").mkdir(parents=True)
    left.with_name(f"{left.name}.lock").touch()
    generate_quietly(ID, 200)
    assert os.listdir(root) == ["iql"]


def test_a_second_process_waits_and_takes_what_the_first_made(monkeypatch, capsys):
    with contextlib.ExitStack() as first:
        first.enter_context(hold_place(ID, lambda: None))

        def finish():
            if not first.close():
                write_dataset(ID, coded_episodes(), box(4))

        stop = types.SimpleNamespace(check=finish)
        monkeypatch.setattr(module, "StopRequest", lambda: contextlib.nullcontext(stop))
        generate_quietly(ID, 200)
    assert minari.load_dataset(ID).total_steps == 9
    assert f"waiting for another process that writes {ID}" in capsys.readouterr().err
