"""Datasets of other formats, turned into local Minari datasets."""
