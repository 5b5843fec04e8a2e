"""What the publishers of ImageNet weights say about them: quoted, never measured here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """What the publisher of ImageNet weights says about them."""

    labels: tuple[str, ...]
    accuracy: float  # top-1 on the validation set of ImageNet, a share
    source: str  # who says so
    resize: int  # of the shorter side, in pixels
    crop: int  # side of the square in the middle, in pixels
    interpolation: str


def imagenet_labels() -> tuple[str, ...]:
    """The names of the 1,000 classes of ImageNet, from the metadata of torchvision."""
    from torchvision.models import ResNet50_Weights  # noqa: PLC0415 - imports torch: not in a process with tensorflow

    return tuple(ResNet50_Weights.DEFAULT.meta["categories"])
