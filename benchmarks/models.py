"""The two models that are served for the measurements, each as a bundle and with the pictures that are posted to it.

The ResNet-50 has random weights, because none of ImageNet ship with the project: its speed is that of any ResNet-50, its
answers mean nothing, and so nothing is said here of its accuracy. The ResNet-20 is the shipped one.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.photos import photo
from bundle.format.manifest import Manifest, ShorterSide, read_manifest

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build/bench"
PHOTOS = 32
PHOTO_SIZE = (500, 375)  # pixels, the usual size of the photos of ImageNet


@dataclass(frozen=True)
class Model:
    """A model that is measured."""

    title: str
    repository: Path  # that the service is started on
    name: str
    version: int
    pictures: tuple[Path, ...]
    batch: int  # images of one pass in the measurement of the limits

    @property
    def bundle(self) -> Path:
        """Its folder."""
        return self.repository / self.name / str(self.version)

    @property
    def manifest(self) -> Manifest:
        """Its record."""
        return read_manifest(self.bundle)

    def peer_files(self) -> tuple[Path, Path]:
        """What a peer gets: the TorchScript file, and a file with the labels and the input size."""
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
    """The shipped ResNet-20 of PyTorch, and the sample pictures of the page."""
    pictures = tuple(sorted((ROOT / "frontend/samples").glob("*.jpg")))
    return Model(
        "ResNet-20, 32 pixels", ROOT / "models", "cifar10-resnet20-pytorch", 1, pictures, batch=32
    )


def resnet50() -> Model:
    """A ResNet-50 at 224 pixels, made by the project's own commands, with all its artifacts; made once."""
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


def _make(repository: Path, photos: Path) -> None:
    photos.mkdir(parents=True, exist_ok=True)
    for number in range(PHOTOS):
        (photos / f"{number:02}.jpg").write_bytes(photo(*PHOTO_SIZE, seed=number))
    weights, plain = BUILD / "resnet50.pth", BUILD / "plain"
    shutil.rmtree(plain, ignore_errors=True)
    _run("-c", _RANDOM_WEIGHTS, weights)
    pretrained = [
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
