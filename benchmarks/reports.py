"""What finished runs have come to, in tables: their scores, over seeds, with intervals.

What the benchmarks that train share. All is read from the runs' folders: ``config.json``,
``summary.json`` and ``evaluations.csv`` of runs that are finished.
"""

import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iql_jax.populations.scores import spread
from runs import Run, read_config_file

NOT_RUN = "-"
"""What a table shows where nothing was run."""

FloatArray = npt.NDArray[np.float64]

Bounds = tuple[float, float]
"""Between what scores lie."""

SUCCESS: Bounds = (0.0, 100.0)
UNBOUNDED: Bounds = (-math.inf, math.inf)  # Normalised returns.

INTERVAL_NOTE = (
    "The interval is Student's t over seeds, cut to [0, 100]; fewer than three have none, nor have "
    "equal ones, which say nothing of their spread."
)
"""For the footnotes of tables of success."""


def summaries(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The summaries of those that are finished."""
    return [summary for run in runs if (summary := run.summary()) is not None]


def scores(runs: Sequence[Run]) -> FloatArray:
    """The last scores of those that are finished, [K]."""
    return np.array([summary["score"] for summary in summaries(runs)], dtype=np.float64)


def best_scores(runs: Sequence[Run]) -> FloatArray:
    """The highest scores of those that are finished, [K], each of all its evaluations."""
    finished = [run for run in runs if run.summary() is not None]
    best = [max(row["score"] for row in run.evaluations()) for run in finished]
    return np.array(best, dtype=np.float64)


def counts(runs: Sequence[Run], key: str, between: str = " / ") -> str:
    """The counts that the finished ones' summaries have for a key; empty without finished ones."""
    found = sorted({int(summary[key]) for summary in summaries(runs)})
    return between.join(f"{count:,}" for count in found)


def updates(runs: Sequence[Run]) -> str:
    """After how many updates the finished ones ended, for a table."""
    return counts(runs, "updates") or NOT_RUN


def episodes(runs: Sequence[Run]) -> str:
    """How many episodes the finished ones' evaluations have, for a footnote."""
    return counts(runs, "eval_episodes", " or ") or "no"


# What changes no number of a run, or is told wherever it matters.
_UNREMARKABLE = frozenset(
    {
        "seed",
        "dataset",
        "num_seeds",
        "population_size",
        "eval_interval",
        "eval_episodes",
        "eval_envs",
        "log_interval",
        "checkpoint_interval",
        "progress",
        "wandb_project",
    }
)


def other_settings(
    runs: Sequence[Run], told: Collection[str] = (), of_method: Collection[str] = ()
) -> str:
    """In what the finished ones differ from their config files, a sentence for a footnote.

    Empty if in nothing. A folder may hold runs of other settings than those that are asked for.

    Args:
        runs: Of one config file.
        told: The keys whose values the table tells.
        of_method: The keys whose values its rows or columns stand for, as long as they are those
            that a run overrides.
    """
    finished = [run for run in runs if run.summary() is not None]
    found: dict[str, list[str]] = {}
    for run in finished:
        ran_with = run.ran_with()
        for key, setting in json.loads(json.dumps(read_config_file(run.config))).items():
            expected = run.settings.get(key, setting) if key in of_method else setting
            if key in _UNREMARKABLE or key in told or ran_with[key] == expected:
                continue
            found.setdefault(f"{key}={ran_with[key]}", []).append(run.folder.name)
    said = [
        setting if len(names) == len(finished) else f"{setting} ({', '.join(names)})"
        for setting, names in found.items()
    ]
    return f"Other settings than {runs[0].config}'s: {'; '.join(said)}. " if said else ""


def mean_std(scores: FloatArray) -> str:
    """Mean and standard deviation over seeds, for a table; one seed has no deviation."""
    if len(scores) == 0:
        return NOT_RUN
    deviation = f" ± {scores.std(ddof=1):.1f}" if len(scores) > 1 else ""
    return f"{scores.mean():.1f}{deviation}"


def interval_text(scores: FloatArray, bounds: Bounds = SUCCESS) -> str:
    """The 95 % interval of the mean of three seeds or more, for a table; equal ones have none."""
    if len(scores) < 3 or np.ptp(scores) == 0:
        return NOT_RUN
    low, high = spread(scores, bounds)
    return f"{low:.1f} to {high:.1f}"


def each(scores: FloatArray, digits: int = 0) -> str:
    """The seeds' scores, for a table."""
    return ", ".join(f"{score:.{digits}f}" for score in scores) or NOT_RUN


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "|" + "|".join(line) + "|" if line[0] == "---" else "| " + " | ".join(line) + " |"
        for line in lines
    )


def publish(text: str, out: str) -> None:
    """Print a report, and write it to a file if one is named."""
    print(text)
    if out:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        Path(out).write_text(text)
