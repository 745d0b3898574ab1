"""Files appear whole or not at all."""

import pytest

from iql_jax.utils.files import atomic_path, partial_path


def test_it_appears_at_the_end(tmp_path):
    path = tmp_path / "table.csv"
    with atomic_path(path) as partial:
        assert partial == partial_path(path)
        assert partial.parent == tmp_path  # On the same disk: a rename is enough.
        partial.write_text("a,b\n")
        assert not path.exists()
    assert path.read_text() == "a,b\n"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "table.csv"
    path.write_text("before\n")

    def fail():
        with atomic_path(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "before\n"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]
