"""Command line: `python -m training train --framework torch|keras --arch resnet20 --data FOLDER --out models/`.

The other commands are in `training/cli_<command>.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bundle.errors import BundleError
from training.cli_common import (
    INTERRUPTED,
    command_line,
    console,
    default_name,
    load_data,
    load_framework,
    refuse_bad_target,
)
from training.cli_compare import compare
from training.cli_degradation import degradation
from training.cli_devices import on_devices
from training.cli_pretrained import pretrained
from training.config import ARCHITECTURES, RECIPES, make_config
from training.errors import TrainingError
from training.initial import initial_path, read_initial
from training.loop import train as run_training

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Train ResNets, write servable bundles, compare them."
)
for command in (pretrained, compare, degradation):
    app.command()(command)


@app.callback()
def main() -> None:
    """Train ResNets, write servable bundles, compare them."""


@app.command()
def train(
    data: Annotated[str, typer.Option(help="A folder with one sub-folder per class, or `cifar10`.")],
    framework: Annotated[str, typer.Option(help="torch or keras.")] = "torch",
    arch: Annotated[
        str | None,
        typer.Option(
            help=f"One of {', '.join(ARCHITECTURES['keras'])}, the v2 ones in Keras only; default resnet20."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The model repository that gets the bundle.")] = Path("models"),
    name: Annotated[
        str | None, typer.Option(help="Name of the model; default <data>-<arch>-<framework>.")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="First weights: random, imagenet, a file, or the folder of a bundle; default random."
        ),
    ] = None,
    recipe: Annotated[str, typer.Option(help=f"One of {', '.join(RECIPES)}.")] = "fast",
    freeze_epochs: Annotated[
        int | None,
        typer.Option(help="Epochs at the start in which only the classifier trains; all: a linear probe."),
    ] = None,
    finetune_factor: Annotated[
        float | None, typer.Option(help="Share of the learning rate in the epochs after those.")
    ] = None,
    train_limit: Annotated[
        int | None, typer.Option(help="Most training images, drawn by class with the seed; 0: all.")
    ] = None,
    test_limit: Annotated[
        int | None, typer.Option(help="Most test images, drawn by class with the seed; 0: all.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the network's input, in pixels.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of initialisation, shuffling, augmentation and splits.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, or bf16 for mixed precision; the export is fp32.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the framework; default: all cores.")] = None,
    devices: Annotated[
        str, typer.Option(help="Devices that share each batch: a number, or auto for every GPU.")
    ] = "1",
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
        init=init,
        freeze_epochs=freeze_epochs,
        finetune_factor=finetune_factor,
        train_limit=train_limit,
        test_limit=test_limit,
        epochs=epochs,
        batch_size=batch_size,
        image_size=image_size,
        seed=seed,
        precision=precision,
        threads=threads,
    )
    initial_path(config.init)  # before minutes of reading images
    # Likewise the pictures that are needed at the end. scipy takes seconds to import: not before the options are right.
    from training.export import export_bundle, read_golden  # noqa: PLC0415

    golden = read_golden(golden_images) if golden_images else None
    config = on_devices(config, devices)
    data_set = load_data(data, config, skip_unreadable=skip_unreadable)
    for note in data_set.notes:
        console.print(f"Note: {note}", markup=False)
    name = name or default_name(data_set.name, config)
    refuse_bad_target(out, name)
    folder = run or Path("runs") / name
    module, weights = load_framework(config)
    mean, std = data_set.mean_and_std()
    initial = read_initial(config, weights).for_labels(data_set.classes)
    trainer = module.Trainer(config, len(data_set.classes), mean, std, initial)
    console.print(
        f"{config.arch} in {framework}: {trainer.parameters:,} parameters, {len(data_set.train):,} training images, "
        f"{len(data_set.classes)} classes. Checkpoints and curves: {folder} (tensorboard --logdir {folder})"
    )
    if config.freeze_epochs and config.init == "random":
        console.print(
            "Notice: the backbone is frozen at random weights. --init imagenet, a file or a bundle starts from better ones."
        )
    try:
        record = run_training(trainer, module.EventWriter, config, data_set, folder, console)
    except KeyboardInterrupt:
        console.print("Interrupted. The same command goes on after the last whole epoch.")
        raise typer.Exit(INTERRUPTED) from None
    if module.devices.leave():
        raise typer.Exit
    exported = export_bundle(
        trainer,
        module,
        config,
        data_set,
        record,
        models=out,
        name=name,
        command=command_line(),
        golden=golden,
    )
    low, high = exported.interval
    before, after = exported.calibration_error
    console.print(
        f"{exported.path}: test accuracy {exported.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}, "
        f"{len(data_set.test):,} images) through the exported artifact; calibration error {before:.4f} before and "
        f"{after:.4f} after scaling; logits within {exported.max_logit_difference:.1e} of the network's."
    )
    console.print(f"Serve it: SERVICE_MODELS_DIR={out} python -m service")


def run() -> None:
    """Run the command line; errors that a user can mend are printed without a traceback, exit code 1."""
    try:
        app()
    except (TrainingError, BundleError) as exc:
        Console(stderr=True, highlight=False, quiet=console.quiet).print(
            f"[bold red]Error:[/] {exc}", soft_wrap=True
        )
        sys.exit(1)


if __name__ == "__main__":
    run()
