"""What the commands of `python -m training` share."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bundle import files
from bundle.format.manifest import NAME_PATTERN, read_manifest
from training.backend import Backend
from training.config import TrainConfig
from training.data.dataset import DataSet
from training.data.load import load_cifar10, load_folder
from training.errors import ConfigError, StorageError

FRAMEWORK_NAMES = {"torch": "pytorch", "keras": "keras"}

Framework = Annotated[str, typer.Option(help="torch or keras.")]
Threads = Annotated[int | None, typer.Option(help="Threads of the framework; default: all cores.")]
Out = Annotated[Path, typer.Option(help="The model repository that gets the bundle.")]
Seed = Annotated[
    int | None, typer.Option(help="Of initialisation, shuffling, augmentation and splits.")
]
TrainLimit = Annotated[
    int | None, typer.Option(help="Most training images, drawn by class with the seed; 0: all.")
]
TestLimit = Annotated[
    int | None, typer.Option(help="Most test images, drawn by class with the seed; 0: all.")
]
ImageSize = Annotated[int | None, typer.Option(help="Side of the network's input, in pixels.")]
SkipUnreadable = Annotated[
    bool, typer.Option(help="Leave unreadable images out instead of stopping.")
]
Accelerate = Annotated[
    bool,
    typer.Option(
        "--accelerate/--no-accelerate",
        envvar="TRAINING_ACCELERATE",
        help="Add faster artifacts, OpenVINO's and in half precision, and measure them; a minute or a few.",
    ),
]
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it

console = Console(highlight=False, soft_wrap=True)


def interrupted() -> typer.Exit:
    """What a command raises after Ctrl-C, which has kept all whole epochs."""
    console.print("Interrupted. The same command goes on after the last whole epoch.")
    return typer.Exit(INTERRUPTED)


def command_line() -> str:
    """The command that runs, for the manifest."""
    return shlex.join(["python", "-m", "training", *sys.argv[1:]])


def load_data(
    data: str, config: TrainConfig, *, skip_unreadable: bool = False, max_validation: float = 0.0
) -> DataSet:
    """The data set that --data names: a folder of class folders, or `cifar10` where no folder has that name.

    Args:
        max_validation: as for `load_folder`.

    Raises:
        DataError: it can't be used.
    """
    names = ("image_size", "validation_fraction", "seed", "train_limit", "test_limit")
    options = {name: getattr(config, name) for name in names} | {"max_validation": max_validation}
    if data == "cifar10" and not Path(data).is_dir():
        return load_cifar10(Path("data"), **options)
    return load_folder(Path(data), **options, skip_unreadable=skip_unreadable)


def load_backend(config: TrainConfig) -> Backend:
    """Import the framework of `config` and set its number of threads.

    Raises:
        ConfigError: the framework is not installed.
    """
    try:
        backend = _import_backend(config.framework)
    except ModuleNotFoundError as exc:
        extra = "torch" if config.framework == "torch" else "tensorflow"
        raise ConfigError(
            f"--framework {config.framework} needs the package {exc.name}, which is not installed. "
            f"Install the extra: pip install '.[{extra},training]'"
        ) from exc
    backend.set_threads(config.threads)  # TensorFlow accepts it only before its first operation
    return backend


def _import_backend(framework: str) -> Backend:
    if framework == "torch":
        from training.torch import backend as pytorch  # noqa: PLC0415 - one framework a process

        return pytorch
    from training.keras import backend as keras  # noqa: PLC0415 - one framework a process

    return keras


def check_writable(out: Path, name: str) -> None:
    """Find out before the work, not after it, that its result could not be written.

    Raises:
        ConfigError: `name` is no name of a model.
        StorageError: the folder can't be written to.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(f"A model name matches {NAME_PATTERN}. Received: {name!r}")
    try:
        files.check_writable(out)
    except OSError as exc:
        raise StorageError(f"The folder for the bundle can't be written to: {exc}.") from exc


def default_name(data_name: str, framework: str, arch: str | None = None) -> str:
    """A valid model name from the data's: `My Photos` with resnet20 in torch gives my-photos-resnet20-pytorch."""
    base = re.sub(r"[^a-z0-9._-]+", "-", data_name.lower()).strip("-._") or "model"
    return "-".join(filter(None, (base[:32], arch, FRAMEWORK_NAMES[framework])))


def print_artifacts(path: Path, serving: str, notes: Sequence[str]) -> None:
    """Print the artifacts of the bundle in `path`, which a service on a CPU takes, and `notes`."""
    artifacts = read_manifest(path).artifacts
    console.print(f"Artifacts: {', '.join(artifact.id for artifact in artifacts)}", markup=False)
    for line in (f"A service on a CPU takes {serving}", *notes):
        console.print(line, markup=False)


def print_serve_command(out: Path, name: str, image: Path | None = None) -> None:
    """Print the command that serves the model `name` of the repository `out`, and one that asks it about `image`."""
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    settings = {"SERVICE_MODELS_DIR": out, "SERVICE_DEFAULT_MODEL": name}
    assignments = " ".join(f"{key}={shlex.quote(str(value))}" for key, value in settings.items())
    console.print(f"Serve it: {assignments} {shlex.quote(str(python))} -m service", markup=False)
    if image is not None and image.is_file():
        ask = shlex.join(["curl", "-F", f"file=@{image}", "http://127.0.0.1:8000/predict"])
        console.print(f"Ask it: {ask}", markup=False)
