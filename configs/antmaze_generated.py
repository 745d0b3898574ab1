"""AntMaze on the datasets that this package generates: smaller weights than the paper's.

With the paper's (temperature 10, max_weight 100) a policy learns in effect from 3 to 5 % of these
data, and its ants fall or lose their heading. benchmarks/results/antmaze.md has both. In the
diverse mazes 300,000 updates are better than these 150,000.
"""

import ml_collections

from iql_jax.training.presets import preset


def get_config() -> ml_collections.ConfigDict:
    config = preset("antmaze")
    config.dataset = "iql/antmaze/umaze-v0"
    config.temperature = 3.0
    config.max_weight = 10.0
    config.max_steps = 150_000
    config.eval_interval = 50_000
    return config
