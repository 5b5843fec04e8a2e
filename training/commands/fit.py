"""`python -m training fit --data FOLDER`: a folder of images to a served model, with everything else chosen."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from bundle.format.manifest import read_manifest
from bundle.machine import available_memory, computes_in_bf16, usable_cores
from training.choose import Choice, Machine, choose, wanted_weights
from training.commands.make_bundle import make_bundle
from training.commands.options import (
    Accelerate,
    Framework,
    Out,
    Seed,
    SkipUnreadable,
    check_writable,
    console,
    default_name,
    load_backend,
    load_data,
)
from training.config import TrainConfig, make_config
from training.data.survey import Survey, survey
from training.errors import WeightsError
from training.run import recorded_config
from training.weights.initial import initial_path, read_initial


def fit(
    data: Annotated[Path, typer.Option(help="A folder with one sub-folder of images per class.")],
    framework: Framework = "torch",
    out: Out = Path("models"),
    name: Annotated[
        str | None, typer.Option(help="Name of the model; default <data>-pytorch or <data>-keras.")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="First weights: random, imagenet, a file, or the folder of a bundle; default: imagenet for photos, "
            "if the weights can be had."
        ),
    ] = None,
    arch: Annotated[
        str | None, typer.Option(help="The network, as in `train`; default: chosen.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Most passes over the training images.")
    ] = None,
    seed: Seed = None,
    threads: Annotated[
        int | None,
        typer.Option(help="Threads of the framework; default: the cores that are free to use."),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Folder of checkpoints and curves; default runs/<name>-<digest of the data>."
        ),
    ] = None,
    skip_unreadable: SkipUnreadable = False,
    accelerate: Accelerate = True,
) -> None:
    """Choose everything for a folder of images, say why, train, and write the bundle. The same command resumes."""
    options = {"arch": arch, "init": init, "epochs": epochs, "seed": seed, "threads": threads}
    said = {"framework": framework} | {
        key: value for key, value in options.items() if value is not None
    }
    make_config(
        **{key: value for key, value in said.items() if key != "init"}
    )  # refuses what is no option
    start = initial_path(init) if init else None
    if start is not None and start.is_dir():
        manifest = read_manifest(start)
        said = {"arch": manifest.architecture.name, "image_size": manifest.input.height} | said
    seen = survey(data)
    name = name or default_name(data.resolve().name, framework)
    check_writable(out, name)
    folder = run or Path("runs") / f"{name}-{seen.digest[:8]}"
    config = recorded_config(folder)
    if config is None:
        config, choices = _choose(seen, said)
        _show(data, choices)
    else:
        config = dataclasses.replace(config, **said)
        console.print(f"Going on in {folder} with what was chosen when it began.", markup=False)
    data_set = load_data(str(data), config, skip_unreadable=skip_unreadable)
    make_bundle(config, data_set, run=folder, out=out, name=name, accelerated=accelerate)


def _choose(seen: Survey, said: dict[str, Any]) -> tuple[TrainConfig, list[Choice]]:
    """The configuration; on the way there the weights are fetched, if they are wanted and can be had.

    Raises:
        ConfigError, DataError: see `choose`.
        WeightsError: weights that the user asked for can't be had.
    """
    # TensorFlow takes the number of threads once, so it is settled before the framework is asked about a GPU.
    said = {"threads": usable_cores()} | said
    backend = load_backend(make_config(framework=said["framework"], threads=said["threads"]))
    machine = Machine(available_memory(), computes_in_bf16(), backend.devices.gpus() > 0)
    arch = wanted_weights(seen, machine, said)
    if arch is None:
        return choose(seen, machine, said, imagenet=False)
    console.print(f"Looking for the ImageNet weights of {arch}.")
    try:
        read_initial(
            make_config(framework=said["framework"], arch=arch, init="imagenet"), backend.weights
        )
    except WeightsError as exc:
        if "init" in said:
            raise
        console.print(
            f"Notice: the network starts from random weights, which costs accuracy. {exc}",
            markup=False,
        )
        return choose(seen, machine, said, imagenet=False)
    return choose(seen, machine, said, imagenet=True)


def _show(data: Path, choices: list[Choice]) -> None:
    table = Table(title=Text(f"What was chosen for {data}"), title_justify="left")
    for heading in ("", "choice", "why"):
        table.add_column(heading, overflow="fold")
    for choice in choices:
        table.add_row(*(Text(cell) for cell in (choice.what, choice.value, choice.why)))
    console.print(table)
