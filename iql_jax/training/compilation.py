"""Compiles the programs of training, and keeps them from run to run."""

import contextlib
import os
import platform

import jax

from iql_jax.utils.errors import UserError
from iql_jax.utils.files import cache_folder

COMPILER_OPTIONS: dict[str, dict[str, str | bool]] = {
    # XLA uses half the width of AVX-512 unless it is told otherwise.
    "cpu": {"xla_cpu_prefer_vector_width": "512"},
    # An update is some hundred kernels of microseconds. As a CUDA graph, with its loop and with
    # independent kernels side by side, it waits neither for the host nor for itself: one run on an
    # H200 then takes 0.10 ms an update instead of 0.65.
    "gpu": {
        "xla_gpu_graph_min_graph_size": "1",
        "xla_gpu_enable_command_buffer": (
            "FUSION,CUBLAS,CUBLASLT,CUDNN,CUSTOM_CALL,DYNAMIC_SLICE_FUSION,WHILE,CONDITIONAL"
        ),
        "xla_gpu_command_buffer_scheduling_mode": "CONCURRENT",
    },
}


_PRECISIONS = {"gpu": ("float32", "tensorfloat32", "bfloat16"), "tpu": ("float32", "bfloat16")}


def offered_precisions() -> tuple[str, ...]:
    """Returns the precisions that this device has, and in which it is not slower."""
    return _PRECISIONS.get(jax.default_backend(), ("float32",))


def check_precision(precision: str) -> None:
    """Refuses a precision that this device does not have, or in which it is not faster."""
    if precision not in (offered := offered_precisions()):
        device = jax.default_backend().upper()
        raise UserError(
            f"config.matmul_precision is {precision!r}, which a {device} gains nothing "
            f"from or does not have; use {' or '.join(offered)}"
        )


def compile_program(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compiles for the device that JAX computes on."""
    return lowered.compile(COMPILER_OPTIONS.get(jax.default_backend()))


_OPTION = "jax_compilation_cache_dir"


def keep_programs() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX's own settings name another.

    A second run then starts in half the time. Each machine has a folder of its own, for programs
    are compiled for its processor, and homes are shared.
    """
    if getattr(jax.config, _OPTION) is not None:
        return
    with contextlib.suppress(OSError, RuntimeError):  # Without a home, compile each time.
        folder = cache_folder() / platform.node()
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            return
        jax.config.update(_OPTION, str(folder))
        # Many small programs make up the start, each of which takes less than JAX's limits.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
