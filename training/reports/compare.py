"""Compare bundles on the same test images, each through the process that serves it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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
CLASSES_NAMED = 5  # in a message


@dataclass(frozen=True)
class CompareOptions:
    """How `compare` measures.

    Attributes:
        all_versions: every version of a model, not the newest one only.
        limit: maximum number of test images; None: all.
        seed: of the split of a folder without one, and of `limit`.
        rounds: of the latency measurement.
        device: of all models.
        threads: per model; None: its own default.
    """

    all_versions: bool = False
    limit: int | None = None
    seed: int = 0
    rounds: int = 7
    device: Device = "auto"
    threads: int | None = None


def compare(
    paths: Sequence[Path],
    data: str,
    console: Console,
    options: CompareOptions,
) -> dict[str, Any]:
    """Measure the bundles in `paths` (repositories or bundle folders) on `data`.

    A bundle that can't be measured is listed with the reason; the others are compared.

    Returns:
        The content of compare.json.

    Raises:
        ConfigError: there is no bundle, or none can be measured.
        DataError: the test images can't be used.
    """
    folders, left_out = find_bundles(paths, all_versions=options.all_versions)
    candidates = []
    for folder in folders:
        try:
            candidates.append(Candidate(folder, read_manifest(folder)))
        except ManifestInvalid as exc:
            left_out.append(LeftOut(folder, exc.code, str(exc)))
    image_size = candidates[0].manifest.input.height if candidates else 32
    test = held_out(data, seed=options.seed, image_size=image_size, limit=options.limit)
    comparable = []
    for candidate in candidates:
        if reason := _not_comparable(candidate, test):
            left_out.append(reason)
        else:
            comparable.append(candidate)
    console.print(
        f"{len(comparable)} of {len(comparable) + len(left_out)} bundles on {len(test):,} of the "
        f"{test.available:,} test images of {test.name}.",
        markup=False,
    )
    with ExitStack() as stack:
        measured = _measure(comparable, test, options, left_out, stack, console)
    for each in left_out:
        console.print(f"Left out: {each.path} ({each.code}): {each.reason}", markup=False)
    if not measured:
        raise ConfigError(
            "No bundle could be measured, so there is nothing to compare; see the reasons above."
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
            "seed": options.seed,
            "split_drawn": test.split_seed is not None,
        },
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": options.threads,
        },
        **tables(measured, test),
        "left_out": [
            {"path": str(each.path), "code": each.code, "reason": each.reason} for each in left_out
        ],
    }


def find_bundles(paths: Sequence[Path], *, all_versions: bool) -> tuple[list[Path], list[LeftOut]]:
    """The bundle folders in `paths`: of a repository the newest version of each name, or all.

    Raises:
        ConfigError: a path has no bundle.
    """
    found: dict[Path, Path] = {}  # by resolved path, so that a bundle named twice counts once
    left_out = []
    for path in paths:
        if (path / MANIFEST_FILE).is_file():
            found[path.resolve()] = path
            continue
        bundles, ignored = scan(path)
        if not bundles:
            raise ConfigError(
                f"There is no bundle in {str(path)!r}. Expected a repository, "
                f"<name>/<version>/{MANIFEST_FILE}, or the folder of a bundle."
            )
        newest = {bundle.name: bundle for bundle in bundles}  # they are sorted by version
        chosen = bundles if all_versions else list(newest.values())
        found |= {bundle.path.resolve(): bundle.path for bundle in chosen}
        left_out += [LeftOut(folder.path, "not_a_bundle", folder.reason) for folder in ignored]
    return list(found.values()), left_out


def _not_comparable(candidate: Candidate, test: HeldOut) -> LeftOut | None:
    """Why the figures of this bundle on these images would not be comparable, if so."""
    manifest = candidate.manifest
    if set(manifest.labels) != set(test.classes):
        # Choosing among other classes is another task, even if some are the same.
        missing = sorted(set(test.classes) - set(manifest.labels))
        more = sorted(set(manifest.labels) - set(test.classes))
        return LeftOut(
            candidate.path,
            "labels_differ",
            "Its labels are not the classes of the data. "
            f"Expected the {len(test.classes)} classes of {test.name}. "
            f"Missing: {some(missing, CLASSES_NAMED) or 'none'}; "
            f"not in the data: {some(more, CLASSES_NAMED) or 'none'}.",
        )
    training = manifest.training
    if (
        training is not None
        and test.split_seed is not None
        and training.dataset == test.name
        and training.seed != test.split_seed
    ):
        return LeftOut(
            candidate.path,
            "other_split",
            f"It was trained on {test.name} as split by seed {training.seed}, so it has seen test "
            f"images of seed {test.split_seed}. Pass --seed {training.seed}, or divide the folder "
            "into train/ and test/.",
        )
    return None


def _measure(
    candidates: Sequence[Candidate],
    test: HeldOut,
    options: CompareOptions,
    left_out: list[LeftOut],
    stack: ExitStack,
    console: Console,
) -> list[Measured]:
    """Logits of every artifact, then all latencies; the processes run until `stack` closes."""
    artifacts = sum(len(candidate.manifest.artifacts) for candidate in candidates)
    images = len(test) + options.rounds * (CALLS + LARGE_BATCH)
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
                    RuntimeProcess(candidate.path, artifact.id, options.device, options.threads)
                )
                try:
                    running.append(start(process, candidate, test.classes, pixels[key], advance))
                except BundleError as exc:
                    left_out.append(LeftOut(candidate.path, exc.code, f"{artifact.id}: {exc}"))
                    if artifact.source:
                        break
            if running:
                measured.append(Measured(candidate, running))
        describe("latency")
        running = [each for model in measured for each in model.running]
        left_out += time_together(running, options.rounds, advance)
    return [model for model in measured if model.source.latency is not None]


def _source_first(manifest: Manifest) -> list[Artifact]:
    return sorted(manifest.artifacts, key=lambda artifact: not artifact.source)


@contextmanager
def _progress(
    console: Console, images: int
) -> Iterator[tuple[Callable[[str], None], Callable[[int], None]]]:
    """A bar over forward passes, counted in images; yields functions to name a step and advance."""
    with progress_bar(console, transient=True) as progress:
        bar = progress.add_task("measuring", total=images)
        yield (
            lambda text: progress.update(bar, description=text),
            lambda count: progress.advance(bar, count),
        )


def report_files(record: dict[str, Any]) -> dict[str, str]:
    """The files of the report by path: the page, its record and its plots."""
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
