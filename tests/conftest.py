import signal

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

pytest_plugins = ["small_runs"]

# A broadcast that changes an array's rank is an error in every test.
jax.config.update("jax_numpy_rank_promotion", "raise")

# A shell starts background jobs with Ctrl-C ignored, and children inherit that: give it back.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def compiled_programs(tmp_path_factory):
    """Compile a program once for all tests: they run the same few small ones again and again.

    Child processes share a folder of their own. Tests kill them, perhaps while they write to it,
    and JAX warns of a file that is cut short: here that would fail whichever test comes next.
    """
    options = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("programs")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    of_children = {**options, "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("children"))}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in options.items():
            jax.config.update(name, value)
            patch.setenv(name.upper(), str(of_children[name]))
        compilation_cache.reset_cache()  # Importing the tests may have begun one without a folder.
        yield


@pytest.fixture
def data_folders(tmp_path, monkeypatch):
    """An empty folder of the test's own for datasets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"
