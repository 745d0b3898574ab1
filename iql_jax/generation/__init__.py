"""The datasets that this package generates, and the decision where a dataset comes from.

Nothing here imports JAX: worker processes import it.
"""
