"""Export a run's policy: ``python -m iql_jax.export --workdir=RUN --out=policy.npz``.

The suffix says what is written, of which neither needs this package:

- ``.npz``: the network's arrays, and how observations and actions are laid out, for NumPy;
- ``.jaxexport``: a program that maps observations [B, observation_dim] to the environment's
  actions, for any batch size, on CPU, CUDA and TPU, for ``jax.export.deserialize``.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from iql_jax import cli
from iql_jax.envs.description import to_json
from iql_jax.training.evaluation import numpy_policy
from iql_jax.training.load import Networks, load_networks
from iql_jax.utils.console import logger
from iql_jax.utils.errors import UserError
from iql_jax.utils.files import atomic_path


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the file of a policy."""
    parser = argparse.ArgumentParser(
        prog="python -m iql_jax.export", description="Export a run's policy."
    )
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the run")
    parser.add_argument("--out", type=Path, required=True, help="a file .npz or .jaxexport")
    options = parser.parse_args(arguments)
    out = options.out.expanduser()
    if out.suffix not in (".npz", ".jaxexport"):
        raise UserError(f"--out={out} must end in .npz or .jaxexport")
    networks = load_networks(options.workdir.expanduser())
    with atomic_path(out) as partial:
        if out.suffix == ".npz":
            with open(partial, "wb") as stream:
                np.savez(stream, **arrays(networks))
        else:
            partial.write_bytes(program(networks))
    logger.info(f"{out}: the policy at step {networks.step:,}")


def arrays(networks: Networks) -> dict[str, Any]:
    """Returns weights [out, in] and biases [out] by layer, ``log_std``, and ``layout`` as JSON."""
    policy = numpy_policy(networks.state.actor)
    layers = zip(policy.weights, policy.biases, strict=True)
    found: dict[str, Any] = {"layout": np.array(json.dumps(to_json(networks.layout)))}
    for i, (weight, bias) in enumerate(layers):
        found |= {f"weight_{i}": weight, f"bias_{i}": bias}
    return found if policy.log_std is None else {**found, "log_std": policy.log_std}


def program(networks: Networks) -> bytes:
    """Returns the policy's most likely actions as a serialized ``jax.export`` program.

    Raises:
        UserError: If the package that serializes is not installed.
    """
    actor, layout = networks.state.actor, networks.layout

    def act(observation: jax.Array) -> Any:
        policy = actor.apply_fn(actor.params, layout.normalized(observation))
        return layout.environment_actions(policy.mode())

    (batch,) = jax.export.symbolic_shape("batch")
    shape = jax.ShapeDtypeStruct((batch, layout.observation_dim), np.float32)
    exported = jax.export.export(jax.jit(jax.vmap(act)), platforms=("cpu", "cuda", "tpu"))(shape)
    try:
        return bytes(exported.serialize())
    except ImportError as error:
        raise UserError("a .jaxexport file needs flatbuffers: pip install flatbuffers") from error


def command() -> None:
    """Runs the program."""
    cli.guard(main)


if __name__ == "__main__":
    command()
