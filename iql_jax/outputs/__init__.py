"""What a run writes: its folder, its logs, its checkpoints and its pictures."""
