"""`python -m training transfer --source FOLDER --target FOLDER --train-limit 400 --out report/`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bundle.format.manifest import read_manifest
from training.commands.make_bundle import make_bundle
from training.commands.options import (
    Framework,
    ImageSize,
    TestLimit,
    Threads,
    TrainLimit,
    command_line,
    console,
    load_data,
)
from training.config import RECIPES, TrainConfig, make_config
from training.data.dataset import DataSet
from training.data.duplicates import shared
from training.errors import ConfigError
from training.run import RUN_FILE

if TYPE_CHECKING:
    from training.reports.transfer import Seeded

# Options that the three recipes may not set differently: the network and its input, then also the
# images and the budget.
NETWORK = ("framework", "arch", "image_size", "precision", "threads")
ALIKE = (*NETWORK, "train_limit", "test_limit", "epochs", "batch_size", "validation_fraction")


def transfer(
    source: Annotated[str, typer.Option(help="Data with many images, to train the backbone.")],
    target: Annotated[str, typer.Option(help="Data with few images.")],
    framework: Framework = "torch",
    arch: Annotated[
        str | None, typer.Option(help="The network, one of those of `train`; default resnet20.")
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Number of repetitions, each with its own seed.")
    ] = 3,
    source_recipe: Annotated[str, typer.Option(help=f"One of {', '.join(RECIPES)}.")] = "fast",
    source_epochs: Annotated[int | None, typer.Option(help="Epochs of the backbone.")] = None,
    scratch_recipe: Annotated[
        str, typer.Option(help="Recipe of the training from random weights; of the same list.")
    ] = "fast",
    train_limit: TrainLimit = None,
    test_limit: TestLimit = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs on the target, transferred and from scratch.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images per step on the target, transferred or not.")
    ] = None,
    image_size: ImageSize = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, or bf16 for mixed precision.")
    ] = None,
    threads: Threads = None,
    runs: Annotated[
        Path | None,
        typer.Option(help="Folder for runs and bundles; default runs/transfer-<framework>."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for reports; this one is <out>/transfer.")
    ] = Path("report"),
) -> None:
    """Train on few images from a backbone that knows others, and from scratch; report the gain.

    The limits are those of the target. An interrupted run is resumed.
    """
    from training.reports.page import check_target, publish  # noqa: PLC0415 - as in compare
    from training.reports.transfer import gain_text, report_files, results  # noqa: PLC0415

    report = out / "transfer"
    check_target(report)
    # Resolved, because runs record the path of their backbone.
    folder = (runs or Path("runs") / f"transfer-{framework}").resolve()
    options = {
        "framework": framework,
        "arch": arch,
        "image_size": image_size,
        "precision": precision,
        "threads": threads,
        "train_limit": train_limit,
        "test_limit": test_limit,
        "epochs": epochs,
        "batch_size": batch_size,
    }
    experiment = Experiment(
        source, target, options, source_recipe, source_epochs, scratch_recipe, folder
    )
    record = results([experiment.run(seed) for seed in range(seeds)])
    publish(report_files(record), report)
    for run in record["runs"]:
        console.print(
            f"seed {run['seed']}: {run['scratch']['value']:.2%} from scratch, "
            f"{run['transferred']['value']:.2%} transferred, {run['gain'] * 100:+.2f} points",
            markup=False,
        )
    console.print(f"Gain: {gain_text(record)}", markup=False)
    console.print(f"Report: {report / 'index.html'}", markup=False)


@dataclass(frozen=True)
class Experiment:
    """Transfer against training from scratch, without the seed.

    Attributes:
        source, target: data sets with many and with few images, as for --data.
        options: of the training on the target, as for `make_config`; None: the recipe's.
        source_recipe, source_epochs: of the backbone.
        scratch_recipe: of the training from random weights.
        folder: for runs and bundles; absolute.
    """

    source: str
    target: str
    options: Mapping[str, Any]
    source_recipe: str
    source_epochs: int | None
    scratch_recipe: str
    folder: Path

    def run(self, seed: int) -> Seeded:
        """Train the three networks of `seed`, or resume them."""
        from training.reports.transfer import Seeded  # noqa: PLC0415 - as in compare

        transfer = make_config("transfer", **self.options, seed=seed)
        network, alike = (
            {name: getattr(transfer, name) for name in names} for names in (NETWORK, ALIKE)
        )
        source = make_config(
            self.source_recipe,
            **network,
            train_limit=0,
            test_limit=0,
            epochs=self.source_epochs,
            seed=seed,
        )
        scratch = make_config(self.scratch_recipe, **alike, probe=False, seed=seed)
        many, few = load_data(self.source, source), load_data(self.target, transfer)
        if count := shared(many.train.pixels, few.test.pixels):
            console.print(
                f"Notice: {count:,} test images of {few.name} are training images of {many.name} "
                "too, which flatters the transfer.",
                markup=False,
            )
        backbone = self._bundle(f"source-{seed}", source, many, used_by=f"transferred-{seed}")
        transfer = replace(transfer, init=str(backbone))
        bundles = {
            "source": backbone,
            "transferred": self._bundle(f"transferred-{seed}", transfer, few),
            "scratch": self._bundle(f"scratch-{seed}", scratch, few),
        }
        return Seeded(seed, {kind: read_manifest(path) for kind, path in bundles.items()})

    def _bundle(
        self, name: str, config: TrainConfig, data: DataSet, used_by: str | None = None
    ) -> Path:
        """The existing bundle `name`, or a new one from a new or a resumed run.

        Raises:
            ConfigError: it does not exist, but the run `used_by` was started from an earlier one.
        """
        from training.export.export import ExportOptions  # noqa: PLC0415 - as in compare
        from training.reports.transfer import finished_bundle  # noqa: PLC0415 - as in compare

        models, run = self.folder / "models", self.folder / "runs" / name
        found = finished_bundle(models, name, run, config, data)
        if found is None and used_by is not None and (run.parent / used_by / RUN_FILE).exists():
            raise ConfigError(
                "The backbone would be trained further or again, but a network has been "
                "transferred from it as it was. Use another --runs folder, or remove "
                f"{run.parent / used_by}."
            )
        console.print(f"{name}, {config.epochs} epochs: {found or run}", markup=False)
        options = ExportOptions(models, name, command_line(), accelerated=False)
        return found or make_bundle(config, data, run, options)
