"""How the programs of training are compiled."""

import jax

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


def compile_program(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compile for the device that JAX computes on."""
    return lowered.compile(COMPILER_OPTIONS.get(jax.default_backend()))
