"""Makers of the packaged datasets: data for machines that cannot download any.

``catalog`` lists what can be made. What it makes datasets with may not import JAX, for collection
runs in worker processes; ``train_ant`` and ``distill_ant``, which made the packaged controller, do.
"""
