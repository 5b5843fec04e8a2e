"""Make the folders that docs/certainty.md measures with, for `python -m bundle evaluate --other`.

    python -m benchmarks.certainty OUT --trashnet FOLDER --photos FOLDER \\
        --stamps FOLDER --cliparts FOLDER

`OUT/imagenet` and `OUT/cifar10` get a folder for each kind of picture. What is drawn is the same at
each run; the photos are links to the files of the data sets, chosen with a fixed seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.certainty.drawn import charts, noise, pages
from benchmarks.certainty.found import cliparts, linked, of_no_cifar_class, stamps

# In the folders cardboard and paper of TrashNet some show a class of ImageNet: carton, envelope.
TRASH = ("metal", "trash")
OF_EACH = 150


def main(
    out: Annotated[Path, typer.Argument(help="A folder, which is made.")],
    trashnet: Annotated[Path, typer.Option(help="TrashNet: folders metal, trash and others.")],
    photos: Annotated[Path, typer.Option(help="Of ImageNet, named by WordNet ids or below such.")],
    stamps_folder: Annotated[
        Path,
        typer.Option("--stamps", help="Of the Debian package tuxpaint-stamps-default."),
    ],
    cliparts_folder: Annotated[
        Path, typer.Option("--cliparts", help="Folder png of the Debian package openclipart-png.")
    ],
) -> None:
    """Make the folders."""
    imagenet, cifar = out / "imagenet", out / "cifar10"
    for home in (imagenet, cifar):
        for kind in TRASH:
            linked(sorted((trashnet / kind).iterdir()), OF_EACH, home / f"photo-{kind}")
        cliparts(cliparts_folder, home / "drawing-symbols")
        charts(home / "drawing-chart")
        pages(home / "text-page")
        noise(home / "noise")
    stamps(stamps_folder, imagenet / "photo-cutout")
    others = of_no_cifar_class(photos)
    linked(others, len(others), cifar / "photo-other-classes")
    for folder in sorted(out.glob("*/*")):
        typer.echo(f"{folder.relative_to(out)}: {len(list(folder.iterdir()))}")


if __name__ == "__main__":
    typer.run(main)
