"""Evaluate a bundle that exists, and record it there or in its next version."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bundle.acceleration.accelerate import write_version
from bundle.acceleration.images import all_pixels, labelled_pixels
from bundle.acceleration.measure import TIMEOUT_S
from bundle.errors import ImagesInvalid
from bundle.evaluation.card import Measurement, recorded
from bundle.evaluation.certainty import Logits
from bundle.evaluation.evaluate import artifact_logits
from bundle.format.manifest import Manifest, read_manifest
from bundle.format.repository import verify_files
from bundle.format.rewrite import rewrite
from bundle.worker.blocking import RuntimeProcess

Progress = Callable[[str], object]


@dataclass(frozen=True)
class Evaluation:
    """What a bundle is measured on."""

    test: Path  # sub-folders by label
    others: tuple[Path, ...] = ()  # pictures that show none of the labels
    against: tuple[Path, ...] = ()  # bundles to compare with
    split: str = "test"  # what the test images are
    licence: str | None = None
    limits: tuple[str, ...] = ()
    artifact: str = "auto"


def evaluate_bundle(
    directory: Path, wanted: Evaluation, models: Path | None, progress: Progress = lambda _: None
) -> tuple[Path, Manifest]:
    """Measure a bundle, and write what was found.

    Args:
        directory: The bundle folder.
        wanted: The images.
        models: Where the next version goes; None: the record of `directory` is changed.
        progress: Is called with what is being done.

    Returns:
        The folder and the record that were written.

    Raises:
        BundleError: The bundle is not in order, or the images are not for it.
        OSError: The record can't be written.
    """
    manifest = read_manifest(directory)
    verify_files(directory, manifest)
    progress("reading the test images")
    pixels, labels = labelled_pixels(wanted.test, manifest)
    kinds = _kinds(wanted.others)
    with ExitStack() as stack:
        process = stack.enter_context(RuntimeProcess(directory, wanted.artifact))
        process.start(TIMEOUT_S)
        logits = artifact_logits(process, pixels, "measuring", progress)
        stretched = manifest.model_copy(update={"input": manifest.whole_input})
        whole_pixels, _ = labelled_pixels(wanted.test, stretched)
        whole = artifact_logits(process, whole_pixels, "measuring whole pictures", progress)
        others = {
            kind: artifact_logits(
                process, all_pixels(folder, manifest.input), f"measuring {kind}", progress
            )
            for kind, folder in kinds.items()
        }
        artifact = process.info["artifact_id"]
    against: dict[str, Logits] = {}
    for folder in wanted.against:
        other = _comparable(folder, manifest)
        with RuntimeProcess(folder, wanted.artifact) as process:
            process.start(TIMEOUT_S)
            images, _ = labelled_pixels(wanted.test, other)
            against[f"{other.name}@{other.version}"] = artifact_logits(
                process, images, f"measuring {other.name}", progress
            )
    found = Measurement(
        artifact=artifact,
        logits=logits,
        labels=labels,
        split=wanted.split,
        others=others,
        against=against,
        licence=wanted.licence,
        limits=wanted.limits,
        whole=whole,
    )
    changes, card = recorded(manifest, manifest.calibration.temperature, found)
    files = {changes["card"]: card}
    if models is None:
        return directory, rewrite(directory, manifest, changes, files)
    path = write_version(
        directory, manifest, manifest.model_dump(mode="json") | changes, models, files=files.items()
    )
    return path, read_manifest(path)


def _comparable(folder: Path, manifest: Manifest) -> Manifest:
    """The record of a bundle to compare with.

    Raises:
        ImagesInvalid: It has other labels.
    """
    other = read_manifest(folder)
    if other.labels != manifest.labels:
        raise ImagesInvalid(
            "Two models are compared on the same images if they have the same labels in the same "
            f"order. Received: {str(folder)!r}"
        )
    return other


def _kinds(folders: tuple[Path, ...]) -> dict[str, Path]:
    """The folders of one kind each, by kind: the sub-folders, or where there are none the folder.

    Raises:
        ImagesInvalid: A kind occurs twice, or a folder does not exist.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        inner = sorted(path for path in folder.glob("*") if path.is_dir())
        for each in inner or [folder]:
            if each.name in found or not each.is_dir():
                raise ImagesInvalid(
                    "Expected folders of pictures, each with a name of its own. "
                    f"Received: {str(each)!r}"
                )
            found[each.name] = each
    return found
