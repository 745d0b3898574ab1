"""What a check of a dataset can come to."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: 'ok', 'note' (worth knowing) or 'defect' (training on these data, or evaluating,
            would fail or go wrong without a word).
        topic: what was looked at, in a word.
        text: what was found, in one line.
    """

    level: Literal["ok", "note", "defect"]
    topic: str
    text: str
