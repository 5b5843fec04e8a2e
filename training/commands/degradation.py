"""`python -m training degradation --data cifar10 --framework torch|keras --out report/`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from training.commands.options import (
    Framework,
    ImageSize,
    TestLimit,
    Threads,
    TrainLimit,
    console,
    interrupted,
    load_backend,
    load_data,
)
from training.config import TrainConfig, make_config
from training.errors import ConfigError
from training.loop import train as run_training
from training.recipes import RECIPES
from training.weights.initial import read_initial


def degradation(
    data: Annotated[
        str | None,
        typer.Option(help="Data to train on, as for `train`; without it, existing runs are drawn."),
    ] = None,
    framework: Framework = "torch",
    recipe: Annotated[str, typer.Option(help=f"One of {', '.join(RECIPES)}.")] = "he2016",
    epochs: Annotated[int | None, typer.Option(help="Epochs of each network.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step.")] = None,
    image_size: ImageSize = None,
    train_limit: TrainLimit = None,
    test_limit: TestLimit = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, or bf16 for mixed precision.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all four runs.")] = None,
    threads: Threads = None,
    runs: Annotated[
        Path | None,
        typer.Option(help="Folder of the four runs; default runs/degradation-<framework>."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for reports; this one is <out>/degradation.")
    ] = Path("report"),
) -> None:
    """Train plain-20/56 and ResNet-20/56 alike and draw their errors (He et al. 2016, Figure 6).

    An interrupted run is resumed.
    """
    # As in compare.
    from training.reports.degradation import (  # noqa: PLC0415
        NETWORKS,
        read_runs,
        report_files,
        results,
    )
    from training.reports.page import check_target, publish  # noqa: PLC0415

    if data is None and runs is None:
        raise ConfigError(
            "Expected --data, to train the networks, or --runs, to draw runs that exist."
        )
    target = out / "degradation"
    check_target(target)
    folder = runs or Path("runs") / f"degradation-{framework}"
    if data is not None:
        configs = [
            make_config(
                recipe,
                framework=framework,
                arch=arch,
                epochs=epochs,
                batch_size=batch_size,
                image_size=image_size,
                train_limit=train_limit,
                test_limit=test_limit,
                precision=precision,
                seed=seed,
                threads=threads,
            )
            for arch in NETWORKS
        ]
        _train(data, configs, folder)
    record = results(read_runs(folder))
    publish(report_files(record), target)
    for network in record["networks"]:
        error = network["test_error"]
        test = "" if error is None else f", test error {error:.2%}"
        console.print(
            f"{network['name']}: training error {network['training_error']:.2%} "
            f"after {network['epochs']} epochs{test}",
            markup=False,
        )
    console.print(f"Report: {target / 'index.html'}", markup=False)


def _train(data: str, configs: Sequence[TrainConfig], folder: Path) -> None:
    """Train or resume each network in its sub-folder of `folder`; only it differs in `configs`."""
    data_set = load_data(data, configs[0])
    backend = load_backend(configs[0])
    mean, std = data_set.mean_and_std()
    try:
        for config in configs:
            run = folder / config.arch
            console.print(f"{config.arch}, {config.epochs} epochs: {run}", markup=False)
            initial = read_initial(config, backend.weights).for_labels(data_set.classes)
            trainer = backend.Trainer(config, len(data_set.classes), mean, std, initial)
            run_training(trainer, config, data_set, run, console, test_curve=True)
    except KeyboardInterrupt:
        raise interrupted() from None
