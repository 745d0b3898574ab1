"""The files that a run writes: its folder, logs, checkpoints and plots."""
