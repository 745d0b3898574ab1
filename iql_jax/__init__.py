"""Implicit Q-Learning in JAX: offline training, evaluation and data for Minari."""

__version__ = "0.1.0"
