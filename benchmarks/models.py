"""The two models of the measurements, both shipped, and the photos that are posted to them.

The photos are synthetic, of a usual size in ImageNet in pixels and bytes (500 x 375, 110 kB).
"""

from __future__ import annotations

import io
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bundle.format.manifest import Manifest, ShorterSide, read_manifest

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build/bench"
REPOSITORY = ROOT / "models"
PHOTOS = 32
PHOTO_SIZE = (500, 375)  # pixels
QUALITY = 98  # of the JPEG files, for their size in bytes


@dataclass(frozen=True)
class Model:
    """A model under test."""

    title: str
    repository: Path  # served by the service
    name: str
    version: int
    images: tuple[Path, ...]
    batch: int  # images per forward pass when measuring the limits

    @property
    def bundle(self) -> Path:
        """The folder of the bundle."""
        return self.repository / self.name / str(self.version)

    @property
    def manifest(self) -> Manifest:
        """The manifest of the bundle."""
        return read_manifest(self.bundle)

    def peer_files(self, artifact: str) -> tuple[Path, Path]:
        """The files for a peer: an artifact, and JSON with the labels and the geometry."""
        manifest = self.manifest
        found = manifest.artifact(artifact) or manifest.source
        resize = manifest.input.resize
        record = {
            "labels": manifest.labels,
            "resize": resize.size if isinstance(resize, ShorterSide) else resize.height,
            "crop": manifest.input.crop.height,
            "interpolation": resize.interpolation,
        }
        file = BUILD / f"{self.name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record))
        return self.bundle / found.path, file


def resnet20() -> Model:
    """The shipped ResNet-20 of PyTorch."""
    return Model("ResNet-20, 32 pixels", REPOSITORY, "cifar10-resnet20-pytorch", 1, photos(), 32)


def resnet50() -> Model:
    """The shipped ResNet-50."""
    return Model("ResNet-50, 224 pixels", REPOSITORY, "imagenet-resnet50", 1, photos(), 4)


def alone(model: Model) -> Path:
    """A repository with this model only, so that memory and cores are those that it needs."""
    repository = BUILD / "alone" / model.name
    shutil.rmtree(repository, ignore_errors=True)
    target = repository / model.name / str(model.version)
    shutil.copytree(model.bundle, target, copy_function=os.link)
    return repository


def photos() -> tuple[Path, ...]:
    """The photos, drawn once."""
    folder = BUILD / f"photos-{QUALITY}"
    files = [folder / f"{number:02}.jpg" for number in range(PHOTOS)]
    folder.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(files):
        if not file.exists():
            file.write_bytes(photo(*PHOTO_SIZE, number, QUALITY))
    return tuple(files)


def photo(width: int, height: int, seed: int = 0, quality: int = 90) -> bytes:
    """A synthetic photo: a JPEG with structure at every scale."""
    random = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 128.0)
    side = 4
    while side < max(width, height):
        coarse = random.normal(0, 90 / side**0.5, (side * height // width + 1, side, 3))
        layers = [
            Image.fromarray(coarse[..., channel].astype(np.float32)).resize(
                (width, height), Image.Resampling.BICUBIC
            )
            for channel in range(3)
        ]
        pixels += np.stack([np.asarray(layer) for layer in layers], axis=-1)
        side *= 2
    content = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(content, "JPEG", quality=quality)
    return content.getvalue()
