"""What the speed benchmarks time: learner and transitions of AntMaze's sizes, on this device."""

import platform
from pathlib import Path

import jax

import peers
from iql_jax.algorithm.learner import IQLState, create_state
from iql_jax.algorithm.types import Transitions


def new_state(seed: int) -> IQLState:
    """A learner with the paper's settings for AntMaze."""
    return create_state(
        jax.random.key(seed),
        peers.OBSERVATION_DIM,
        peers.ACTION_DIM,
        expectile=0.9,
        temperature=10.0,
    )


def made_up_transitions() -> Transitions:
    """The peers' transitions, under our names."""
    data = peers.made_up_transitions()
    return Transitions(
        observations=data["observations"],
        actions=data["actions"],
        rewards=data["rewards"],
        masks=1.0 - data["terminals"],
        next_observations=data["next_observations"],
    )


def device_name() -> str:
    """What computes; the processor's own name where that is the CPU."""
    if jax.default_backend() == "cpu" and Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        return names[0] if names else platform.processor()
    return jax.devices()[0].device_kind
