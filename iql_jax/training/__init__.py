"""One run: offline, or offline and then online."""
