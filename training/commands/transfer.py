"""`python -m training transfer --target FOLDER`, with `--source FOLDER` or `--init WEIGHTS`."""

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
    bundle_network,
    command_line,
    console,
    load_data,
)
from training.config import TrainConfig, make_config
from training.data.dataset import DataSet
from training.data.duplicates import shared
from training.errors import ConfigError
from training.recipes import RECIPES
from training.run import RUN_FILE
from training.weights.initial import initial_path

if TYPE_CHECKING:
    from training.reports.transfer import Seeded

# Options that the three recipes may not set differently: the network and its input, then also the
# images, what is drawn of them, and the budget.
NETWORK = ("framework", "arch", "image_size", "precision", "threads")
ALIKE = (
    *(*NETWORK, "variant", "train_limit", "test_limit", "epochs", "batch_size"),
    *("validation_fraction", "augment", "small_crop", "small_crop_fraction"),
)


def transfer(
    target: Annotated[str, typer.Option(help="Data with few images.")],
    source: Annotated[
        str | None, typer.Option(help="Data with many images, to train the backbone.")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Weights in place of --source: imagenet, a file, or a bundle folder. A linear "
            "probe on them is compared too."
        ),
    ] = None,
    framework: Framework = "torch",
    arch: Annotated[
        str | None,
        typer.Option(
            help="The network, one of those of `train`; default that of the bundle, or resnet20."
        ),
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
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate of the transfer.")
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
    """Train on few images from weights that know others, and from scratch; report the gain.

    The limits are those of the target. An interrupted run is resumed.
    """
    if (source is None) == (init is None):
        raise ConfigError(
            "Transfer starts from a backbone that it trains, or from weights. Expected --source or "
            f"--init. Received: {'neither' if source is None else 'both'}"
        )
    if init == "random":
        raise ConfigError(
            "Training from random weights is the comparison, which is always made. Expected --init "
            "imagenet, a file, or a bundle folder. Received: random"
        )
    from training.reports.page import check_target, publish  # noqa: PLC0415 - as in compare
    from training.reports.transfer import report_files, results, summary  # noqa: PLC0415

    report = out / "transfer"
    check_target(report)
    # Resolved, because runs record the path of their backbone.
    folder = (runs or Path("runs") / f"transfer-{framework}").resolve()
    options = _network(init, arch, image_size) | {
        "framework": framework,
        "precision": precision,
        "threads": threads,
        "train_limit": train_limit,
        "test_limit": test_limit,
        "epochs": epochs,
        "batch_size": batch_size,
    }
    experiment = Experiment(
        Origin(source, source_recipe, source_epochs, init),
        target,
        options,
        learning_rate,
        scratch_recipe,
        folder,
    )
    record = results([experiment.run(seed) for seed in range(seeds)])
    publish(report_files(record), report)
    for line in summary(record):
        console.print(line, markup=False)
    console.print(f"Report: {report / 'index.html'}", markup=False)


def _network(init: str | None, arch: str | None, image_size: int | None) -> dict[str, Any]:
    """The options of the network and its weights: those of a bundle, unless others are given.

    Raises:
        ConfigError: there are no such weights.
    """
    start = initial_path(init) if init else None
    network = bundle_network(start, arch) if start is not None else {}
    given = {
        "arch": arch,
        "image_size": image_size,
        "init": str(start.resolve()) if start else init,
    }
    return network | {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Origin:
    """Where the backbone comes from.

    Attributes:
        source: data set with many images, as for --data; None: from `init`.
        recipe, epochs: of the backbone that is trained on it.
        init: as for `train`; None: from `source`.
    """

    source: str | None
    recipe: str
    epochs: int | None
    init: str | None


@dataclass(frozen=True)
class Experiment:
    """Transfer against training from scratch, without the seed.

    Attributes:
        origin: of the backbone.
        target: data set with few images, as for --data.
        options: of the training on the target, as for `make_config`; None: the recipe's.
        learning_rate: of the transfer; None: the recipe's.
        scratch_recipe: of the training from random weights.
        folder: for runs and bundles; absolute.
    """

    origin: Origin
    target: str
    options: Mapping[str, Any]
    learning_rate: float | None
    scratch_recipe: str
    folder: Path

    def run(self, seed: int) -> Seeded:
        """Train the three networks of `seed`, or resume them.

        Raises:
            ConfigError: a linear probe is all of the transfer.
        """
        from training.reports.transfer import Seeded  # noqa: PLC0415 - as in compare

        transfer = make_config(
            "transfer", **self.options, learning_rate=self.learning_rate, seed=seed
        )
        if self.origin.init and transfer.epochs == 1:
            raise ConfigError(
                "The first epoch is the linear probe, which the others are compared with. Expected "
                "--epochs of at least 2. Received: 1"
            )
        alike = {name: getattr(transfer, name) for name in ALIKE}
        scratch = make_config(self.scratch_recipe, **alike, probe=False, seed=seed)
        few = load_data(self.target, transfer)
        bundles, tuned = {}, f"transferred-{seed}"
        if self.origin.source is not None:
            bundles["source"] = backbone = self._backbone(transfer, few)
            transfer = replace(transfer, init=str(backbone))
        else:
            probe = replace(transfer, epochs=1)
            bundles["probe"] = probed = self._bundle(f"probe-{seed}", probe, few, used_by=tuned)
            # As in one run, where the probe is the first epoch.
            transfer = replace(transfer, init=str(probed), probe=False, epochs=transfer.epochs - 1)
        bundles["transferred"] = self._bundle(tuned, transfer, few)
        bundles["scratch"] = self._bundle(f"scratch-{seed}", scratch, few)
        return Seeded(seed, {kind: read_manifest(path) for kind, path in bundles.items()})

    def _backbone(self, transfer: TrainConfig, few: DataSet) -> Path:
        """The bundle of the network that is trained on the source."""
        source, seed = str(self.origin.source), transfer.seed
        config = make_config(
            self.origin.recipe,
            **{name: getattr(transfer, name) for name in NETWORK},
            train_limit=0,
            test_limit=0,
            epochs=self.origin.epochs,
            seed=seed,
        )
        many = load_data(source, config)
        if count := shared(many.train.pixels, few.test.pixels):
            console.print(
                f"Notice: {count:,} test images of {few.name} are training images of {many.name} "
                "too, which flatters the transfer.",
                markup=False,
            )
        return self._bundle(f"source-{seed}", config, many, used_by=f"transferred-{seed}")

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
                "What was transferred would be trained further or again, but a network has been "
                "transferred from it as it was. Use another --runs folder, or remove "
                f"{run.parent / used_by}."
            )
        console.print(f"{name}, {config.epochs} epochs: {found or run}", markup=False)
        options = ExportOptions(models, name, command_line(), accelerated=False)
        return found or make_bundle(config, data, run, options)
