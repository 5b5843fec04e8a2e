"""The comparison: every bundle on the same test images, through the process that serves it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from bundle.errors import BundleError, ManifestInvalid
from bundle.format.manifest import MANIFEST_FILE, Artifact, Manifest, read_manifest
from bundle.format.repository import scan
from bundle.machine import processor
from bundle.runtimes import Device
from bundle.worker.blocking import RuntimeProcess
from training.data.folders import some
from training.errors import ConfigError
from training.progress import progress_bar
from training.reports.heldout import HeldOut, held_out
from training.reports.measure import (
    CALLS,
    LARGE_BATCH,
    Advance,
    Candidate,
    LeftOut,
    Measured,
    start,
    time_together,
)
from training.reports.page import PAGE, plot_files, render
from training.reports.plots import accuracy_plot, confusion_plot, curves_plot, reliability_plot
from training.reports.tables import tables

SCHEMA_VERSION = 1
CLASSES_NAMED = 5  # that a message names


def compare(
    paths: Sequence[Path],
    data: str,
    console: Console,
    *,
    all_versions: bool = False,
    limit: int | None = None,
    seed: int = 0,
    rounds: int = 7,
    device: Device = "auto",
    threads: int | None = None,
) -> dict[str, Any]:
    """Measure the bundles in `paths` (repositories or bundle folders) on `data`; returns compare.json's record.

    A bundle that can't be measured is named with its reason and the others go on.

    Raises:
        ConfigError: no bundles, or none that can be measured.
        DataError: the test images can't be used.
    """
    folders, left_out = find_bundles(paths, all_versions=all_versions)
    candidates = []
    for folder in folders:
        try:
            candidates.append(Candidate(folder, read_manifest(folder)))
        except ManifestInvalid as exc:
            left_out.append(LeftOut(folder, exc.code, str(exc)))
    image_size = candidates[0].manifest.input.height if candidates else 32
    test = held_out(data, seed=seed, image_size=image_size, limit=limit)
    fitting = []
    for candidate in candidates:
        if reason := _unfit(candidate, test):
            left_out.append(reason)
        else:
            fitting.append(candidate)
    console.print(
        f"{len(fitting)} of {len(fitting) + len(left_out)} bundles on {len(test):,} of the {test.available:,} "
        f"test images of {test.name}.",
        markup=False,
    )
    with ExitStack() as stack:
        measured = _measure(fitting, test, rounds, device, threads, left_out, stack, console)
    for each in left_out:
        console.print(f"Left out: {each.path} ({each.code}): {each.reason}", markup=False)
    if not measured:
        raise ConfigError(
            "No bundle could be measured, so there is nothing to compare; the reasons stand above."
        )
    return {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": {
            "name": test.name,
            "folder": str(data),
            "classes": test.classes,
            "images": len(test),
            "available": test.available,
            "seed": seed,
            "split_drawn": test.split_seed is not None,
        },
        "machine": {"processor": processor(), "cores": os.cpu_count(), "threads": threads},
        **tables(measured, test),
        "left_out": [
            {"path": str(each.path), "code": each.code, "reason": each.reason} for each in left_out
        ],
    }


def find_bundles(paths: Sequence[Path], *, all_versions: bool) -> tuple[list[Path], list[LeftOut]]:
    """The bundle folders of repositories and bundle folders: the newest version of each name, or all of them.

    Raises:
        ConfigError: a path leads to no bundle.
    """
    found: dict[
        Path, Path
    ] = {}  # by where it really lies: a bundle that is named twice counts once
    left_out = []
    for path in paths:
        if (path / MANIFEST_FILE).is_file():
            found[path.resolve()] = path
            continue
        bundles, ignored = scan(path)
        if not bundles:
            raise ConfigError(
                f"There is no bundle in {str(path)!r}. Expected a repository, <name>/<version>/{MANIFEST_FILE}, or the "
                "folder of a bundle."
            )
        newest = {bundle.name: bundle for bundle in bundles}  # they are sorted by version
        chosen = bundles if all_versions else list(newest.values())
        found |= {bundle.path.resolve(): bundle.path for bundle in chosen}
        left_out += [LeftOut(folder.path, "not_a_bundle", folder.reason) for folder in ignored]
    return list(found.values()), left_out


def _unfit(candidate: Candidate, test: HeldOut) -> LeftOut | None:
    """Why figures of this bundle on these images would not be comparable with the others', if so."""
    manifest = candidate.manifest
    if set(manifest.labels) != set(test.classes):
        # A model that chooses among other classes answers another question, even where they overlap.
        missing = sorted(set(test.classes) - set(manifest.labels))
        more = sorted(set(manifest.labels) - set(test.classes))
        return LeftOut(
            candidate.path,
            "labels_differ",
            f"Its labels are not the classes of the data. Expected the {len(test.classes)} classes of {test.name}. "
            f"Missing: {some(missing, CLASSES_NAMED) or 'none'}; not in the data: {some(more, CLASSES_NAMED) or 'none'}.",
        )
    training = manifest.training
    if (
        test.split_seed is not None
        and training.dataset == test.name
        and training.seed != test.split_seed
    ):
        return LeftOut(
            candidate.path,
            "other_split",
            f"It was trained on {test.name} as split by seed {training.seed}, so it has seen images that seed "
            f"{test.split_seed} tests on. Pass --seed {training.seed}, or divide the folder into train/ and test/.",
        )
    return None


def _measure(
    candidates: Sequence[Candidate],
    test: HeldOut,
    rounds: int,
    device: Device,
    threads: int | None,
    left_out: list[LeftOut],
    stack: ExitStack,
    console: Console,
) -> list[Measured]:
    """Answers of every artifact, then latencies of all together: their processes stay until `stack` closes."""
    artifacts = sum(len(candidate.manifest.artifacts) for candidate in candidates)
    images = len(test) + rounds * (CALLS + LARGE_BATCH)
    measured = []
    pixels: dict[str, NDArray[np.uint8]] = {}
    with _progress(console, artifacts * images) as (describe, advance):
        for candidate in candidates:
            geometry = candidate.manifest.input
            key = geometry.model_dump_json()
            if key not in pixels:
                describe(f"decoding for {geometry.width} x {geometry.height}")
                pixels[key] = test.pixels(geometry)
            running = []
            for artifact in _source_first(candidate.manifest):
                describe(f"{candidate.manifest.name} {artifact.id}")
                process = stack.enter_context(
                    RuntimeProcess(candidate.path, artifact.id, device, threads)
                )
                try:
                    running.append(
                        start(
                            process,
                            candidate.path,
                            candidate.manifest,
                            test.classes,
                            pixels[key],
                            advance,
                        )
                    )
                except BundleError as exc:
                    left_out.append(LeftOut(candidate.path, exc.code, f"{artifact.id}: {exc}"))
                    if artifact.source:
                        break
            if running:
                measured.append(Measured(candidate, running))
        describe("latency")
        left_out += time_together(
            [each for model in measured for each in model.running], rounds, advance
        )
    return [model for model in measured if model.source.latency is not None]


def _source_first(manifest: Manifest) -> list[Artifact]:
    return sorted(manifest.artifacts, key=lambda artifact: not artifact.source)


@contextmanager
def _progress(console: Console, images: int) -> Iterator[tuple[Any, Advance]]:
    """A bar over forward passes, counted in images; yields what names the step and what moves the bar."""
    with progress_bar(console, transient=True) as progress:
        bar = progress.add_task("measuring", total=images)
        yield (
            lambda text: progress.update(bar, description=text),
            lambda count: progress.advance(bar, count),
        )


def report_files(record: dict[str, Any]) -> dict[str, str]:
    """The files of the report: the page, its tables and its plots."""
    models = record["models"]
    plots = {"accuracy": accuracy_plot(models), "learning-curves": curves_plot(models)}
    for number, model in enumerate(models, start=1):
        plots[f"confusion-{number}"] = confusion_plot(f"confusion-{number}", model)
        plots[f"reliability-{number}"] = reliability_plot(f"reliability-{number}", model)
    return {
        **plot_files(plots),
        "compare.json": json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False),
        PAGE: render("compare.html", plots, record),
    }
