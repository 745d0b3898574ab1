"""Datasets in: from a Minari id to transitions, with every choice on record.

``load.load_dataset`` is the way in; ``python -m iql_jax.data`` lists, makes and checks datasets.
"""
