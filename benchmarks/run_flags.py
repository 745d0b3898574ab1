"""What benchmarks that train can be told, whatever they train."""

import dataclasses
from typing import Any

from absl import flags

flags.disclaim_key_flags()  # What is defined here is the help of the benchmark that asks for it.


@dataclasses.dataclass(frozen=True)
class Flags:
    """What every benchmark that trains can be told; each has its ``value``."""

    seeds: "flags.FlagHolder[int]"
    jobs: "flags.FlagHolder[int]"
    runs: "flags.FlagHolder[str]"
    out: "flags.FlagHolder[str]"
    only_report: "flags.FlagHolder[bool]"


def define_flags(runs: str) -> Flags:
    """Define the flags of a benchmark that trains; ``runs`` is the default folder of its runs."""
    return Flags(
        seeds=flags.DEFINE_integer("seeds", 3, "Seeds of each, from 0 on.", lower_bound=1),
        jobs=flags.DEFINE_integer(
            "jobs", 1, "Runs at once; each gets its share of the cores.", lower_bound=1
        ),
        runs=flags.DEFINE_string("runs", runs, "Folder of the runs."),
        out=flags.DEFINE_string("out", "", "Markdown file to write the report to."),
        only_report=flags.DEFINE_boolean("only_report", False, "Run nothing."),
    )


def define_together() -> "flags.FlagHolder[bool]":
    """Define the flag of a benchmark whose runs ``train_together`` can train."""
    return flags.DEFINE_boolean(
        "together",
        False,
        "Train all runs in this process, as populations of one program each: for a GPU or TPU. "
        "The folder of the runs must be new, or one that was trained so.",
    )


def define_weights() -> "dict[str, flags.FlagHolder[float | None]]":
    """Define the flags of what makes the actor's weights of advantages; by key of the config."""
    return {
        key: flags.DEFINE_float(
            key, None, "IQL's; by default the config's, the paper's.", lower_bound=0.0
        )
        for key in ("temperature", "max_weight")
    }


def given(flags_by_key: "dict[str, flags.FlagHolder[Any]]") -> dict[str, Any]:
    """The values of those flags that have one."""
    return {key: flag.value for key, flag in flags_by_key.items() if flag.value is not None}
