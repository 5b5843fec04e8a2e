"""The test images of a comparison: the same files for all models, decoded for each geometry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bundle.format.manifest import Input
from bundle.imaging.folder import read_images
from bundle.imaging.geometry import prepare
from training.data.folders import TEST, list_classes
from training.data.load import load_cifar10, load_folder
from training.data.splits import SplitOptions, draw
from training.errors import DataError

CIFAR10_SIZE = 32  # pixels of a side: no resizing before the geometry of a model


@dataclass(frozen=True)
class HeldOut:
    """Test images, not resized yet: files, or pixels uint8 [N, H, W, 3] if there are no files."""

    name: str
    classes: list[str]
    images: list[Path] | NDArray[np.uint8]
    labels: NDArray[np.int64]  # [N]
    available: int  # images of the whole test split
    split_seed: int | None  # of the split of a folder without one; None: the split is given

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, geometry: Input) -> NDArray[np.uint8]:
        """uint8 [N, H, W, 3] in `geometry`, through the decoder of the service.

        Raises:
            DataError: an image can't be read.
        """
        if isinstance(self.images, np.ndarray):
            return np.stack([prepare(image, geometry) for image in self.images])
        pixels, unreadable = read_images(self.images, geometry)
        for file, reason in unreadable.items():
            raise DataError(f"A test image can't be read; fix or remove it. {file}: {reason}")
        return pixels


def held_out(data: str, *, seed: int, image_size: int, limit: int | None) -> HeldOut:
    """The test images of a data set: FOLDER/test, or the split that training drew.

    Args:
        seed: of the split if none is given, as in training, and of the draw of `limit`.
        image_size: size at which a folder without splits is read to draw its split, as in training.
        limit: maximum number of images, drawn as `--test-limit` of the training does; None: all.

    Raises:
        DataError: the data set can't be used, or `limit` is less than one image per class.
    """
    options = SplitOptions(image_size=image_size, seed=seed)
    folder = Path(data)
    if data == "cifar10" and not folder.is_dir():
        loaded = load_cifar10(Path("data"), replace(options, image_size=CIFAR10_SIZE))
        test = HeldOut(
            "cifar10",
            loaded.classes,
            loaded.test.pixels,
            loaded.test.labels,
            len(loaded.test),
            None,
        )
    elif any(entry.is_dir() for entry in (folder / TEST).glob("*")):
        files = list_classes(folder / TEST).files
        pairs = [(file, label) for label, name in enumerate(files) for file in files[name]]
        images, labels = (
            [file for file, _ in pairs],
            np.array([label for _, label in pairs], np.int64),
        )
        test = HeldOut(folder.resolve().name, list(files), images, labels, len(pairs), None)
    else:
        loaded = load_folder(folder, options, skip_unreadable=True)
        test = HeldOut(
            loaded.name,
            loaded.classes,
            loaded.test.files,
            loaded.test.labels,
            len(loaded.test),
            seed,
        )
    chosen = draw(test.labels, limit or 0, seed)
    return replace(
        test,
        images=test.images[chosen]
        if isinstance(test.images, np.ndarray)
        else [test.images[i] for i in chosen],
        labels=test.labels[chosen],
    )
