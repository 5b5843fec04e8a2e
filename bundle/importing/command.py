"""`python -m bundle import FILE_OR_FOLDER`: the options, and what is printed at the end."""

from __future__ import annotations

import enum
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from bundle.errors import BundleError
from bundle.format.repository import default_model
from bundle.importing.options import (
    Options,
    check_places,
    image_size,
    normalisation,
    read_labels,
    usual_name,
)

if TYPE_CHECKING:
    from bundle.importing.run import Imported


class Interpolation(enum.StrEnum):
    """How images are resized."""

    nearest = "nearest"
    bilinear = "bilinear"
    bicubic = "bicubic"
    lanczos = "lanczos"


class Outputs(enum.StrEnum):
    """What the model returns."""

    logits = "logits"
    probabilities = "probabilities"


class Layout(enum.StrEnum):
    """The order of the dimensions of the model's input."""

    nchw = "NCHW"
    nhwc = "NHWC"


def import_(
    path: Annotated[
        Path,
        typer.Argument(metavar="FILE_OR_FOLDER", help="Of PyTorch, Keras, TensorFlow, ONNX, ..."),
    ],
    models: Annotated[Path, typer.Option(help="Model repository for the bundle.")] = Path("models"),
    name: Annotated[
        str | None, typer.Option(help="Name of the model; default: from the file.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|a,b,c|imagenet",
            help="Labels in the order of the outputs; needed unless the file has them.",
        ),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(help="Architecture in torchvision or keras.applications; default: found."),
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="PIXELS|HxW", help="Input of the model; usual: 224.")
    ] = None,
    resize: Annotated[
        int | None,
        typer.Option(min=1, help="Shorter side before the centre crop, in pixels; usual: 256."),
    ] = None,
    stretch: Annotated[
        bool, typer.Option("--stretch", help="Scale images to the input size without a crop.")
    ] = False,
    interpolation: Annotated[
        Interpolation | None, typer.Option(help="Of the resizing; usual: bilinear.")
    ] = None,
    normalise: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|MEAN/STD",
            help="imagenet, 0..1, -1..1, caffe, 0..255, or as 0.5,0.5,0.5/0.5,0.5,0.5.",
        ),
    ] = None,
    outputs: Annotated[
        Outputs | None, typer.Option(help="What the model returns; default: found by its numbers.")
    ] = None,
    layout: Annotated[
        Layout | None, typer.Option(help="Of the model's input, where the file does not say it.")
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(help="Folder of test images, in sub-folders named by label, id or index."),
    ] = None,
    accelerate: Annotated[
        bool, typer.Option("--accelerate", help="Add faster artifacts, as `bundle accelerate`.")
    ] = False,
    calibration: Annotated[
        Path | None, typer.Option(help="Folder of images for int8, with --accelerate.")
    ] = None,
) -> None:
    """Make a bundle of a model that another program saved, and say what had to be assumed."""
    # scipy takes seconds to import, and the service's image does not have it.
    from bundle.importing.run import Request, import_model  # noqa: PLC0415

    console = Console(soft_wrap=True)
    try:
        if normalise is not None:
            normalisation(normalise)
        given = read_labels(labels) if labels is not None else None
        name = name if name is not None else usual_name(path)
        check_places(name, models, {"--test": test, "--calibration": calibration})
        request = Request(
            path=path,
            models=models,
            name=name,
            command=shlex.join(["python", "-m", "bundle", *sys.argv[1:]]),
            options=Options(
                arch=arch,
                size=image_size(size) if size is not None else None,
                resize=resize,
                stretch=stretch,
                interpolation=interpolation.value if interpolation else None,
                normalise=normalise,
                outputs=outputs.value if outputs else None,
                layout=layout.value if layout else None,
                classes=len(given[0]) if given else None,
            ),
            labels=given,
            test=test,
            accelerate=accelerate,
            calibration=calibration,
        )
        with console.status("reading") as status:
            done = import_model(request, lambda text: status.update(escape(text)))
    except BundleError as exc:
        console.print(f"[red]{exc.code}[/red]: {escape(str(exc))}")
        raise typer.Exit(1) from exc
    except OSError as exc:
        console.print(
            "[red]storage[/red]: The bundle can't be written. Expected --models FOLDER with free "
            f"space and the permission to write there. Received: {escape(str(exc))}"
        )
        raise typer.Exit(1) from exc
    for line in summary(done, models):
        console.print(escape(line))


def summary(done: Imported, models: Path) -> list[str]:
    """What was read, what was assumed, where the bundle is, how it is served."""
    manifest, tested = done.manifest, done.tested
    record = manifest.imported
    assert record is not None  # noqa: S101 - an import has one
    network, size = manifest.architecture, manifest.input
    count = f", {network.parameters:,} parameters" if network.parameters else ""
    read = (
        f"Read: {record.file}, {record.kind}; {network.name or 'network of unknown name'}{count}, "
        f"{len(manifest.labels):,} classes, input {size.height}x{size.width}, "
        f"normalisation {record.normalisation}, outputs {record.outputs}, heat map "
        f"{'from the last feature map' if manifest.heatmap_size else 'none'}"
    )
    lines = [
        read,
        *(f"Note: {note}" for note in done.notes),
        *(f"Assumed: {each}" for each in record.assumed),
        f"Checked: served logits within {manifest.export.max_logit_difference:.1e} of the model's",
    ]
    if tested:
        low, high = tested.metrics[0]["interval_95"]
        lines.append(
            f"Accuracy: {tested.accuracy:.2%} on {len(tested.labels):,} images (95 %: {low:.2%} to "
            f"{high:.2%})"
        )
        if tested.uncalibrated:
            lines.append(f"Not calibrated: {tested.uncalibrated}")
        else:
            lines.append(f"Calibrated: temperature {tested.calibration['temperature']:.3f}")
        if tested.doubtful:
            lines.append(
                "That is near chance: the weights are not trained, or the input or the order of "
                "the labels is wrong."
            )
            lines.append(f"  with red and blue exchanged: {tested.swapped:.2%}")
            lines += [f"  with --normalise {n}: {v:.2%}" for n, v in tested.others.items()]
    else:
        lines.append("Not measured: --test FOLDER measures the accuracy and calibrates the scores")
    if manifest.version > 1:
        lines.append(
            f"Note: {manifest.name} had version {manifest.version - 1}; requests that name no "
            f"version get {manifest.version} once a service has loaded it"
        )
    if default_model(models) == manifest.name:
        lines.append(f"Default: {manifest.name} is the default model of {models}")
    if len(manifest.artifacts) == 1:
        lines.append(f"Faster on a CPU: python -m bundle accelerate {shlex.quote(str(done.path))}")
    serve = "make serve"
    if models.absolute() != Path("models").absolute():
        serve = f"SERVICE_MODELS_DIR={shlex.quote(str(models))} {serve}"
    return [
        *lines,
        f"Bundle: {done.path}",
        f"Serve: {serve}, or a service that runs already; then /predict?model={manifest.name}",
    ]
