"""Makers of the packaged datasets: data for machines that cannot download any.

``catalog`` lists what can be made. Nothing here may import JAX: collection runs in
worker processes.
"""
