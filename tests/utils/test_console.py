"""Standard error that cannot be written to, and settings of JAX with which no run works."""

import contextlib
import os
from unittest import mock

import jax
import pytest
from tqdm import tqdm

from iql_jax.utils import hosts
from iql_jax.utils.console import LastingStream, logger
from iql_jax.utils.errors import UserError


def test_a_run_outlives_the_reader_of_what_it_says(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with contextlib.suppress(BrokenPipeError), os.fdopen(writer, "w", buffering=1) as broken:
        monkeypatch.setattr("sys.stderr", LastingStream(broken))
        logger.info("nobody reads this")
        for _ in tqdm(range(3)):
            pass
    closed = LastingStream(None)  # As Python has it where standard error is closed.
    closed.write("nor this")
    closed.close()


@pytest.mark.parametrize(
    "setting",
    [{"enable_x64": True}, {"disable_jit": True}, {"numpy_dtype_promotion": "strict"}],
)
def test_settings_of_jax_with_which_runs_fail_are_refused(setting):
    ((name, value),) = setting.items()
    before = getattr(jax.config, f"jax_{name}")
    jax.config.update(f"jax_{name}", value)
    try:
        with pytest.raises(UserError, match=f"JAX_{name.upper()} is {value}.* unset it"):
            hosts.check_jax()
    finally:
        jax.config.update(f"jax_{name}", before)


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("Unable to initialize 'rocm'")])
def test_a_device_that_is_not_here_is_one_line(monkeypatch, error):
    hosts.check_jax()
    monkeypatch.setattr(jax, "devices", mock.Mock(side_effect=error))
    with pytest.raises(UserError, match=r"JAX_PLATFORMS=.* names no device .* unset it"):
        hosts.check_jax()
