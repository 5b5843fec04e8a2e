"""Options, checks and messages that the commands of `python -m training` share."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bundle import files
from bundle.format.manifest import NAME_PATTERN, read_manifest
from training.backend import Backend
from training.config import TrainConfig, network_options
from training.data.dataset import DataSet
from training.data.load import load_cifar10, load_folder
from training.data.splits import SplitOptions
from training.errors import ConfigError, DataError, StorageError
from training.frameworks import FRAMEWORKS

CIFAR10 = "cifar10"  # --data, unless there is a folder of that name
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it

Framework = Annotated[str, typer.Option(help="torch or keras.")]
Threads = Annotated[int | None, typer.Option(help="Threads of the framework; default: all cores.")]
Out = Annotated[Path, typer.Option(help="Model repository that the bundle is written to.")]
Seed = Annotated[
    int | None, typer.Option(help="Seed of initialisation, shuffling, augmentation and splits.")
]
TrainLimit = Annotated[
    int | None, typer.Option(help="Max training images, stratified, drawn with the seed; 0: all.")
]
TestLimit = Annotated[
    int | None, typer.Option(help="Max test images, stratified, drawn with the seed; 0: all.")
]
ImageSize = Annotated[int | None, typer.Option(help="Side of the network's input, in pixels.")]
SkipUnreadable = Annotated[
    bool, typer.Option(help="Leave unreadable images out instead of stopping.")
]
Variant = Annotated[
    str | None,
    typer.Option(
        help="Of resnet50, resnet101 and resnet152: v1.5, as torchvision's, or v1, as those of He "
        "et al. and keras.applications; default v1.5 in torch, v1 in keras, which has no other."
    ),
]
Accelerate = Annotated[
    bool,
    typer.Option(
        "--accelerate/--no-accelerate",
        envvar="TRAINING_ACCELERATE",
        help="Add faster artifacts (OpenVINO, half precision) and measure them: a few minutes.",
    ),
]

console = Console(highlight=False, soft_wrap=True)


def interrupted() -> typer.Exit:
    """The exit of a command after Ctrl-C, which has kept every completed epoch."""
    console.print("Interrupted. The same command resumes after the last completed epoch.")
    return typer.Exit(INTERRUPTED)


def command_line() -> str:
    """The command that runs, for the manifest."""
    return shlex.join(["python", "-m", "training", *sys.argv[1:]])


def data_name(data: str) -> str:
    """The name of the data set `--data`, without reading it.

    Raises:
        DataError: there is no such data set.
    """
    folder = Path(data)
    if folder.is_dir():
        return folder.resolve().name
    if data != CIFAR10:
        raise DataError(
            f"There is no folder {data!r}. Expected a folder with one sub-folder per class."
        )
    return CIFAR10


def load_data(
    data: str, config: TrainConfig, *, skip_unreadable: bool = False, max_validation: float = 0.0
) -> DataSet:
    """The data set `--data`: a folder of class folders, or `cifar10` where no folder has that name.

    Args:
        data: the option.
        config: its image size, limits, validation share and seed apply.
        skip_unreadable: as for `load_folder`.
        max_validation: see `SplitOptions`.

    Raises:
        DataError: it can't be used.
    """
    options = SplitOptions(
        image_size=config.image_size,
        validation_fraction=config.validation_fraction,
        max_validation=max_validation,
        seed=config.seed,
        train_limit=config.train_limit,
        test_limit=config.test_limit,
    )
    if data == CIFAR10 and not Path(data).is_dir():
        return load_cifar10(Path("data"), options)
    return load_folder(Path(data), options, skip_unreadable=skip_unreadable)


def bundle_network(start: Path, arch: str | None) -> dict[str, Any]:
    """The options of the network of a bundle to start from; none of a file of weights.

    Args:
        start: A folder or a file.
        arch: The requested network; of another one than the bundle's only the image size is taken.
    """
    if not start.is_dir():
        return {}
    manifest = read_manifest(start)
    network = network_options(str(manifest.architecture.name))
    if arch not in (None, network["arch"]):
        network = {}
    return network | {"image_size": manifest.input.height}


def load_backend(config: TrainConfig) -> Backend:
    """Import the framework of `config` and set its number of threads.

    Raises:
        ConfigError: the framework is not installed.
    """
    framework = FRAMEWORKS[config.framework]
    try:
        backend = _import_backend(framework.option)
    except ModuleNotFoundError as exc:
        raise ConfigError(
            f"--framework {framework.option} needs the package {exc.name}, which is not installed. "
            f"Install the extra: pip install '.[{framework.extra},training]'"
        ) from exc
    backend.set_threads(config.threads)  # TensorFlow accepts it only before its first operation
    return backend


def _import_backend(option: str) -> Backend:
    if option == "torch":
        from training.torch import backend as pytorch  # noqa: PLC0415 - one framework a process

        return pytorch
    from training.keras import backend as keras  # noqa: PLC0415 - one framework a process

    return keras


def check_name(name: str) -> None:
    """Check the name of a model.

    Raises:
        ConfigError: it is none.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(f"A model name matches {NAME_PATTERN}. Received: {name!r}")


def check_writable(folder: Path, what: str) -> None:
    """Create `folder` and check, before any work, that results can be written to it.

    Raises:
        StorageError: it can't be written to; `what` names it in the message.
    """
    try:
        files.check_writable(folder)
    except OSError as exc:
        reason = exc.strerror
        if folder.is_symlink() and not folder.exists():
            reason = f"it is a link to {str(folder.readlink())!r}, which leads nowhere"
        elif folder.is_file():
            reason = "it is a file"
        raise StorageError(
            f"The {what} can't be written to: {reason}. Choose another folder, or fix this one. "
            f"Received: {str(folder)!r}"
        ) from exc


def default_name(data_name: str, framework: str, arch: str | None = None) -> str:
    """A model name: `My Photos` with resnet20 in torch gives my-photos-resnet20-pytorch."""
    base = re.sub(r"[^a-z0-9._-]+", "-", data_name.lower()).strip("-._") or "model"
    return "-".join(filter(None, (base[:32], arch, FRAMEWORKS[framework].model_suffix)))


def print_artifacts(path: Path, serving: str, notes: Sequence[str]) -> None:
    """Print the artifacts of the bundle in `path`, the one that a CPU runs, and `notes`."""
    artifacts = read_manifest(path).artifacts
    console.print(f"Artifacts: {', '.join(artifact.id for artifact in artifacts)}", markup=False)
    for line in (f"A service on a CPU takes {serving}", *notes):
        console.print(line, markup=False)


def print_serve_command(out: Path, name: str, image: Path | None = None) -> None:
    """Print a command that serves `out`/`name`, and one that classifies `image`."""
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    settings = {"SERVICE_MODELS_DIR": out, "SERVICE_DEFAULT_MODEL": name}
    assignments = " ".join(f"{key}={shlex.quote(str(value))}" for key, value in settings.items())
    console.print(f"Serve it: {assignments} {shlex.quote(str(python))} -m service", markup=False)
    if image is not None and image.is_file():
        request = shlex.join(["curl", "-F", f"file=@{image}", "http://127.0.0.1:8000/predict"])
        console.print(f"Ask it: {request}", markup=False)
