import ast
from pathlib import Path

import pytest

import iql_jax

PACKAGE = Path(iql_jax.__file__).parent

ALLOWED = {
    "jax",
    "flax",
    "optax",
    "chex",
    "numpy",
    "functools",
    "collections",
    "typing",
    "dataclasses",
}


@pytest.mark.parametrize("path", sorted((PACKAGE / "algorithm").glob("*.py")), ids=lambda p: p.stem)
def test_the_algorithm_imports_jax_flax_optax_chex_and_numpy_only(path):
    """It must run, and be benchmarked, where no environment or dataset library is installed."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {name for name in imported if name.startswith("iql_jax.")}
    assert {name.partition(".")[0] for name in imported - ours} <= ALLOWED
    assert {name.split(".")[1] for name in ours} <= {"algorithm"}
