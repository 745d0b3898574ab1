"""JSON that a stranger may have written."""

import pytest

from iql_jax.utils.errors import UserError
from iql_jax.utils.files import parse_json, read_json


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("null", "no object"),
        ("[1]", "no object"),
        ('{"a":' * 200_000 + "1" + "}" * 200_000, "nested too deep"),
        ('{"a": ' + "[" * 65 + "]" * 65 + "}", "nested too deep"),
        ('{"a": [1' + "0" * 400 + "]}", "64 bits"),
        ('{"a": 1' + "0" * 5000 + "}", "digits"),
        (r'{"a": "\ud800"}', "no text"),
        (r'{"\u0000": 1}', "no text"),
        (r'{"a": "\u001b[2J"}', "no text"),
        (b'{"a": "\xff"}', "utf-8"),
    ],
)
def test_what_is_refused(tmp_path, text, message):
    path = tmp_path / "record.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=rf"record\.json .*{message}.*: start anew") as error:
        read_json(path, "start anew")
    assert len(str(error.value).splitlines()) == 1


def test_what_is_read():
    text = r'{"a": [1, -2.5, Infinity, 18446744073709551615], "b": "é\n\t\ud83d\ude00", "c": null}'
    expected = {"a": [1, -2.5, float("inf"), 2**64 - 1], "b": "é\n\t😀", "c": None}
    assert parse_json(text) == expected
