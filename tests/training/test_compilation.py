"""The options that training programs are compiled with."""

import jax
import jax.numpy as jnp
import pytest

from iql_jax.training.compilation import COMPILER_OPTIONS


@pytest.mark.parametrize("backend", COMPILER_OPTIONS)
def test_this_jax_knows_the_options(backend):
    """Every backend parses the options of all, by name, type and value."""
    lowered = jax.jit(lambda x: x + 1).lower(jnp.ones(3))
    assert lowered.compile(COMPILER_OPTIONS[backend])(jnp.ones(3)).tolist() == [2, 2, 2]
