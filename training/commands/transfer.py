"""`python -m training transfer --source FOLDER --target FOLDER --train-limit 400 --out report/`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from bundle.format.manifest import read_manifest
from training.commands.make_bundle import make_bundle
from training.commands.options import (
    Framework,
    ImageSize,
    TestLimit,
    Threads,
    TrainLimit,
    console,
    load_data,
)
from training.config import RECIPES, TrainConfig, make_config
from training.data.dataset import DataSet
from training.data.duplicates import shared
from training.errors import ConfigError
from training.run import RUN_FILE

# What the recipes of the three may not set differently: the network and its input, then the images and the budget.
NETWORK = ("framework", "arch", "image_size", "precision", "threads")
ALIKE = (*NETWORK, "train_limit", "test_limit", "epochs", "batch_size", "validation_fraction")


def transfer(
    source: Annotated[
        str, typer.Option(help="The classes with many images, which train the backbone.")
    ],
    target: Annotated[str, typer.Option(help="The classes with few images.")],
    framework: Framework = "torch",
    arch: Annotated[
        str | None, typer.Option(help="The network, as in `train`; default resnet20.")
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="How many repetitions, each from its own seed.")
    ] = 3,
    source_recipe: Annotated[str, typer.Option(help=f"One of {', '.join(RECIPES)}.")] = "fast",
    source_epochs: Annotated[int | None, typer.Option(help="Epochs of the backbone.")] = None,
    scratch_recipe: Annotated[
        str, typer.Option(help="What trains from random weights; of the same list.")
    ] = "fast",
    train_limit: TrainLimit = None,
    test_limit: TestLimit = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs on the target, transferred and from scratch.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images per step on the target, likewise.")
    ] = None,
    image_size: ImageSize = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, or bf16 for mixed precision.")
    ] = None,
    threads: Threads = None,
    runs: Annotated[
        Path | None,
        typer.Option(help="Folder of the runs and bundles; default runs/transfer-<framework>."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of reports; this one becomes <out>/transfer.")
    ] = Path("report"),
) -> None:
    """Train on few images from a backbone that knows others, and from scratch; state the gain. It resumes.

    The limits are those of the target.
    """
    from training.reports.page import check_writable, publish  # noqa: PLC0415 - as in compare
    from training.reports.transfer import Seeded, gain_text, report_files, results  # noqa: PLC0415

    report = out / "transfer"
    check_writable(report)
    folder = (
        runs or Path("runs") / f"transfer-{framework}"
    ).resolve()  # runs record where their backbone is
    trained = []
    for seed in range(seeds):
        planned = make_config(
            "transfer",
            framework=framework,
            arch=arch,
            image_size=image_size,
            precision=precision,
            threads=threads,
            train_limit=train_limit,
            test_limit=test_limit,
            epochs=epochs,
            batch_size=batch_size,
            seed=seed,
        )
        network, alike = (
            {name: getattr(planned, name) for name in names} for names in (NETWORK, ALIKE)
        )
        base = make_config(
            source_recipe, **network, train_limit=0, test_limit=0, epochs=source_epochs, seed=seed
        )
        scratch = make_config(scratch_recipe, **alike, freeze_epochs=0, seed=seed)
        many, few = load_data(source, base), load_data(target, planned)
        if count := shared(many.train.pixels, few.test.pixels):
            console.print(
                f"Notice: {count:,} test images of {few.name} are training images of {many.name} too, "
                "which flatters the transfer.",
                markup=False,
            )
        backbone = _bundle(folder, f"source-{seed}", base, many, used_by=f"transferred-{seed}")
        transferred = replace(planned, init=str(backbone))
        made = {
            "source": backbone,
            "transferred": _bundle(folder, f"transferred-{seed}", transferred, few),
            "scratch": _bundle(folder, f"scratch-{seed}", scratch, few),
        }
        trained.append(Seeded(seed, {kind: read_manifest(path) for kind, path in made.items()}))
    record = results(trained)
    publish(report_files(record), report)
    for run in record["runs"]:
        console.print(
            f"seed {run['seed']}: {run['scratch']['value']:.2%} from scratch, {run['transferred']['value']:.2%} "
            f"transferred, {run['gain'] * 100:+.2f} points",
            markup=False,
        )
    console.print(f"Gain: {gain_text(record)}", markup=False)
    console.print(f"The page: {report / 'index.html'}", markup=False)


def _bundle(
    folder: Path, name: str, config: TrainConfig, data: DataSet, used_by: str | None = None
) -> Path:
    """The bundle `name` below `folder`: the one that is there, or trained, or trained on, now.

    Raises:
        ConfigError: it would be trained now, and the run `used_by` has begun from it as it was.
    """
    from training.reports.transfer import finished_bundle  # noqa: PLC0415 - as above

    models, run = folder / "models", folder / "runs" / name
    found = finished_bundle(models, name, run, config, data)
    if found is None and used_by is not None and (run.parent / used_by / RUN_FILE).exists():
        raise ConfigError(
            "The backbone would be trained on or anew, and a network has been transferred from it as it was. Use another "
            f"--runs folder, or remove this one. Received: {run.parent / used_by}"
        )
    console.print(f"{name}, {config.epochs} epochs: {found or run}", markup=False)
    return found or make_bundle(config, data, run=run, out=models, name=name, accelerated=False)
