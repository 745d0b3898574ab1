"""Environments: made, evaluated in and trained in; worker processes import these modules."""
