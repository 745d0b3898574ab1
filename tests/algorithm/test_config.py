import dataclasses
from typing import Annotated

import numpy as np
import pytest

from iql_jax.algorithm import AgentConfig, check_settings


@pytest.mark.parametrize(
    ("settings", "phrases"),
    [
        ({"expectile": 1.0}, ["expectile is 1.0", "in (0, 1)"]),
        ({"expectile": 0.0}, ["expectile", "in (0, 1)"]),
        ({"discount": 1.1}, ["discount", "in [0, 1]"]),
        ({"tau": 0.0}, ["tau", "in (0, 1]"]),
        ({"actor_lr": 0.0}, ["actor_lr", "above 0"]),
        ({"temperature": -0.1}, ["temperature", "at least 0"]),
        ({"temperature": float("inf")}, ["temperature is inf", "at least 0"]),
        ({"value_lr": float("nan")}, ["value_lr is nan"]),
        ({"max_weight": 1e16}, ["max_weight", "in (0, 1e15]"]),
        ({"batch_size": 0}, ["batch_size", "at least 1"]),
        ({"hidden_dims": (8, 0)}, ["hidden_dims is (8, 0)", "at least 1"]),
        ({"hidden_dims": ()}, ["hidden_dims", "at least one"]),
        ({"actor_loss": "ddpg"}, ["actor_loss is 'ddpg'", "awr, ddpgbc, bc", "'ddpgbc'?"]),
        ({"objective": "x"}, ["objective", "iql, sarsa, expectile_sarsa, q_learning"]),
    ],
)
def test_a_value_out_of_range_is_refused(settings, phrases):
    with pytest.raises(ValueError, match=f"^{next(iter(settings))} is ") as refused:
        AgentConfig(**settings)
    assert all(phrase in str(refused.value) for phrase in phrases)


def test_the_ends_of_closed_ranges_are_accepted():
    AgentConfig(discount=0, temperature=0, tau=1.0, dropout_rate=0.0, alpha=0.0, max_weight=1e15)
    AgentConfig(discount=1.0, expectile=np.float32(0.5), batch_size=np.int64(1), max_steps=1)


def test_the_keys_of_a_subclass_are_checked_too():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Longer(AgentConfig):
        seed: Annotated[int, "in [0, 4294967296)"] = 0
        anything: object = None

    assert Longer(seed=2**32 - 1, expectile=0.9).num_updates == 1_000_000
    with pytest.raises(ValueError, match="seed is -1"):
        Longer(seed=-1)
    with pytest.raises(ValueError, match="tau is 2"):
        Longer(tau=2)


def test_a_range_that_cannot_be_read_is_a_programming_error():
    @dataclasses.dataclass
    class Unclear:
        number: Annotated[float, "a small number"] = 0.0

    with pytest.raises(TypeError, match="a small number"):
        check_settings(Unclear())
