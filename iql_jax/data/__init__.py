"""Datasets, from a Minari id or a file to transitions: ``load.load_dataset``."""
