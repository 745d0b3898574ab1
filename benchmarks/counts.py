"""Flags that are lists of numbers to try."""

from collections.abc import Sequence

from absl import flags

flags.disclaim_key_flags()  # What is defined here is the help of the benchmark that asks for it.


def define_counts(name: str, default: list[str], help: str) -> "flags.FlagHolder[list[str]]":
    """Define a flag of positive whole numbers with commas between them, at least one."""
    holder = flags.DEFINE_list(name, default, help)
    flags.register_validator(
        holder, _are_counts, f"--{name} are positive numbers with commas between them"
    )
    return holder


def _are_counts(words: Sequence[str]) -> bool:
    return bool(words) and all(word.isdecimal() and int(word) > 0 for word in words)
