"""`python -m training compare models/ --data FOLDER --out report/`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from bundle.runtimes import Device
from training.commands.options import INTERRUPTED, console
from training.errors import ConfigError


def compare(
    models: Annotated[list[Path], typer.Argument(help="Model repositories or bundle folders.")],
    data: Annotated[
        str, typer.Option(help="The test images: a folder as for `train`, or `cifar10`.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for reports; this one is <out>/compare.")
    ] = Path("report"),
    all_versions: Annotated[
        bool, typer.Option(help="All versions of a model, not the newest one only.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(help="Maximum number of test images, drawn with the seed.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of the split of a folder without one, and of --limit.")
    ] = 0,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of the latency measurement.")] = 7,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads per model; default: its own.")
    ] = None,
) -> None:
    """Measure bundles on the same test images, as they are served, and write a report."""
    # scikit-learn and matplotlib take seconds to import: only once the options are parsed.
    from training.reports.compare import CompareOptions, report_files  # noqa: PLC0415
    from training.reports.compare import compare as measure  # noqa: PLC0415
    from training.reports.page import check_target, publish  # noqa: PLC0415

    if device not in get_args(Device):
        raise ConfigError(f"The device is auto, cpu or cuda. Received: {device!r}")
    options = CompareOptions(all_versions, limit, seed, rounds, cast("Device", device), threads)
    target = out / "compare"
    check_target(target)
    try:
        record = measure(models, data, console, options)
    except KeyboardInterrupt:
        console.print("Interrupted. Nothing was written.")
        raise typer.Exit(INTERRUPTED) from None
    publish(report_files(record), target)
    for model in record["models"]:
        low, high = model["accuracy"]["interval_95"]
        console.print(
            f"{model['id']}: accuracy {model['accuracy']['value']:.2%} "
            f"(95 % interval {low:.2%} to {high:.2%})",
            markup=False,
        )
    console.print(f"Report: {target / 'index.html'}", markup=False)
