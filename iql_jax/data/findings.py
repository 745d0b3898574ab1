"""What a check of a dataset can come to."""

import dataclasses
from typing import Literal

Level = Literal["ok", "note", "defect"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: 'ok', 'note' (worth knowing) or 'defect' (wrong in the files: training or evaluating
            as they say would fail or go astray, though loading may know the defect and mend it).
        topic: what was looked at, in a word.
        text: what was found, in one line.
    """

    level: Level
    topic: str
    text: str
