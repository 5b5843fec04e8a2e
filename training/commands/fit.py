"""`python -m training fit --data FOLDER`: a model of a folder of images; all else is chosen."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from bundle.machine import available_memory, computes_in_bf16, usable_cores
from training.choose import Choice, Machine, choose, wanted_weights
from training.commands.make_bundle import make_bundle
from training.commands.options import (
    Accelerate,
    Framework,
    Out,
    Seed,
    SkipUnreadable,
    bundle_network,
    check_name,
    check_writable,
    command_line,
    console,
    data_name,
    default_name,
    load_backend,
    load_data,
)
from training.config import TrainConfig, make_config, network_options
from training.data.survey import Survey, survey
from training.errors import WeightsError
from training.run import recorded_config
from training.weights.initial import initial_path, read_initial
from training.weights.shipped import NETWORK, shipped_weights


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
            help="Initial weights: random, imagenet, a file, or a bundle folder; default for "
            "photos: those of the ImageNet model that ships with the project, or imagenet."
        ),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(help="The network, one of those of `train`; default: chosen by the data."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Max passes over the training images.")] = None,
    seed: Seed = None,
    threads: Annotated[
        int | None,
        typer.Option(help="Threads of the framework; default: the usable cores."),
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
    """Choose a configuration, say why, train, and write the bundle. The same command resumes."""
    given = {"arch": arch, "init": init, "epochs": epochs, "seed": seed, "threads": threads}
    overrides: dict[str, Any] = {"framework": framework}
    overrides |= {key: value for key, value in given.items() if value is not None}
    # It raises ConfigError for invalid options; `init` is checked with the architecture, later.
    make_config(**(overrides | {"init": None}))
    start = initial_path(init) if init else None
    if start is not None:
        overrides = bundle_network(start, arch) | overrides
    seen = survey(data)
    name = name or default_name(data_name(str(data)), framework)
    folder = run or Path("runs") / f"{name}-{seen.digest[:8]}"
    check_name(name)
    check_writable(out, "model repository")
    check_writable(folder, "run folder")
    config = recorded_config(folder)
    if config is None:
        config, choices = _choose(seen, overrides, out)
        _show(data, choices)
    else:
        config = dataclasses.replace(config, **overrides)
        initial_path(config.init)  # it raises ConfigError if the weights are gone
        console.print(f"Resuming in {folder} with the choices of its first start.", markup=False)
    data_set = load_data(str(data), config, skip_unreadable=skip_unreadable)
    # scipy takes seconds to import: not before the options are known to be valid.
    from training.export.export import ExportOptions  # noqa: PLC0415

    options = ExportOptions(out, name, command_line(), accelerated=accelerate)
    make_bundle(config, data_set, folder, options)


def _choose(seen: Survey, overrides: dict[str, Any], out: Path) -> tuple[TrainConfig, list[Choice]]:
    """The configuration; ImageNet weights that do not ship with the project are downloaded.

    Raises:
        ConfigError, DataError: see `choose`.
        WeightsError: weights that the user requested are not available.
    """
    # TensorFlow takes the number of threads once, so it is set before looking for a GPU.
    overrides = {"threads": usable_cores()} | overrides
    framework = overrides["framework"]
    backend = load_backend(make_config(framework=framework, threads=overrides["threads"]))
    machine = Machine(available_memory(), computes_in_bf16(), backend.devices.gpus() > 0)
    arch = wanted_weights(seen, overrides)
    if arch is None:
        return choose(seen, machine, overrides, imagenet=None)
    if "init" not in overrides and (shipped := shipped_weights(arch, out)) is not None:
        variant = {"variant": network_options(NETWORK)["variant"]}
        return choose(seen, machine, variant | overrides, imagenet=str(shipped))
    console.print(f"Looking for the ImageNet weights of {arch}.")
    try:
        imagenet = make_config(framework=framework, arch=arch, init="imagenet")
        read_initial(imagenet, backend.weights)
    except WeightsError as exc:
        if "init" in overrides:
            raise
        console.print(
            f"Notice: the network starts from random weights, which costs accuracy. {exc}",
            markup=False,
        )
        return choose(seen, machine, overrides, imagenet=None)
    return choose(seen, machine, overrides, imagenet="imagenet")


def _show(data: Path, choices: list[Choice]) -> None:
    table = Table(title=Text(f"What was chosen for {data}"), title_justify="left")
    for heading in ("", "choice", "why"):
        table.add_column(heading, overflow="fold")
    for choice in choices:
        table.add_row(*(Text(cell) for cell in (choice.what, choice.value, choice.why)))
    console.print(table)
