"""How the programs of training are compiled."""

import jax

# On a CPU, XLA uses half the width of AVX-512 unless it is told otherwise.
COMPILER_OPTIONS: dict[str, dict[str, str | bool]] = {
    "cpu": {"xla_cpu_prefer_vector_width": "512"},
}


def compile_program(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compile for the device that JAX computes on."""
    return lowered.compile(COMPILER_OPTIONS.get(jax.default_backend()))
