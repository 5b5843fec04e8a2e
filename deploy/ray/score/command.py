"""The command `python -m deploy.ray.score`: images in, Parquet files out.

Exit code 0: the output is whole. 1: it is not, and the same command goes on. 2: wrong usage, or an
output of another run. 130: Ctrl-C.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from bundle.errors import BundleError
from bundle.format.manifest import read_manifest
from bundle.worker.selection import AUTO, SOURCE
from deploy.ray.score.errors import Refused, ScoringError
from deploy.ray.score.plan import (
    PLAN_FILE,
    Plan,
    check_same,
    counted,
    missing,
    new_plan,
    no_images,
    read_plan,
)
from deploy.ray.score.storage import Storage, open_storage


def score(
    bundle: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", help="A bundle, MODELS/NAME/VERSION, where every machine sees it."
        ),
    ],
    images: Annotated[
        str, typer.Option(help="Folder or address (s3://...) of images, searched recursively.")
    ],
    out: Annotated[str, typer.Option(help="Folder or address of the results, and of the plan.")],
    top: Annotated[int, typer.Option(min=1, help="Labels for each image.")] = 5,
    shard: Annotated[int, typer.Option(min=1, help="Images of a file of results.")] = 1000,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Score so many images, the first ones.")
    ] = None,
    artifact: Annotated[
        str, typer.Option(help="Id of the artifact; auto: the one that a service takes there.")
    ] = AUTO,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Workers; default: as many as there is room for.")
    ] = None,
    cpus: Annotated[int, typer.Option(min=1, help="Cores of each worker.")] = 1,
    gpus: Annotated[
        float, typer.Option(min=0, help="GPUs of each worker; 0.25: four share one.")
    ] = 0.0,
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="A Ray cluster; default: this machine alone."),
    ] = None,
) -> None:
    """Score images with a bundle on a Ray cluster; the same command goes on where one has ended."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        asked = _asked(bundle, images, artifact, shard, limit, top)
        storage = open_storage(out)
        with storage.locked():
            plan, todo = _planned(asked, storage, errors)
            failed = 0
            if todo:
                # Ray takes a second to import, and may not be installed.
                try:
                    from deploy.ray.score.run import Workers, run  # noqa: PLC0415
                except ImportError as exc:
                    raise Refused(
                        f"The extra `ray` of this package is not installed ({exc})."
                    ) from exc
                workers = Workers(concurrency, cpus, gpus)
                failed = run(plan, todo, str(bundle.absolute()), storage, workers, address, errors)
    except ScoringError as exc:
        errors.print(f"[bold red]Error:[/] {escape(str(exc))}")
        raise typer.Exit(exc.status) from exc
    except KeyboardInterrupt as exc:
        errors.print("Stopped. The same command goes on with the shards that are not whole.")
        raise typer.Exit(130) from exc
    if failed:
        errors.print(f"[yellow]{failed:,} of the images scored now have no answer.[/]")
    files = "1 file" if plan.shards == 1 else f"{plan.shards:,} files"
    errors.print(f"{plan.count:,} images in {files}: {escape(storage.address)}")


def _asked(
    bundle: Path, images: str, artifact: str, shard: int, limit: int | None, top: int
) -> Plan:
    """What the options ask for; the images are not counted yet.

    Raises:
        Refused: There is no such bundle, artifact or image. Nothing has been written then.
    """
    try:
        manifest = read_manifest(bundle)
    except BundleError as exc:
        raise Refused(f"{exc.code}: {exc}") from exc
    if artifact not in (AUTO, SOURCE) and manifest.artifact(artifact) is None:
        ids = ", ".join(each.id for each in manifest.artifacts)
        raise Refused(
            f"The bundle has no such artifact. Expected {AUTO}, {SOURCE}, or one of: {ids}. "
            f"Received: {artifact}"
        )
    source = open_storage(images)
    if next(source.images(), None) is None:
        raise no_images(source.address)
    return new_plan(manifest, artifact, source.address, shard, limit, top)


def _planned(asked: Plan, out: Storage, errors: Console) -> tuple[Plan, list[int]]:
    """The plan of the output, or a new one, and its shards that are not whole."""
    present, held = out.names(), read_plan(out)
    source = open_storage(asked.source)
    with errors.status("listing the images ..."):
        if held is not None:
            check_same(held, counted(asked, source))
            return held, missing(held, present)
        if any(name.endswith(".parquet") for name in present):
            raise Refused(
                f"The output has Parquet files and no {PLAN_FILE}. Expected an empty folder, or "
                f"one of this program. Received: {out.address}"
            )
        plan = counted(asked, source, out)
    return plan, missing(plan, ())


def main() -> None:
    """Run the command line."""
    typer.run(score)
