"""`python -m training train --framework torch|keras --arch resnet20 --data FOLDER`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from training.commands.devices import on_devices
from training.commands.make_bundle import make_bundle
from training.commands.options import (
    Accelerate,
    Framework,
    ImageSize,
    Out,
    Seed,
    SkipUnreadable,
    TestLimit,
    Threads,
    TrainLimit,
    Variant,
    check_name,
    check_writable,
    command_line,
    console,
    data_name,
    default_name,
    load_data,
)
from training.config import ARCHITECTURES, make_config
from training.recipes import RECIPES
from training.weights.initial import initial_path

MAX_VALIDATION = 0.1  # share of the training images, unless --validation-fraction is given


def train(
    data: Annotated[
        str, typer.Option(help="A folder with one sub-folder per class, or `cifar10`.")
    ],
    framework: Framework = "torch",
    arch: Annotated[
        str | None,
        typer.Option(
            help=f"One of {', '.join(ARCHITECTURES['keras'])}, the v2 ones in Keras only; "
            "default resnet20."
        ),
    ] = None,
    variant: Variant = None,
    out: Out = Path("models"),
    name: Annotated[
        str | None, typer.Option(help="Name of the model; default <data>-<arch>-<framework>.")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Initial weights: random, imagenet, a file, or a bundle folder; default random."
        ),
    ] = None,
    recipe: Annotated[str, typer.Option(help=f"One of {', '.join(RECIPES)}.")] = "fast",
    probe: Annotated[
        bool | None,
        typer.Option(
            help="Start with a linear probe: fit only the classifier, on features computed once, "
            "in place of the first epoch; --epochs 1 is a probe alone. Default: the recipe's."
        ),
    ] = None,
    train_limit: TrainLimit = None,
    test_limit: TestLimit = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Peak learning rate of SGD. Recipes with muon (fast, seed-resnet18) train only "
            "biases, normalisation and the classifier with SGD; the convolutions have muon's rate."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step.")] = None,
    image_size: ImageSize = None,
    validation_fraction: Annotated[
        float | None,
        typer.Option(
            help="Share of the training images held out to calibrate on; default 0.02, and up to "
            "0.1 of few images."
        ),
    ] = None,
    seed: Seed = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="fp32, or bf16 for mixed precision, the default where the processor or a GPU has "
            "instructions for it; the export is fp32."
        ),
    ] = None,
    threads: Threads = None,
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
    skip_unreadable: SkipUnreadable = False,
    accelerate: Accelerate = True,
) -> None:
    """Train, evaluate the exported artifact, and write the bundle. The same command resumes."""
    config = make_config(
        recipe,
        framework=framework,
        arch=arch,
        variant=variant,
        init=init,
        probe=probe,
        learning_rate=learning_rate,
        train_limit=train_limit,
        test_limit=test_limit,
        epochs=epochs,
        batch_size=batch_size,
        image_size=image_size,
        validation_fraction=validation_fraction,
        seed=seed,
        precision=precision,
        threads=threads,
    )
    # Every check comes before minutes of reading images.
    initial_path(config.init)
    name = name or default_name(data_name(data), framework, config.arch)
    run = run or Path("runs") / name
    check_name(name)
    check_writable(out, "model repository")
    check_writable(run, "run folder")
    # scipy takes seconds to import: not before the options are known to be valid.
    from training.export.export import ExportOptions  # noqa: PLC0415
    from training.export.golden import read_golden  # noqa: PLC0415

    golden = read_golden(golden_images) if golden_images else None
    options = ExportOptions(out, name, command_line(), golden, accelerate)
    config = on_devices(config, devices)
    if learning_rate is not None and config.optimizer == "muon":
        console.print(
            "Notice: --learning-rate applies to biases, normalisation and the classifier; muon "
            f"trains the convolutions at its own rate, {config.muon_learning_rate:g}."
        )
    max_validation = MAX_VALIDATION if validation_fraction is None else validation_fraction
    data_set = load_data(
        data, config, skip_unreadable=skip_unreadable, max_validation=max_validation
    )
    config = dataclasses.replace(config, validation_fraction=data_set.validation_fraction)
    make_bundle(config, data_set, run, options)
