"""Reading JSON that a stranger may have written.

Python's own reader takes numbers that no array can hold, and texts that no terminal can show.
"""

import json
import re
from pathlib import Path
from typing import Any

from iql_jax.utils.files import reading

_DEEPEST = 64  # Records and metadata nest less than ten deep.
_NO_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def read_json(path: Path, advice: str) -> dict[str, Any]:
    """Reads a file that holds one JSON object.

    Raises:
        UserError: if it cannot be read; ``advice`` says what to do where it is damaged or missing.
    """
    with reading(path, advice):
        content = parse_json(path.read_text("utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is no object")
    return content


def parse_json(text: str) -> Any:
    """Parses JSON whose integers fit 64 bits, and whose texts have no control characters.

    Raises:
        ValueError: in one line, if it is not such.
    """
    try:
        content = json.loads(text)
        _check(content)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    return content


def _check(node: Any, depth: int = 0) -> None:
    if depth > _DEEPEST:
        raise RecursionError
    if isinstance(node, str) and _NO_TEXT.search(node):
        raise ValueError(f"{node[:40]!r} holds characters that are no text")
    if isinstance(node, int) and not -(2**63) <= node < 2**64:
        raise ValueError("it holds an integer of more than 64 bits")
    if isinstance(node, dict | list):
        for child in [*node, *node.values()] if isinstance(node, dict) else node:
            _check(child, depth + 1)
