"""Implicit Q-Learning once more, in float64 NumPy with its gradients by hand, to compare with.

A network is a dict of layers in order, each with a kernel and a bias, as parity files have it.
"""

import jax
import numpy as np


def forward(layers, x):
    """The output [B, n] before any squashing, and the input of every layer."""
    *hidden, last = layers.values()
    inputs = [x]
    for layer in hidden:
        x = np.maximum(0.0, x @ layer["kernel"] + layer["bias"])
        inputs.append(x)
    return x @ last["kernel"] + last["bias"], inputs


def backward(layers, inputs, gradient):
    """Gradients of all layers, given the gradient [B, n] of the output."""
    gradients = {}
    for name, x in reversed(list(zip(layers, inputs, strict=True))):
        gradients[name] = {"kernel": x.T @ gradient, "bias": gradient.sum(axis=0)}
        gradient = (gradient @ layers[name]["kernel"].T) * (x > 0)
    return {name: gradients[name] for name in layers}


class Adam:
    """One network's optimizer."""

    def __init__(self, params):
        self.count, self.first, self.second = 0, *(jax.tree.map(np.zeros_like, params),) * 2

    def step(self, params, gradients, rate):
        """The parameters after one step down."""
        self.count += 1
        self.first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, self.first, gradients)
        self.second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, self.second, gradients)
        of_first, of_second = 1 - 0.9**self.count, 1 - 0.999**self.count

        def moved(parameter, first, second):
            return parameter - rate * (first / of_first) / (np.sqrt(second / of_second) + 1e-8)

        return jax.tree.map(moved, params, self.first, self.second)


def initial_networks(rng, observation_dim, action_dim, width):
    """Networks with two hidden layers; the target critics differ from the critics."""

    def mlp(inputs, outputs, last):
        sizes = [("hidden_0", inputs, width), ("hidden_1", width, width), (last, width, outputs)]
        return {
            name: {"kernel": rng.normal(size=(n, m)) / n**0.5, "bias": 0.1 * rng.normal(size=m)}
            for name, n, m in sizes
        }

    def critics():
        return {name: mlp(observation_dim + action_dim, 1, "out") for name in ("q1", "q2")}

    actor = {
        **mlp(observation_dim, action_dim, "mean"),
        "log_std": 0.1 * rng.normal(size=action_dim),
    }
    value = mlp(observation_dim, 1, "out")
    networks = {"actor": actor, "critic": critics(), "target_critic": critics(), "value": value}
    return jax.tree.map(lambda x: x.astype(np.float32).astype(np.float64), networks)


def min_q(critics, inputs):
    """The minimum over the critics, [B]."""
    return np.minimum(*(forward(critics[name], inputs)[0][:, 0] for name in ("q1", "q2")))


def update(networks, optimizers, batch, step, hyper):
    """One update in the official order; the networks after it, and what it reports."""
    s, a, size = batch["observations"], batch["actions"], len(batch["rewards"])
    both = np.concatenate([s, a], axis=1)
    target_q = min_q(networks["target_critic"], both)

    v, inputs = forward(networks["value"], s)
    u = target_q - v[:, 0]
    weights = np.abs(hyper["expectile"] - (u < 0))
    gradients = backward(networks["value"], inputs, (-2 * weights * u / size)[:, None])
    value = optimizers["value"].step(networks["value"], gradients, hyper["value_lr"])
    info = {"value_loss": np.mean(weights * u**2), "v": np.mean(v)}

    advantages = target_q - forward(value, s)[0][:, 0]
    weights = np.minimum(np.exp(hyper["temperature"] * advantages), hyper["max_weight"])[:, None]
    actor = dict(networks["actor"])
    log_std = actor.pop("log_std")
    mean, inputs = forward(actor, s)
    mean = np.tanh(mean)
    z = (a - mean) / np.exp(log_std)
    log_probs = np.sum(-0.5 * z**2 - log_std - 0.5 * np.log(2 * np.pi), axis=1)
    through_tanh = -weights * z / np.exp(log_std) * (1 - mean**2) / size
    gradients = backward(actor, inputs, through_tanh)
    gradients["log_std"] = np.sum(-weights * (z**2 - 1) / size, axis=0)
    rate = hyper["actor_lr"] * 0.5 * (1 + np.cos(np.pi * min(step / hyper["max_steps"], 1)))
    actor = optimizers["actor"].step(networks["actor"], gradients, rate)
    info |= {"actor_loss": -np.mean(weights[:, 0] * log_probs), "adv": advantages}

    next_v = forward(value, batch["next_observations"])[0][:, 0]
    y = batch["rewards"] + hyper["discount"] * batch["masks"] * next_v
    gradients, losses = {}, []
    for name, layers in networks["critic"].items():
        q, inputs = forward(layers, both)
        error = q[:, 0] - y
        gradients[name] = backward(layers, inputs, (2 * error / size)[:, None])
        losses.append(np.mean(error**2))
        info[name] = np.mean(q)
    critic = optimizers["critic"].step(networks["critic"], gradients, hyper["critic_lr"])
    info["critic_loss"] = sum(losses)

    tau = hyper["tau"]
    target = jax.tree.map(
        lambda new, old: tau * new + (1 - tau) * old, critic, networks["target_critic"]
    )
    return {"actor": actor, "critic": critic, "target_critic": target, "value": value}, info
