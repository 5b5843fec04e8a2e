"""Command line: `python -m training train|compare|degradation`; docs/training.md has an example of each."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bundle.errors import BundleError
from bundle.manifest import NAME_PATTERN
from training.config import ARCHITECTURES, RECIPES, TrainConfig, make_config
from training.data import DataSet, load_cifar10, load_folder
from training.errors import ConfigError, StorageError, TrainingError
from training.loop import train as run_training

MODULES = {"torch": "training.pytorch", "keras": "training.tensorflow"}
FRAMEWORK_NAMES = {"torch": "pytorch", "keras": "keras"}
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Train ResNets, write servable bundles, compare them."
)
console = Console(highlight=False, soft_wrap=True)


@app.callback()
def main() -> None:
    """Train ResNets, write servable bundles, compare them."""


@app.command()
def train(
    data: Annotated[str, typer.Option(help="A folder with one sub-folder per class, or `cifar10`.")],
    framework: Annotated[str, typer.Option(help="torch or keras.")] = "torch",
    arch: Annotated[str, typer.Option(help=f"One of {', '.join(ARCHITECTURES)}.")] = "resnet20",
    out: Annotated[Path, typer.Option(help="The model repository that gets the bundle.")] = Path("models"),
    name: Annotated[
        str | None, typer.Option(help="Name of the model; default <data>-<arch>-<framework>.")
    ] = None,
    recipe: Annotated[str, typer.Option(help=f"One of {', '.join(RECIPES)}.")] = "fast",
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the network's input, in pixels.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of initialisation, shuffling, augmentation and splits.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the framework; default: all cores.")] = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder of checkpoints and curves; default runs/<name>.")
    ] = None,
    golden_images: Annotated[
        Path | None,
        typer.Option(help="Folder of images for the golden samples; default: from the test split."),
    ] = None,
    skip_unreadable: Annotated[
        bool, typer.Option(help="Leave unreadable images out instead of stopping.")
    ] = False,
) -> None:
    """Train, evaluate through the exported artifact, and write the bundle. The same command resumes."""
    config = make_config(
        recipe,
        framework=framework,
        arch=arch,
        epochs=epochs,
        batch_size=batch_size,
        image_size=image_size,
        seed=seed,
        threads=threads,
    )
    data_set = _load(data, config, skip_unreadable)
    name = name or _default_name(data_set.name, config)
    _refuse_bad_target(out, name)
    folder = run or Path("runs") / name
    module = _framework(config)
    # scipy takes seconds to import: not before the options are known to be right.
    from training.export import export_bundle  # noqa: PLC0415

    mean, std = data_set.mean_and_std()
    trainer = module.Trainer(config, len(data_set.classes), mean, std)
    console.print(
        f"{config.arch} in {framework}: {trainer.parameters:,} parameters, {len(data_set.train):,} training images, "
        f"{len(data_set.classes)} classes. Checkpoints and curves: {folder} (tensorboard --logdir {folder})"
    )
    try:
        record = run_training(trainer, module.EventWriter, config, data_set, folder, console)
    except KeyboardInterrupt:
        console.print("Interrupted. The same command goes on after the last whole epoch.")
        raise typer.Exit(INTERRUPTED) from None
    exported = export_bundle(
        trainer,
        module,
        config,
        data_set,
        record,
        models=out,
        name=name,
        command=shlex.join(["python", "-m", "training", *sys.argv[1:]]),
        golden_folder=golden_images,
    )
    low, high = exported.interval
    before, after = exported.calibration_error
    console.print(
        f"{exported.path}: test accuracy {exported.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}, "
        f"{len(data_set.test):,} images) through the exported artifact; calibration error {before:.4f} before and "
        f"{after:.4f} after scaling; logits within {exported.max_logit_difference:.1e} of the network's."
    )
    console.print(f"Serve it: SERVICE_MODELS_DIR={out} python -m service")


@app.command()
def compare(
    models: Annotated[list[Path], typer.Argument(help="Model repositories or bundle folders.")],
    data: Annotated[str, typer.Option(help="The test images: a folder as `train` takes it, or `cifar10`.")],
    out: Annotated[Path, typer.Option(help="Folder of reports; this one becomes <out>/compare.")] = Path(
        "report"
    ),
    all_versions: Annotated[
        bool, typer.Option(help="Every version of a model, not its newest one only.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(help="At most so many test images, chosen with the seed.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split of a folder without one, and of --limit.")] = 0,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of the latency measurement.")] = 7,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of each model; default: its own.")
    ] = None,
) -> None:
    """Measure bundles on the same test images, through the served path, and write a page about them."""
    # scikit-learn and matplotlib take seconds to import: not before the options are known to be right.
    from training.compare import compare as measure  # noqa: PLC0415
    from training.compare import report_files  # noqa: PLC0415
    from training.report import publish, refuse_bad_target  # noqa: PLC0415

    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"The device is auto, cpu or cuda. Received: {device!r}")
    target = out / "compare"
    refuse_bad_target(target)
    try:
        record = measure(
            models,
            data,
            console,
            all_versions=all_versions,
            limit=limit,
            seed=seed,
            rounds=rounds,
            device=device,  # type: ignore[arg-type]
            threads=threads,
        )
    except KeyboardInterrupt:
        console.print("Interrupted. Nothing was written.")
        raise typer.Exit(INTERRUPTED) from None
    publish(report_files(record), target)
    for model in record["models"]:
        low, high = model["accuracy"]["interval_95"]
        console.print(
            f"{model['id']}: accuracy {model['accuracy']['value']:.2%} (95 % interval {low:.2%} to {high:.2%})",
            markup=False,
        )
    console.print(f"The page: {target / 'index.html'}", markup=False)


@app.command()
def degradation(
    data: Annotated[
        str | None,
        typer.Option(help="Train on this, as `train` takes it; left out: draw the runs there are."),
    ] = None,
    framework: Annotated[str, typer.Option(help="torch or keras.")] = "torch",
    recipe: Annotated[str, typer.Option(help=f"One of {', '.join(RECIPES)}.")] = "he2016",
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the network's input, in pixels.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of all four runs.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the framework; default: all cores.")] = None,
    runs: Annotated[
        Path | None,
        typer.Option(help="Folder of the four run folders; default runs/degradation-<framework>."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of reports; this one becomes <out>/degradation.")] = Path(
        "report"
    ),
) -> None:
    """Train plain-20/56 and ResNet-20/56 alike and draw their errors (He et al. 2016, Fig. 6). It resumes."""
    from training.degradation import NETWORKS, read_runs, report_files, results  # noqa: PLC0415 - as in compare
    from training.report import publish, refuse_bad_target  # noqa: PLC0415

    if data is None and runs is None:
        raise ConfigError("Expected --data, to train the networks, or --runs, to draw runs that exist.")
    target = out / "degradation"
    refuse_bad_target(target)
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
                seed=seed,
                threads=threads,
            )
            for arch in NETWORKS
        ]
        data_set = _load(data, configs[0], skip_unreadable=False)
        module = _framework(configs[0])
        mean, std = data_set.mean_and_std()
        try:
            for config in configs:
                console.print(f"{config.arch}, {config.epochs} epochs: {folder / config.arch}", markup=False)
                trainer = module.Trainer(config, len(data_set.classes), mean, std)
                run_training(
                    trainer,
                    module.EventWriter,
                    config,
                    data_set,
                    folder / config.arch,
                    console,
                    test_curve=True,
                )
        except KeyboardInterrupt:
            console.print("Interrupted. The same command goes on after the last whole epoch.")
            raise typer.Exit(INTERRUPTED) from None
    record = results(read_runs(folder))
    publish(report_files(record), target)
    for network in record["networks"]:
        console.print(
            f"{network['name']}: training error {network['training_error']:.2%} after {network['epochs']} epochs"
            + ("" if network["test_error"] is None else f", test error {network['test_error']:.2%}"),
            markup=False,
        )
    console.print(f"The page: {target / 'index.html'}", markup=False)


def _load(data: str, config: TrainConfig, skip_unreadable: bool) -> DataSet:
    if data == "cifar10" and not Path(data).is_dir():
        if config.image_size != 32:
            raise ConfigError(
                f"cifar10 by name comes at 32 pixels. Received: --image-size {config.image_size}"
            )
        return load_cifar10(Path("data"), validation_fraction=config.validation_fraction, seed=config.seed)
    data_set = load_folder(
        Path(data),
        image_size=config.image_size,
        validation_fraction=config.validation_fraction,
        seed=config.seed,
        skip_unreadable=skip_unreadable,
    )
    for line in data_set.skipped:
        console.print(f"Skipped: {line}")
    return data_set


def _refuse_bad_target(out: Path, name: str) -> None:
    """Find out before the training, not after it, that its result could not be written."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(f"A model name matches {NAME_PATTERN}. Received: {name!r}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as exc:
        raise StorageError(f"The folder for the bundle can't be written to: {exc}.") from exc


def _default_name(data_name: str, config: TrainConfig) -> str:
    """A valid model name from the folder's: `My Photos` with resnet20 in torch gives my-photos-resnet20-pytorch."""
    base = re.sub(r"[^a-z0-9._-]+", "-", data_name.lower()).strip("-._") or "model"
    return f"{base[:32]}-{config.arch}-{FRAMEWORK_NAMES[config.framework]}"


def _framework(config: TrainConfig) -> Any:
    try:
        return importlib.import_module(MODULES[config.framework])
    except ModuleNotFoundError as exc:
        raise ConfigError(
            f"--framework {config.framework} needs the package {exc.name}, which is not installed. "
            f"Install the extra: pip install '.[{'torch' if config.framework == 'torch' else 'tensorflow'},training]'"
        ) from exc


def run() -> None:
    """Run the command line; errors that a user can mend are printed without a traceback, exit code 1."""
    try:
        app()
    except (TrainingError, BundleError) as exc:
        Console(stderr=True, highlight=False).print(f"[bold red]Error:[/] {exc}", soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    run()
