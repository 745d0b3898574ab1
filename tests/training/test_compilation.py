"""The options that training programs are compiled with, and where they are kept."""

import jax
import jax.numpy as jnp
import pytest

from iql_jax.training.compilation import COMPILER_OPTIONS, check_precision, keep_programs
from iql_jax.utils.errors import UserError


@pytest.mark.parametrize("backend", COMPILER_OPTIONS)
def test_this_jax_knows_the_options(backend):
    """Every backend parses the options of all, by name, type and value."""
    lowered = jax.jit(lambda x: x + 1).lower(jnp.ones(3))
    assert lowered.compile(COMPILER_OPTIONS[backend])(jnp.ones(3)).tolist() == [2, 2, 2]


def test_programs_are_kept_where_nothing_else_is_named(tmp_path, monkeypatch):
    """JAX's own setting, which all tests have, comes first."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir
    keep_programs()
    assert not list(tmp_path.iterdir())
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        keep_programs()
        folder = jax.config.jax_compilation_cache_dir
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert [folder] == [str(path) for path in tmp_path.glob("iql_jax/*")]


def test_a_cpu_has_one_precision():
    check_precision("float32")
    for precision in ("tensorfloat32", "bfloat16"):
        with pytest.raises(UserError, match=f"'{precision}', which a CPU gains.*use float32"):
            check_precision(precision)
