"""Datasets in: from a Minari id to transitions, with every choice on record.

``load.load_dataset`` is the way in; ``python -m iql_jax.datasets`` is the command line.
"""
