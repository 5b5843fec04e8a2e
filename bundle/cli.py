"""`python -m bundle check|show|accelerate|evaluate|sign DIR`: about a bundle; or `import`.

Exit code 0: success. 1: the bundle is refused, with the reason. 2: wrong usage.
"""

from __future__ import annotations

import asyncio
import enum
import json
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bundle.acceleration.images import calibration_pixels, labelled_pixels
from bundle.errors import BundleError
from bundle.evaluation.command import evaluate
from bundle.format.manifest import (
    MANIFEST_FILE,
    Artifact,
    Manifest,
    Speed,
    read_manifest,
)
from bundle.format.repository import check_folder, verify_files
from bundle.importing.command import import_
from bundle.report import Report, refuse
from bundle.signing.command import sign
from bundle.worker.blocking import RuntimeProcess
from bundle.worker.selection import DEVICE_NAMES, accuracy
from bundle.worker.selftest import golden_tolerance
from bundle.worker.signature import check_signature

app = typer.Typer(
    help="Verify, print, accelerate, evaluate or sign a model bundle, or import a model.",
    no_args_is_help=True,
    add_completion=False,
)

app.command("import")(import_)
app.command()(evaluate)
app.command()(sign)


class Device(enum.StrEnum):
    """Where the check loads the model."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="The bundle folder: <models>/<name>/<version>.")
]


@app.command()
def check(
    directory: Directory,
    device: Annotated[Device, typer.Option(help="Where to load the model.")] = Device.auto,
    timeout: Annotated[float, typer.Option(min=1, help="Load timeout, in seconds.")] = 120.0,
    signers: Annotated[
        Path | None,
        typer.Option(
            help="Public key, certificate, or folder of these: one of them must have signed it."
        ),
    ] = None,
) -> None:
    """Verify the signature, the manifest and every file, load each artifact, and self-test it."""
    report = Report(directory)
    if signers is not None:
        report.step(
            "signature",
            lambda: asyncio.run(check_signature(directory, signers, timeout)),
            lambda found: f"by {found.signer}",
        )
    manifest = report.step("manifest", lambda: read_manifest(directory), _describe_manifest)
    report.step(
        "folder",
        lambda: check_folder(directory, manifest),
        lambda _: f"{manifest.name}/{manifest.version}, as in the manifest",
    )
    report.step(
        "files", lambda: verify_files(directory, manifest), lambda _: f"{len(manifest.files)} files"
    )
    for artifact in manifest.artifacts:

        def load(artifact: Artifact = artifact) -> str:
            process = RuntimeProcess(directory, artifact.id, device.value, confined=True)
            with process:
                info = process.start(timeout)
            return (
                f"{info['runtime']} {info['runtime_version']} on {info['device']}; "
                f"golden scores within {info['golden_max_difference']:.1e} "
                f"(tolerance {golden_tolerance(manifest, artifact):g})"
            )

        if artifact.source:
            report.step(f"run {artifact.id}", load, str)
        else:
            report.may_fail_here(f"run {artifact.id}", load)
    report.print()


@app.command()
def show(directory: Directory) -> None:
    """Print the record of a bundle, without verifying its files."""
    console = Console()
    try:
        manifest = read_manifest(directory)
    except BundleError as exc:
        refuse(console, exc)
    record = manifest.model_dump(mode="json")
    table = Table(
        title=escape(f"{manifest.name} {manifest.version}"), show_header=False, title_justify="left"
    )
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for field, value in record.items():
        if field == "files":
            total = sum(file.size for file in manifest.files.values())
            value = f"{len(manifest.files)} files, {total:,} bytes"
        if field == "training" and "history" in value["config"]:
            epochs = len(value["config"]["history"])
            value["config"]["history"] = f"{epochs} epochs, in {MANIFEST_FILE}"
        table.add_row(
            field,
            escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)),
        )
    console.print(table)


@app.command()
def accelerate(
    directory: Directory,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Folder of training images, searched recursively; needed for int8."),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            help="Folder of test images to measure the accuracy on, in sub-folders named by label, "
            "WordNet id or index; some of the labels are enough."
        ),
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(help="Model repository for the new version; default: the one of DIR."),
    ] = None,
    precisions: Annotated[
        str | None,
        typer.Option(help="Artifacts to make: some of fp32,bf16,fp16,int8; default: all."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of the measurements; default: all.")
    ] = None,
) -> None:
    """Write the next version of a bundle, with faster artifacts for CPU and CUDA, each measured."""
    # scipy takes seconds to import, and the service's image does not have it.
    from bundle.acceleration.accelerate import accelerate as run  # noqa: PLC0415
    from bundle.acceleration.measure import (  # noqa: PLC0415
        PRECISIONS,
        Acceleration,
        LabelledImages,
    )

    console = Console()
    wanted = tuple(precisions.split(",")) if precisions else PRECISIONS
    if not set(wanted) <= set(PRECISIONS):
        raise typer.BadParameter(
            f"expected some of {','.join(PRECISIONS)}. Received: {precisions}",
            param_hint="--precisions",
        )
    try:
        manifest = read_manifest(directory)
        images = calibration_pixels(calibration, manifest.input) if calibration else None
        labelled = LabelledImages(*labelled_pixels(test, manifest)) if test else None
        with console.status("reading") as status:
            done = run(
                directory,
                models or directory.absolute().parent.parent,
                Acceleration(images, labelled, wanted, threads),
                progress=lambda text: status.update(escape(text)),
            )
    except BundleError as exc:
        refuse(console, exc)
    except OSError as exc:
        console.print(f"[red]storage[/red]: The new version can't be written: {escape(str(exc))}")
        raise typer.Exit(1) from exc
    console.print(_artifact_table(done.path, done.manifest, console.width))
    if basis := _accuracy_basis(done.manifest):
        console.print(escape(basis))
    for reason in done.left_out:
        console.print(f"Left out: {escape(reason)}")
    for device, chosen in done.chosen.items():
        console.print(f"On {DEVICE_NAMES[device]} the service takes {escape(chosen)}")


def _artifact_table(path: Path, manifest: Manifest, width: int) -> Table:
    """The measurements: a row per artifact and device, in `width` columns with nothing cut off."""
    # Without frames between the columns, so that 80 are enough for the usual artifact ids.
    table = Table(
        title=escape(str(path)),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    # Ids differ at their ends, so they are not wrapped unless one is very long.
    whole = max(len(artifact.id) for artifact in manifest.artifacts) <= width // 3
    table.add_column("artifact", no_wrap=whole, overflow="fold")
    table.add_column("device", overflow="fold")
    for figure in (
        "accuracy",
        "same best class",
        "logits within",
        "1 image, ms",
        "images/s (batch)",
    ):
        table.add_column(figure, justify="right", overflow="fold")
    for artifact in manifest.artifacts:
        for speed in artifact.speeds:
            table.add_row(*_artifact_row(manifest, artifact, speed))
    return table


def _accuracy_basis(manifest: Manifest) -> str:
    """A sentence on the test images where they have only some of the labels."""
    for metric in manifest.metrics:
        if metric.labels is not None:
            return (
                f"The accuracy rests on {metric.samples:,} images of {len(metric.labels):,} of the "
                f"{len(manifest.labels):,} labels: {', '.join(metric.labels[:10])}"
                f"{', ...' if len(metric.labels) > 10 else ''}"
            )
    return ""


def _artifact_row(manifest: Manifest, artifact: Artifact, speed: Speed) -> tuple[str, ...]:
    share, derived = accuracy(manifest, artifact), artifact.derivation
    return (
        artifact.id,
        speed.device,
        "not measured" if share is None else f"{share:.2%}",
        f"{derived.top1_agreement:.2%}" if derived else "source",
        f"{derived.max_logit_difference:.1e}" if derived else "",
        f"{speed.latency_ms:.2f}",
        f"{speed.images_per_second:.0f} ({speed.batch_size})",
    )


def _describe_manifest(manifest: Manifest) -> str:
    return f"{manifest.name} version {manifest.version}, {len(manifest.labels)} labels"
