"""The test images that models are compared on: the same files for each, decoded for each model's own geometry."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bundle.errors import ImageError
from bundle.geometry import prepare
from bundle.image import decode_image
from bundle.manifest import Input
from training.config import TrainConfig
from training.data import TEST, _class_files, load_cifar10, load_folder
from training.errors import ConfigError, DataError


@dataclass(frozen=True)
class HeldOut:
    """Test images, not yet resized: a file each, or pixels uint8 [H, W, 3] where there are no files."""

    name: str
    classes: list[str]
    images: list[Path] | NDArray[np.uint8]
    labels: NDArray[np.int64]  # [N]
    available: int  # images of the whole test split
    split_seed: int | None  # the seed that drew the split from a folder without one; None: the split is given

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, geometry: Input) -> NDArray[np.uint8]:
        """uint8 [N, H, W, 3] as `geometry` wants them, through the decoder that serves requests.

        Raises:
            DataError: an image can't be read.
        """

        def read(image: Path | NDArray[np.uint8]) -> NDArray[np.uint8]:
            if not isinstance(image, Path):
                return prepare(image, geometry)
            try:
                return prepare(decode_image(image.read_bytes()).pixels, geometry)
            except (ImageError, OSError) as exc:
                raise DataError(f"A test image can't be read; mend or remove it. {image}: {exc}") from exc

        with ThreadPoolExecutor() as pool:  # the decoders of Pillow release the interpreter lock
            return np.stack(list(pool.map(read, self.images)))


def held_out(data: str, *, seed: int, image_size: int, limit: int | None) -> HeldOut:
    """The test images of a data set that `training.data` knows: FOLDER/test, or the split that training drew.

    Args:
        seed: of the split where none is given, as in training, and of the choice that `limit` makes.
        image_size: at which a folder without splits is read to draw its split, as training reads it.
        limit: at most so many images, with the classes in proportion; None: all.

    Raises:
        DataError: the data set can't be used.
        ConfigError: the limit is less than one image of each class.
    """
    validation = TrainConfig.validation_fraction  # taken from the training images: no matter here
    folder = Path(data)
    if data == "cifar10" and not folder.is_dir():
        loaded = load_cifar10(Path("data"), validation_fraction=validation, seed=seed)
        test = HeldOut("cifar10", loaded.classes, loaded.test.pixels, loaded.test.labels, 0, None)
    elif any(entry.is_dir() for entry in (folder / TEST).glob("*")):
        files = _class_files(folder / TEST)
        pairs = [(file, label) for label, name in enumerate(sorted(files)) for file in files[name]]
        labels = np.array([label for _, label in pairs], np.int64)
        name = folder.resolve().name
        test = HeldOut(name, sorted(files), [file for file, _ in pairs], labels, 0, None)
    else:
        whole = load_folder(
            folder, image_size=image_size, validation_fraction=validation, seed=seed, skip_unreadable=True
        )
        test = HeldOut(whole.name, whole.classes, whole.test.files, whole.test.labels, 0, seed)
    test = replace(test, available=len(test))
    return test if limit is None else _limited(test, limit, seed)


def _limited(test: HeldOut, limit: int, seed: int) -> HeldOut:
    if limit < len(test.classes):
        raise ConfigError(
            f"--limit leaves at least one image of each of the {len(test.classes)} classes. Received: {limit}"
        )
    generator = np.random.default_rng([seed, len(test)])
    place = np.empty(len(test))  # of an image in its class, in a random order, from 0 to below 1
    for label in np.unique(test.labels):
        members = np.flatnonzero(test.labels == label)
        place[generator.permutation(members)] = np.arange(len(members)) / len(members)
    chosen = np.sort(np.argsort(place, kind="stable")[:limit])
    images = test.images[chosen] if isinstance(test.images, np.ndarray) else [test.images[i] for i in chosen]
    return replace(test, images=images, labels=test.labels[chosen])
