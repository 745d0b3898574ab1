"""Figure 3 of the IQL paper, success against the expectile: a sweep file for train_offline.py.

    python train_offline.py --config=configs/pointmaze.py --sweep=benchmarks/paper/figure3.py \
        --config.dataset=iql/pointmaze/large-v0 --config.temperature=3 --config.max_steps=50000 \
        --config.eval_interval=50000 --config.eval_episodes=50 --workdir=runs/figure3

draws ``sweep.png``; ``members.csv`` is its table. The paper shows that returns on AntMaze rise with
the expectile: near 0.5, V is that of the data's policy, and only towards 1 does it put parts of
different trajectories together. PointMaze large asks the same in a thirtieth of the updates. The
temperature is 3, for with the paper's 10 PointMaze large takes more updates.
"""

from typing import Any


def get_sweep() -> dict[str, list[Any]]:
    """Returns the expectiles, and the seeds of each."""
    return {"expectile": [0.5, 0.6, 0.7, 0.8, 0.9, 0.95], "seed": [0, 1, 2]}
