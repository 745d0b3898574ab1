"""Other implementations of IQL, each in the training loop of its own main program.

Each function takes a checkout, transitions under D4RL's names and hyperparameters, and builds a
learner whose training loop draws its own batches; JAX-CORL and unifloral keep the hyperparameters
of their own. Empty modules in memory replace what their modules import and their training loops do
not use (environments, logging, command lines); its successor replaces a function that has left JAX
since. Their arithmetic, compilation and data flow are untouched. They need what is not among this
package's requirements: official TensorFlow Probability, JAX-CORL and unifloral distrax, CORL
PyTorch. The last two are packages, used as they are installed.
"""

import dataclasses
import functools
import sys
import time
import types
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from iql_jax.algorithm import AgentConfig

OBSERVATION_DIM, ACTION_DIM, BATCH = 29, 8, 256
TRANSITIONS = 1_000_000
UNIFLORAL_SCAN = 2_500  # Updates in one of its scans: its eval_interval.
PAPER = AgentConfig(expectile=0.9, temperature=10.0)  # For AntMaze.

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Peer:
    """A learner."""

    train: Callable[[int], None]  # Makes so many updates, and waits for their end.
    unit: int = 1  # Of so many updates at once.
    # Returns weights [in, out] and biases of the layers of the policy's mean, before its tanh.
    layers: Callable[[], list[Any]] = list


def official(checkout: Path, data: Arrays, config: AgentConfig) -> Peer:
    """The authors' (github.com/ikostrikov/implicit_q_learning): a jitted update, NumPy batches."""
    import flax
    import jax

    stub("d4rl", "gym")
    jit = jax.jit
    vars(jax).update(
        tree_multimap=jax.tree.map,  # Removed from JAX in 2022.
        jit=forgiving(jit),
    )
    flax.config.update("flax_return_frozendict", True)  # The default until 2023.
    sys.path.insert(0, str(checkout))
    sys.modules.pop("common", None)  # A folder of ours; theirs is a module.
    from dataset_utils import Dataset
    from learner import Learner

    vars(jax).update(jit=jit)
    ends, size = data.pop("terminals"), len(data["rewards"])
    dataset = Dataset(**data, masks=1.0 - ends, dones_float=ends, size=size)
    first = data["observations"][:1], data["actions"][:1]
    agent = Learner(
        0,
        *first,
        max_steps=config.max_steps,
        expectile=config.expectile,
        temperature=config.temperature,
    )

    def train(count: int) -> None:
        for _ in range(count):
            agent.update(dataset.sample(BATCH))
        jax.block_until_ready((agent.actor.params, agent.target_critic.params))

    return Peer(train)


def jax_corl(checkout: Path, data: Arrays, config: AgentConfig) -> Peer:
    """JAX-CORL (github.com/nissymori/JAX-CORL): 8 updates per jitted call, data on the device."""
    stub("d4rl", "gym", "wandb")
    stub("omegaconf", OmegaConf=types.SimpleNamespace(from_cli=dict))
    stub("pydantic", BaseModel=object)
    sys.path.insert(0, str(checkout / "algos"))
    import iql
    import jax
    import jax.numpy as jnp

    theirs = iql.config
    arrays = {key: jnp.asarray(array) for key, array in data.items()}
    fields = iql.Transition._fields  # Its versions differ in what marks ends.
    dataset = iql.Transition(*(arrays.get(name, arrays["terminals"]) for name in fields))
    state = iql.create_iql_train_state(
        jax.random.PRNGKey(0), dataset.observations[0], dataset.actions[0], theirs
    )
    update = jax.jit(iql.IQL().update_n_times, static_argnums=(3,))
    rng = jax.random.PRNGKey(1)

    def train(count: int) -> None:
        nonlocal state, rng
        for _ in range(count // theirs.n_jitted_updates):
            rng, key = jax.random.split(rng)
            state, _ = update(state, dataset, key, theirs)
        jax.block_until_ready(state)

    return Peer(train, theirs.n_jitted_updates)


def unifloral(checkout: Path, data: Arrays, config: AgentConfig) -> Peer:
    """Unifloral (github.com/EmptyJackson/unifloral): a scan of 2,500 updates, data on the device.

    Its program runs that scan at top level, where JAX compiles it once and then reuses it.
    """
    stub("d4rl", "gym", "wandb", "tyro")
    sys.path.insert(0, str(checkout / "algorithms"))
    import iql
    import jax
    import jax.numpy as jnp

    names = ("obs", "action", "reward", "next_obs", "done")  # In the order of the dictionary.
    dataset = iql.Transition(**dict(zip(names, map(jnp.asarray, data.values()), strict=True)))
    args = iql.Args(batch_size=BATCH)
    mean, std = dataset.obs.mean(axis=0), dataset.obs.std(axis=0)
    observation, action = dataset.obs[0], dataset.action[0]
    actor = iql.TanhGaussianActor(action.size, mean, std)
    critic = iql.DualQNetwork(mean, std)
    value = iql.StateValueFunction(mean, std)
    key = jax.random.key(0)

    def create(network: Any, *inputs: Any) -> Any:
        return iql.create_train_state(args, key, network, inputs)

    state = iql.AgentTrainState(
        actor=create(actor, observation),
        dual_q=create(critic, observation, action),
        dual_q_target=create(critic, observation, action),
        value=create(value, observation),
    )
    step = iql.make_train_step(args, actor.apply, critic.apply, value.apply, dataset)
    carry = (key, state)

    def train(count: int) -> None:
        nonlocal carry
        for _ in range(count // UNIFLORAL_SCAN):
            carry, _ = jax.lax.scan(step, carry, None, UNIFLORAL_SCAN)
        jax.block_until_ready(carry)

    return Peer(train, UNIFLORAL_SCAN)


def corl(checkout: Path, data: Arrays, config: AgentConfig) -> Peer:
    """CORL (github.com/corl-team/CORL): PyTorch, eager, data on the device."""
    stub("d4rl", "gym", "wandb")
    stub("pyrallis", wrap=lambda: lambda function: function)
    sys.path.insert(0, str(checkout / "algorithms" / "offline"))
    import iql
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    theirs = iql.TrainConfig(iql_tau=config.expectile, beta=config.temperature, device=device)
    dims = data["observations"].shape[1], data["actions"].shape[1]
    buffer = iql.ReplayBuffer(*dims, theirs.buffer_size, device)
    buffer.load_d4rl_dataset(data)
    critic = iql.TwinQ(*dims).to(device)
    value = iql.ValueFunction(dims[0]).to(device)
    actor = iql.GaussianPolicy(*dims, 1.0).to(device)
    trainer = iql.ImplicitQLearning(
        max_action=1.0,
        actor=actor,
        actor_optimizer=torch.optim.Adam(actor.parameters(), lr=theirs.actor_lr),
        q_network=critic,
        q_optimizer=torch.optim.Adam(critic.parameters(), lr=theirs.qf_lr),
        v_network=value,
        v_optimizer=torch.optim.Adam(value.parameters(), lr=theirs.vf_lr),
        discount=theirs.discount,
        tau=theirs.tau,
        device=device,
        beta=theirs.beta,
        iql_tau=theirs.iql_tau,
        max_steps=config.max_steps,
    )

    def train(count: int) -> None:
        for _ in range(count):
            # Its losses are read back in each update, so that nothing is left under way.
            trainer.train([part.to(device) for part in buffer.sample(BATCH)])

    return Peer(train, layers=functools.partial(linear_layers, actor, data))


def torchrl(checkout: Path, data: Arrays, config: AgentConfig) -> Peer:
    """TorchRL (github.com/pytorch/rl), as its sota-implementations/iql/iql_offline.py has it."""
    import torch
    from tensordict import TensorDict
    from tensordict.nn import NormalParamExtractor, TensorDictModule
    from torchrl import modules, objectives
    from torchrl.data import Bounded, LazyTensorStorage, TensorDictReplayBuffer

    action_dim = data["actions"].shape[1]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    mlp = functools.partial(modules.MLP, num_cells=[256, 256], activation_class=torch.nn.ReLU)
    distribution = torch.nn.Sequential(
        mlp(out_features=2 * action_dim), NormalParamExtractor(scale_lb=0.1)
    )
    actor = modules.ProbabilisticActor(
        TensorDictModule(distribution, in_keys=["observation"], out_keys=["loc", "scale"]),
        in_keys=["loc", "scale"],
        spec=Bounded(-1.0, 1.0, (action_dim,)),
        distribution_class=modules.TanhNormal,
        distribution_kwargs={"low": -1.0, "high": 1.0, "tanh_loc": False},
    )
    critic = modules.ValueOperator(mlp(out_features=1), in_keys=["action", "observation"])
    value = modules.ValueOperator(mlp(out_features=1), in_keys=["observation"])
    arrays = {key: torch.from_numpy(array) for key, array in data.items()}
    following = {"observation": arrays["next_observations"], "reward": arrays["rewards"][:, None]}
    following |= dict.fromkeys(("done", "terminated"), arrays["terminals"][:, None] > 0)
    content = {"observation": arrays["observations"], "action": arrays["actions"]}
    steps = TensorDict({**content, "next": following}, [len(data["rewards"])])
    storage = LazyTensorStorage(len(steps), device=device)
    buffer = TensorDictReplayBuffer(storage=storage, batch_size=BATCH)
    buffer.extend(steps)
    networks = torch.nn.ModuleList([actor, critic, value]).to(device)
    with torch.no_grad():
        for network in networks:  # The layers are made at first use.
            network(steps[:2].to(device))
    loss = objectives.IQLLoss(
        actor,
        critic,
        value_network=value,
        loss_function="l2",
        temperature=config.temperature,
        expectile=config.expectile,
    )
    loss.make_value_estimator(gamma=0.99)
    targets = objectives.SoftUpdate(loss, tau=0.005)
    optimizer = torch.optim.Adam(loss.parameters(), lr=3e-4)

    def train(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            losses = loss(buffer.sample())
            sum(losses[key] for key in ("loss_actor", "loss_qvalue", "loss_value")).backward()
            optimizer.step()
            targets.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return Peer(train, layers=functools.partial(linear_layers, actor, data))


def d3rlpy(checkout: Path, data: Arrays, config: AgentConfig) -> Peer:
    """d3rlpy (github.com/takuseno/d3rlpy): what a step of its ``fit`` does, on its own buffer."""
    import d3rlpy
    import torch

    following = data.pop("next_observations")  # It takes the following row's.
    jumps = np.any(following[:-1] != data["observations"][1:], axis=1)
    timeouts = np.append(jumps, True) & (data["terminals"] == 0)
    dataset = d3rlpy.dataset.MDPDataset(**data, timeouts=timeouts)
    theirs = d3rlpy.algos.IQLConfig(
        expectile=config.expectile, weight_temp=config.temperature, batch_size=BATCH
    )
    agent = theirs.create(device="cuda:0" if torch.cuda.is_available() else "cpu:0")
    agent.build_with_dataset(dataset)

    def train(count: int) -> None:
        for _ in range(count):
            agent.update(dataset.sample_transition_batch(BATCH))  # Returns its losses as floats.

    return Peer(train, layers=functools.partial(linear_layers, agent.impl.policy, data))


PEERS: dict[str, Callable[[Path, Arrays, AgentConfig], Peer]] = {
    "implicit_q_learning": official,
    "JAX-CORL": jax_corl,
    "unifloral": unifloral,
    "CORL": corl,
    "torchrl": torchrl,
    "d3rlpy": d3rlpy,
}
"""By the name of the checkout's folder, or of the installed package."""


def linear_layers(policy: Any, data: Arrays) -> list[Any]:
    """Returns the layers of a module of PyTorch; after its means the last may have deviations."""
    linear = [module for module in policy.modules() if type(module).__name__ == "Linear"]
    found = [[x.detach().cpu().numpy().T for x in (m.weight, m.bias)] for m in linear]
    return [*found[:-1], [x[..., : data["actions"].shape[1]] for x in found[-1]]]


def time_peer(name: str, checkout: Path, updates: int) -> float:
    """Returns a peer's updates per second at AntMaze size; only the shapes of the data matter."""
    peer = PEERS[name](checkout, made_up_transitions(), PAPER)
    count = max(1, round(updates / peer.unit)) * peer.unit
    return rate(peer.train, count, warm_up=max(peer.unit, 50 // peer.unit * peer.unit))


def rate(train: Callable[[int], None], updates: int, warm_up: int) -> float:
    """Updates per second, after a warm-up that compiles."""
    train(warm_up)
    start = time.perf_counter()
    train(updates)
    return updates / (time.perf_counter() - start)


def made_up_transitions() -> Arrays:
    """Random transitions in AntMaze's shapes, under D4RL's names."""
    rng = np.random.default_rng(0)
    observations = rng.standard_normal((TRANSITIONS + 1, OBSERVATION_DIM), np.float32)
    return {
        "observations": observations[:-1],
        "actions": rng.uniform(-0.999, 0.999, (TRANSITIONS, ACTION_DIM)).astype(np.float32),
        "rewards": -np.ones(TRANSITIONS, np.float32),
        "next_observations": observations[1:],
        "terminals": np.zeros(TRANSITIONS, np.float32),
    }


def forgiving(jit: Callable[..., Any]) -> Callable[..., Any]:
    """``jax.jit`` as it was: it ignores static arguments that a function does not have."""

    def forgiving_jit(function: Callable[..., Any], static_argnames: Any = (), **rest: Any) -> Any:
        names = [name for name in static_argnames if name in signature(function).parameters]
        return jit(function, static_argnames=names, **rest)

    return forgiving_jit


class _Anything(type):
    """A class that has every attribute: what a type annotation may say of a missing package."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything


class Anything(metaclass=_Anything):
    """Stands for whatever a missing package holds; nothing can be done with it."""


def stub(*names: str, **contents: Any) -> None:
    """Put empty modules, or one with these contents, where packages are not installed or unused."""
    for name in names:
        module: Any = types.ModuleType(name)
        vars(module).update(contents)
        module.__getattr__ = lambda attribute: getattr(Anything, attribute)
        sys.modules[name] = module
