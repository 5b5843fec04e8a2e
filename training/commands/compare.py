"""`python -m training compare models/ --data FOLDER --out report/`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.commands.options import INTERRUPTED, console
from training.errors import ConfigError


def compare(
    models: Annotated[list[Path], typer.Argument(help="Model repositories or bundle folders.")],
    data: Annotated[
        str, typer.Option(help="The test images: a folder as `train` takes it, or `cifar10`.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of reports; this one becomes <out>/compare.")
    ] = Path("report"),
    all_versions: Annotated[
        bool, typer.Option(help="Every version of a model, not its newest one only.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(help="At most so many test images, chosen with the seed.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of the split of a folder without one, and of --limit.")
    ] = 0,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of the latency measurement.")] = 7,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of each model; default: its own.")
    ] = None,
) -> None:
    """Measure bundles on the same test images, through the served path, and write a page about them."""
    # scikit-learn and matplotlib take seconds to import: not before the options are known to be right.
    from training.reports.compare import compare as measure  # noqa: PLC0415
    from training.reports.compare import report_files  # noqa: PLC0415
    from training.reports.page import check_writable, publish  # noqa: PLC0415

    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"The device is auto, cpu or cuda. Received: {device!r}")
    target = out / "compare"
    check_writable(target)
    try:
        record = measure(
            models,
            data,
            console,
            all_versions=all_versions,
            limit=limit,
            seed=seed,
            rounds=rounds,
            device=device,  # type: ignore[arg-type]
            threads=threads,
        )
    except KeyboardInterrupt:
        console.print("Interrupted. Nothing was written.")
        raise typer.Exit(INTERRUPTED) from None
    publish(report_files(record), target)
    for model in record["models"]:
        low, high = model["accuracy"]["interval_95"]
        console.print(
            f"{model['id']}: accuracy {model['accuracy']['value']:.2%} (95 % interval {low:.2%} to {high:.2%})",
            markup=False,
        )
    console.print(f"The page: {target / 'index.html'}", markup=False)
