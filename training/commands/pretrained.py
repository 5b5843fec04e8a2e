"""`python -m training pretrained --framework torch|keras --arch resnet50 --out models/`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.commands.options import (
    Accelerate,
    Framework,
    Out,
    Threads,
    Variant,
    check_name,
    check_writable,
    command_line,
    console,
    default_name,
    load_backend,
    print_artifacts,
    print_serve_command,
)
from training.config import IMAGENET_WEIGHTS, make_config
from training.errors import ConfigError
from training.weights.published import Interpolation


def pretrained(
    framework: Framework = "torch",
    arch: Annotated[
        str,
        typer.Option(
            help=f"torch: {', '.join(IMAGENET_WEIGHTS['torch'])}; "
            f"keras: {', '.join(IMAGENET_WEIGHTS['keras'])}."
        ),
    ] = "resnet50",
    variant: Variant = None,
    out: Out = Path("models"),
    name: Annotated[
        str | None, typer.Option(help="Name of the model; default imagenet-<arch>-<framework>.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="A file of weights or its URL; default: the framework's published weights."
        ),
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(help="Publisher and licence of --weights, for the record of the bundle."),
    ] = None,
    interpolation: Annotated[
        Interpolation | None,
        typer.Option(
            help="Of images: bilinear, bicubic, lanczos or nearest; default: as the publisher of "
            "the weights states, else bilinear."
        ),
    ] = None,
    half_weights: Annotated[
        bool,
        typer.Option(help="Store the weights in fp16, in half the space; computed is in fp32."),
    ] = False,
    threads: Threads = None,
    golden_images: Annotated[
        Path | None,
        typer.Option(help="Folder of images for the golden samples; default: generated ones."),
    ] = None,
    accelerate: Accelerate = True,
) -> None:
    """Write a bundle for the 1,000 classes of ImageNet from published weights, without training."""
    # The published weights of torchvision are refused for another variant; those of a file are not.
    init = "imagenet" if weights is None else "random"
    config = make_config(
        framework=framework,
        arch=arch,
        variant=variant,
        init=init,
        threads=threads,
        precision="fp32",
    )
    if weights is not None and "://" not in weights and not Path(weights).is_file():
        raise ConfigError(
            f"--weights is a file or a URL. There is no such file. Received: {weights!r}"
        )
    name = name or default_name("imagenet", framework, arch)
    check_name(name)
    check_writable(out, "model repository")
    backend = load_backend(config)
    # scipy takes seconds to import: not before the options are known to be valid.
    from training.export.export import ExportOptions  # noqa: PLC0415
    from training.export.golden import read_golden  # noqa: PLC0415
    from training.export.pretrained import write_pretrained  # noqa: PLC0415

    golden = read_golden(golden_images) if golden_images else None
    options = ExportOptions(out, name, command_line(), golden, accelerate, half_weights)
    with console.status("exporting") as status:
        written = write_pretrained(
            config,
            backend,
            weights,
            options,
            origin=origin,
            interpolation=interpolation,
            progress=status.update,
        )
    if written.note and variant is None:
        console.print(f"Note: {written.note}", markup=False)
    if written.published:
        accuracy = (
            f"published accuracy {written.published.accuracy:.2%} ({written.published.source}), "
            "not measured"
        )
    else:
        accuracy = "these are not the published weights, so no accuracy is quoted"
    console.print(
        f"{written.path}: {accuracy}; logits within {written.max_logit_difference:.1e} of the "
        "network's."
    )
    print_artifacts(written.path, written.serving, written.notes)
    print_serve_command(out, name)
