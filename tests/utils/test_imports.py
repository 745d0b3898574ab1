"""What imports bring in: nothing heavy with the package, no JAX with what worker processes need."""

import importlib
import pkgutil
import subprocess
import sys

import iql_jax


def brought_in(modules):
    """The names in sys.modules of a fresh process that has imported these modules."""
    code = f"import sys\nfor m in {modules}: __import__(m)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_what_worker_processes_import_leaves_jax_out():
    names = []
    for package in ("data", "envs", "generation"):
        path = importlib.import_module(f"iql_jax.{package}").__path__
        names += [m.name for m in pkgutil.walk_packages(path, f"iql_jax.{package}.")]
    assert len(names) > 10
    assert "jax" not in brought_in(names)


def test_the_package_alone_imports_nothing_heavy_and_resolves_its_names_at_use():
    assert not {"jax", "numpy", "gymnasium"} & brought_in(["iql_jax"])
    assert set(iql_jax.__all__) <= set(dir(iql_jax))
    for name in iql_jax.__all__:
        assert getattr(iql_jax, name).__name__ == name
