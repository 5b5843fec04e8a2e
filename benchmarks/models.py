"""The two models of the measurements, each with the images that are posted to it.

The ResNet-50 has random weights, because no ImageNet weights ship with the project: its speed is
that of any ResNet-50, its predictions mean nothing, and its accuracy is not reported. The ResNet-20
is the shipped one.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bundle.format.manifest import Manifest, ShorterSide, read_manifest

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build/bench"
PHOTOS = 32
PHOTO_SIZE = (500, 375)  # pixels, a common size in ImageNet


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

    def peer_files(self) -> tuple[Path, Path]:
        """The files for a peer: TorchScript, and JSON with the labels and the input size."""
        manifest = self.manifest
        resize = manifest.input.resize
        record = {
            "labels": manifest.labels,
            "resize": resize.size if isinstance(resize, ShorterSide) else resize.height,
            "crop": manifest.input.crop.height,
        }
        file = BUILD / f"{self.name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record))
        return self.bundle / manifest.source.path, file


def resnet20() -> Model:
    """The shipped ResNet-20 of PyTorch, and the sample images of the page."""
    images = tuple(sorted((ROOT / "frontend/samples").glob("*.jpg")))
    return Model(
        "ResNet-20, 32 pixels", ROOT / "models", "cifar10-resnet20-pytorch", 1, images, batch=32
    )


def resnet50() -> Model:
    """A ResNet-50 at 224 pixels with all artifacts, created once with the project's commands."""
    repository, photos = BUILD / "models", BUILD / "photos"
    if not (repository / "resnet50/1/manifest.json").exists():
        shutil.rmtree(repository, ignore_errors=True)
        _make(repository, photos)
    return Model(
        "ResNet-50, 224 pixels",
        repository,
        "resnet50",
        1,
        tuple(sorted(photos.glob("*.jpg"))),
        batch=8,
    )


def photo(width: int, height: int, seed: int = 0) -> bytes:
    """A synthetic photo: a JPEG of quality 90 with structure at every scale."""
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
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(content, "JPEG", quality=90)
    return content.getvalue()


def _make(repository: Path, photos: Path) -> None:
    photos.mkdir(parents=True, exist_ok=True)
    for number in range(PHOTOS):
        (photos / f"{number:02}.jpg").write_bytes(photo(*PHOTO_SIZE, seed=number))
    weights, plain = BUILD / "resnet50.pth", BUILD / "plain"
    shutil.rmtree(plain, ignore_errors=True)
    _run("-c", _RANDOM_WEIGHTS, weights)
    pretrained: list[str | Path] = [
        "--framework",
        "torch",
        "--arch",
        "resnet50",
        "--weights",
        weights,
        "--name",
        "resnet50",
    ]
    _run("-m", "training", "pretrained", *pretrained, "--no-accelerate", "--out", plain)
    _run(
        "-m",
        "bundle",
        "accelerate",
        plain / "resnet50/1",
        "--calibration",
        photos,
        "--models",
        repository,
    )


_RANDOM_WEIGHTS = """
import sys, torch, torchvision
torch.manual_seed(0)
torch.save(torchvision.models.resnet50(weights=None).state_dict(), sys.argv[1])
"""


def _run(*arguments: str | Path) -> None:
    subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
