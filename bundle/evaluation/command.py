"""`python -m bundle evaluate DIR`: measure a bundle, and record when it is unsure and its card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from bundle.errors import BundleError
from bundle.format.manifest import Conformal, Rejection, WholePicture
from bundle.report import refuse

Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="The bundle folder: <models>/<name>/<version>.")
]


def evaluate(
    directory: Folder,
    test: Annotated[
        Path,
        typer.Option(
            help="Folder of images that the model was not trained on, in sub-folders named by "
            "label, WordNet id or index; some of the labels are enough."
        ),
    ],
    other: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of pictures that show none of the labels, in sub-folders by kind, or of "
            "one kind; may be repeated."
        ),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="Another bundle with these labels, to compare with; may be repeated."),
    ] = None,
    split: Annotated[
        str, typer.Option(help="What the test images are, as the records call them.")
    ] = "test",
    licence: Annotated[str | None, typer.Option(help="Of the model, for its card.")] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(help="A sentence for the card on what it can't do; may be repeated."),
    ] = None,
    artifact: Annotated[
        str, typer.Option(help="Id of the artifact; auto: the one that a service takes here.")
    ] = "auto",
    models: Annotated[
        Path | None,
        typer.Option(help="Model repository for the new version; default: the one of DIR."),
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Change the record of DIR, not a next version.")
    ] = False,
) -> None:
    """Measure a bundle on held-out images; record when it is unsure, and its card."""
    # scipy takes seconds to import, and the service's image does not have it.
    from bundle.evaluation.run import Evaluation, evaluate_bundle  # noqa: PLC0415

    console = Console()
    if in_place and models is not None:
        raise typer.BadParameter("is for a next version", param_hint="--models")
    wanted = Evaluation(
        test=test,
        others=tuple(other or ()),
        against=tuple(against or ()),
        split=split,
        licence=licence,
        limits=tuple(limit or ()),
        artifact=artifact,
    )
    target = None if in_place else models or directory.absolute().parent.parent
    try:
        with console.status("reading") as status:
            path, manifest = evaluate_bundle(
                directory, wanted, target, lambda text: status.update(escape(text))
            )
    except BundleError as exc:
        refuse(console, exc)
    except OSError as exc:
        console.print(f"[red]storage[/red]: The record can't be written: {escape(str(exc))}")
        raise typer.Exit(1) from exc
    for line in (
        *_unsure(manifest.rejection),
        *_sets(manifest.conformal),
        *_whole(manifest.whole),
        f"Bundle: {path}",
    ):
        console.print(escape(line), soft_wrap=True)


def _unsure(found: Rejection | None) -> list[str]:
    if found is None:
        return ["When it is unsure: not recorded, there are too few right answers to measure it"]
    sure = "" if found.error_if_sure is None else f"; wrong if sure: {found.error_if_sure:.1%}"
    basis = f"On {found.samples:,} images with {found.artifact}: wrong {found.error:.1%}{sure}"
    lines = [f"{basis}; right answers called unsure: {found.right_unsure:.1%}"]
    for each in [*found.others, *([found.all_others] if found.all_others else [])]:
        low, high = each.interval_95
        lines.append(
            f"{each.kind}, {each.samples:,} pictures: unsure {each.unsure:.1%}, AUROC "
            f"{each.auroc:.3f} ({low:.3f} to {high:.3f})"
        )
    return lines


def _sets(found: Conformal | None) -> list[str]:
    shown = (0.8, 0.9, 0.95, 0.99)
    return [
        f"Sets for {each.coverage:.0%}: hold the label in {each.measured_coverage:.1%}, "
        f"{each.mean_size:.2f} labels on average, {each.empty:.1%} empty"
        for each in (found.sets if found else [])
        if each.coverage in shown
    ]


def _whole(found: WholePicture | None) -> list[str]:
    if found is None:
        return []
    crop = f"the crop for {found.accuracy_of_crop:.1%} of the same images"
    return [f"Whole pictures, stretched to the input: right for {found.accuracy:.1%}, {crop}"]
