"""What the publishers of ImageNet weights state about them: quoted, not measured here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True)
class Published:
    """What the publisher of ImageNet weights states about them."""

    labels: tuple[str, ...]
    accuracy: float  # top-1 on the validation set of ImageNet, 0 to 1
    source: str  # where that is stated
    resize: int  # of the shorter side, in pixels
    crop: int  # side of the centre crop, in pixels
    interpolation: Interpolation


def imagenet_labels() -> tuple[str, ...]:
    """The names of the 1,000 classes of ImageNet, from the metadata of torchvision."""
    # It imports torch, which must not share a process with tensorflow.
    from torchvision.models import ResNet50_Weights  # noqa: PLC0415

    return tuple(ResNet50_Weights.DEFAULT.meta["categories"])
