"""The options of an import, checked; what is None, the file says or is assumed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bundle.errors import ImportFailed
from bundle.format.labels import imagenet_labels
from bundle.format.manifest import NAME_PATTERN
from bundle.normalisation import CAFFE, MINUS_ONE_TO_ONE, TORCHVISION, Normalisation

NAMED = {
    "imagenet": TORCHVISION,
    "0..1": Normalisation((0.0,) * 3, (255.0,) * 3),
    "-1..1": MINUS_ONE_TO_ONE,
    "caffe": CAFFE,
    "0..255": Normalisation((0.0,) * 3, (1.0,) * 3),
}


@dataclass(frozen=True)
class Options:
    """How a model is read; every field may be None."""

    arch: str | None = None
    size: tuple[int, int] | None = None  # height and width
    resize: int | None = None  # of the shorter side
    stretch: bool = False  # to `size`, without a crop
    interpolation: str | None = None
    normalise: str | None = None  # as the user wrote it
    outputs: str | None = None
    layout: str | None = None
    classes: int | None = None  # how many labels there are


def normalisation(text: str) -> Normalisation:
    """The normalisation that `--normalise` names.

    Raises:
        ImportFailed: It is neither a name nor a mean and a standard deviation.
    """
    if text in NAMED:
        return NAMED[text]
    try:
        mean, std = ([float(v) for v in part.split(",")] for part in text.split("/"))
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError
    except ValueError:
        raise ImportFailed(
            f"The normalisation is unknown. Expected --normalise {'|'.join(NAMED)} or the mean and "
            "standard deviation of values of 0 to 1, as 0.5,0.5,0.5/0.5,0.5,0.5. "
            f"Received: {text!r}"
        ) from None
    return Normalisation(tuple(255 * v for v in mean), tuple(255 * v for v in std))


def image_size(text: str) -> tuple[int, int]:
    """Height and width of `--size 224` or `--size 192x256`.

    Raises:
        ImportFailed: It is neither.
    """
    found = re.fullmatch(r"([1-9]\d{0,3})(?:x([1-9]\d{0,3}))?", text)
    if found is None:
        raise ImportFailed(
            f"The size is wrong. Expected --size PIXELS, or --size HEIGHTxWIDTH. Received: {text!r}"
        )
    return int(found[1]), int(found[2] or found[1])


def read_labels(text: str) -> tuple[list[str], list[str] | None]:
    """The labels that `--labels` gives, and their ids if they have any.

    Args:
        text: `imagenet`, a file with one label a line, or labels with commas between.

    Raises:
        ImportFailed: The file can't be read, there are fewer than two labels, or one occurs twice.
    """
    if text == "imagenet":
        return imagenet_labels()
    path = Path(text)
    if path.is_file():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as exc:
            raise ImportFailed(
                "The labels can't be read. Expected a text file with one label a line, in the "
                f"order of the model's outputs. Received: {text!r}: {exc}"
            ) from exc
    elif "," in text:
        lines = text.split(",")
    else:
        raise ImportFailed(
            "A classifier has two or more labels. Expected --labels FILE (one label a line), a,b,c "
            f"or imagenet. Received: {text!r}, which is one label, or a file that does not exist"
        )
    return distinct([line.strip() for line in lines if line.strip()]), None


def distinct(labels: list[str]) -> list[str]:
    """The labels, if there are two or more and each occurs once.

    Raises:
        ImportFailed: There are fewer, or one occurs twice.
    """
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None or len(labels) < 2:
        raise ImportFailed(
            "A model has two or more labels, and each occurs once. "
            f"Received: {repr(twice) + ' twice' if twice else labels}"
        )
    return labels


def usual_name(path: Path) -> str:
    """A model name made of the name of a file or folder."""
    stem = path.absolute().name
    for suffix in (".weights.h5", path.suffix):
        stem = stem.removesuffix(suffix) if len(suffix) <= len(".safetensors") else stem
    return re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")[:64] or "imported"


def check_places(name: str, models: Path, images: Mapping[str, Path | None]) -> None:
    """Check, before minutes of work, where the bundle goes and where the images are.

    Args:
        name: Of the model.
        models: The repository, which may not exist yet.
        images: The folders of images by their option.

    Raises:
        ImportFailed: The name is not valid, or a folder is missing or can't be written to.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise ImportFailed(
            "A model name has lower-case letters, digits, '-', '_' and '.', 64 at most. Expected "
            f"for example --name {usual_name(Path(name))}. Received: --name {name}"
        )
    whole = models.absolute()
    existing = next(folder for folder in (whole, *whole.parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ImportFailed(
            "The model repository can't be written to. Expected --models FOLDER with the "
            f"permission to write there. Received: {str(models)!r}"
        )
    for option, folder in images.items():
        if folder is not None and not folder.is_dir():
            raise ImportFailed(
                f"There is no such folder. Expected {option} FOLDER with images. "
                f"Received: {str(folder)!r}"
            )


def completed(options: Options, **said: object) -> Options:
    """The options with what the file says where the user said nothing."""
    missing = {name: value for name, value in said.items() if getattr(options, name) is None}
    return replace(options, **missing)  # type: ignore[arg-type]
