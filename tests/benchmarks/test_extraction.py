"""The benchmark of extractions: what it would run, and what it reports."""

from benchmark_runs import command, rows, schedule, write_run

from iql_jax.training.config import from_mapping


def test_the_rows_of_a_task_differ_in_the_extraction_alone():
    runs = schedule(
        *["extraction", "--alphas=1,0.03", "--seeds=2"],
        *["--pointmaze_updates=500", "--antmaze_updates=700"],
    )
    runs = [[run.folder.name, run.config, run.settings] for run in runs]
    assert [name for name, *_ in runs[:6]] == [
        *["awr-10-pointmaze-large-seed0", "awr-10-antmaze-medium-play-seed0"],
        *["ddpgbc-0.03-pointmaze-large-seed0", "ddpgbc-0.03-antmaze-medium-play-seed0"],
        *["ddpgbc-1-pointmaze-large-seed0", "ddpgbc-1-antmaze-medium-play-seed0"],
    ]
    assert len(runs) == len({name for name, *_ in runs}) == 12
    own = ("actor_loss", "temperature", "alpha")
    for name, config, settings in runs:
        rest = {key: setting for key, setting in settings.items() if key not in own}
        maze, task = ("point", "large") if "pointmaze" in name else ("ant", "medium-play")
        assert config == f"configs/{maze}maze.py"
        assert rest == {
            "dataset": f"iql/{maze}maze/{task}-v0",
            "seed": int(name[-1]),
            "max_steps": 500 if maze == "point" else 700,
        }
        read = from_mapping(settings)
        number = read.temperature if read.actor_loss == "awr" else read.alpha
        assert name.startswith(f"{read.actor_loss}-{number:g}-{maze}maze")


def test_every_alpha_is_reported(tmp_path):
    for seed, score in enumerate([80.0, 90.0, 100.0]):
        trained = tmp_path / "runs" / f"awr-10-pointmaze-large-seed{seed}"
        write_run(trained, [score - 50, score], config="pointmaze", temperature=10.0 - seed)
    own = {"config": "pointmaze", "actor_loss": "ddpgbc"}
    trained = tmp_path / "runs" / "ddpgbc-0.3-pointmaze-large-seed1"
    write_run(trained, [12.0], alpha=0.3, discount=0.9, **own)
    trained = tmp_path / "runs" / "ddpgbc-1-pointmaze-large-seed0"
    write_run(trained, [99.0], summary=False, alpha=1.0, **own)
    printed = command(
        "extraction",
        "--only_report",
        "--tasks=pointmaze-large",
        "--alphas=0.3,1",
        f"--runs={tmp_path / 'runs'}",
        f"--out={tmp_path / 'table.md'}",
    )
    assert (tmp_path / "table.md").read_text() in printed
    task = "pointmaze-large"
    assert rows(printed) == [
        [task, "AWR, beta 10", "90.0 ± 10.0", "65.2 to 100.0", "80, 90, 100", "400"],
        [task, "DDPG+BC, alpha 0.3", "12.0", "-", "12", "400"],
    ]  # Of alpha 1 nothing is finished.
    assert "100 episodes a seed" in printed
    # Not alpha and the extraction, which the rows stand for.
    assert (
        "Other settings than configs/pointmaze.py's: temperature=9.0 (awr-10-pointmaze-large-seed1"
        "); discount=0.9 (ddpgbc-0.3-pointmaze-large-seed1); temperature=8.0 ("
    ) in printed
