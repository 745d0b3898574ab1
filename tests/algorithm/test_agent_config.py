import numpy as np
import pytest

from iql_jax.algorithm import AgentConfig


@pytest.mark.parametrize(
    ("settings", "phrases"),
    [
        ({"expectile": 1.0}, ["expectile is 1.0", "in (0, 1)"]),
        ({"actor_lr": 0.0}, ["actor_lr", "above 0"]),
        ({"temperature": -0.1}, ["temperature", "at least 0"]),
        ({"temperature": float("inf")}, ["temperature is inf", "at least 0"]),
        ({"batch_size": 0}, ["batch_size", "at least 1"]),
        ({"hidden_dims": (8, 0)}, ["hidden_dims is (8, 0)", "at least 1"]),
        ({"hidden_dims": ()}, ["hidden_dims", "at least one"]),
        ({"actor_loss": "ddpg"}, ["actor_loss is 'ddpg'", "awr, ddpgbc, bc", "'ddpgbc'?"]),
    ],
)
def test_a_value_out_of_range_is_refused(settings, phrases):
    with pytest.raises(ValueError, match=f"^{next(iter(settings))} is ") as refused:
        AgentConfig(**settings)
    assert all(phrase in str(refused.value) for phrase in phrases)


def test_the_ends_of_closed_ranges_are_accepted():
    AgentConfig(discount=0, temperature=0, tau=1.0, dropout_rate=0.0, alpha=0.0, max_weight=1e15)
    AgentConfig(discount=1.0, expectile=np.float32(0.5), batch_size=np.int64(1), max_steps=1)
