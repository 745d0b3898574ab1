import dataclasses

import numpy as np
import pytest

from iql_jax.algorithm import NEEDS_NEXT_ACTIONS
from iql_jax.training.config import (
    Config,
    FinetuneConfig,
    base_config,
    finetune_config,
    from_mapping,
    from_record,
)
from iql_jax.training.presets import load_config, preset
from iql_jax.utils.errors import UserError


def test_base_config_holds_every_key_and_the_papers_numbers():
    config = base_config()
    assert set(config) == {field.name for field in dataclasses.fields(Config)}
    assert (config.batch_size, config.discount, config.tau) == (256, 0.99, 0.005)
    assert config.actor_lr == config.critic_lr == config.value_lr == 3e-4
    assert config.hidden_dims == (256, 256)


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"expectil": 0.7}, ["expectil", "did you mean 'expectile'"]),
        ({"expectile": "high"}, ["expectile", "'high'", "float"]),
        ({"batch_size": 25.5}, ["batch_size", "25.5", "int"]),
        ({"batch_size": True}, ["batch_size", "bool"]),
        ({"expectile": 1.0}, ["expectile", "(0, 1)"]),
        ({"actor_loss": "ddpg"}, ["actor_loss", "did you mean 'ddpgbc'"]),
        ({"maze_walls": "datas"}, ["maze_walls", "did you mean 'data'"]),
        ({"top_episodes": 0.0}, ["top_episodes", "(0, 1]"]),
    ],
)
def test_wrong_settings_are_one_clear_line(settings, parts):
    with pytest.raises(UserError) as caught:
        from_mapping({"dataset": "a/b-v0", **settings})
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_numpys_numbers_are_numbers():
    settings = {"seed": np.int64(3), "discount": np.float32(0.5), "temperature": np.int32(2)}
    config = from_mapping({"dataset": "a/b-v0", **settings})
    values = (config.seed, config.discount, config.temperature)
    assert values == (3, 0.5, 2.0)
    assert [type(value) for value in values] == [int, float, float]
    for wrong in ({"seed": np.float64(3)}, {"seed": np.True_}, {"discount": np.True_}):
        with pytest.raises(UserError, match="it must be a"):
            from_mapping({"dataset": "a/b-v0", **wrong})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pointmaze", (0.9, 3.0, "minus_one", 0.0)),  # The paper has no such maze.
        ("antmaze", (0.9, 10.0, "minus_one", 0.0)),
        ("locomotion", (0.7, 3.0, "return_range", 0.0)),
        ("adroit", (0.7, 0.5, "none", 0.1)),
        ("kitchen", (0.7, 0.5, "none", 0.1)),
    ],
)
def test_config_files_have_the_papers_settings(name, expected):
    config = load_config(name)
    assert (
        config.expectile,
        config.temperature,
        config.reward_transform,
        config.dropout_rate,
    ) == expected
    if name != "pointmaze":
        assert config.max_steps == 1_000_000


# Fine-tuning.

FINETUNE = {"dataset": "a/b-v0", "num_envs": 4}


def test_fine_tuning_has_the_papers_protocol_by_default():
    config = from_mapping({"dataset": "a/b-v0"}, FinetuneConfig)
    assert config.num_pretraining_steps == config.max_steps == 1_000_000
    assert config.replay_buffer_size == 2_000_000
    assert config.init_dataset_size == config.start_steps == 0
    assert config.offline_ratio == -1
    assert config.updates_per_step == config.num_envs == 1
    assert config.opt_decay_schedule == "none"
    assert config.offline_run == ""


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"num_pretraining_step": 1}, ["did you mean 'num_pretraining_steps'"]),
        ({"start_steps": 8, "max_steps": 8}, ["start_steps is 8", "max_steps 8", "no update"]),
        ({"offline_ratio": 1.01}, ["offline_ratio", "-1"]),
        ({"offline_ratio": float("nan")}, ["offline_ratio", "nan"]),
        ({"offline_ratio": 0.001}, ["offline_ratio is 0.001", "(256) comes to 0"]),
        ({"offline_ratio": 0.999}, ["offline_ratio is 0.999", "(256) comes to 256"]),
        ({"max_steps": 1_001}, ["max_steps is 1001", "num_envs (4)"]),
    ],
)
def test_wrong_settings_of_fine_tuning_are_one_clear_line(settings, parts):
    with pytest.raises(UserError) as caught:
        from_mapping({**FINETUNE, **settings}, FinetuneConfig)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_an_offline_run_has_no_keys_of_fine_tuning():
    with pytest.raises(
        UserError, match=r"'num_envs' belongs to fine-tuning; use train_finetune\.py"
    ):
        from_mapping({"dataset": "a/b-v0", "num_envs": 1})


@pytest.mark.parametrize("kind", [Config, FinetuneConfig])
def test_a_record_says_of_which_kind_its_run_was(kind):
    config = from_mapping({"dataset": "a/b-v0", "seed": 3}, kind)
    assert from_record(config.to_dict()) == config
    # Also one that was begun before the newest keys came.
    record = config.to_dict()
    del record["top_episodes"]
    record.pop("start_steps", None)
    assert from_record(record) == config


@pytest.mark.parametrize(
    ("name", "steps", "decay"),
    [
        ("antmaze", (1_000_000, 1_000_000), "none"),
        ("adroit", (1_000_000, 1_000_000), "none"),
        ("pointmaze", (20_000, 50_000), "none"),
    ],
)
def test_config_files_of_fine_tuning_are_those_of_their_domain(name, steps, decay):
    settings, offline = preset(f"{name}_finetune"), preset(name)
    assert set(settings) == {field.name for field in dataclasses.fields(FinetuneConfig)}
    config = load_config(f"{name}_finetune")
    shared = ("dataset", "expectile", "temperature", "max_weight", "reward_transform")
    for key in (*shared, "dropout_rate"):
        assert getattr(config, key) == offline[key]
    assert config.opt_decay_schedule == decay
    assert (config.num_pretraining_steps, config.max_steps) == steps


def test_fine_tunings_own_defaults_take_the_place_of_the_offline_configs():
    offline = base_config()
    offline.max_steps, offline.expectile = 7, 0.8
    settings = finetune_config(offline)
    assert (settings.max_steps, settings.expectile) == (1_000_000, 0.8)
    assert settings.opt_decay_schedule == "none"
    offline.expectil = 0.9  # A mistake there is one here.
    with pytest.raises(UserError, match="did you mean 'expectile'"):
        from_mapping(finetune_config(offline).to_dict(), FinetuneConfig)


@pytest.mark.parametrize("objective", NEEDS_NEXT_ACTIONS)
def test_fine_tuning_has_no_next_actions(objective):
    with pytest.raises(UserError, match="use 'iql' or 'q_learning'"):
        from_mapping({"dataset": "a/b-v0", "objective": objective}, FinetuneConfig)


@pytest.mark.parametrize(
    ("num_envs", "start_steps", "expected"),
    [(1, 0, 100 + 24), (1, 5, 100 + 14), (3, 5, 100 + 18), (3, 6, 100 + 12)],
)
def test_fine_tuning_counts_its_updates(num_envs, start_steps, expected):
    config = FinetuneConfig(
        dataset="a/b-v0",
        num_pretraining_steps=100,
        max_steps=12,
        eval_interval=12,
        updates_per_step=2,
        num_envs=num_envs,
        start_steps=start_steps,
    )
    assert config.num_updates == expected
