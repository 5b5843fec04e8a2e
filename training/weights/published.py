"""What the publishers of ImageNet weights state about them: quoted, not measured here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True)
class Pixels:
    """The preprocessing that weights were evaluated with."""

    resize: int  # of the shorter side, in pixels
    crop: int  # side of the centre crop, in pixels
    interpolation: Interpolation


# For weights of which nothing is stated: as in He et al. 2016, section 3.4, at one scale.
USUAL_PIXELS = Pixels(256, 224, "bilinear")


@dataclass(frozen=True)
class Published:
    """What the publisher of ImageNet weights states about them."""

    accuracy: float  # top-1 on the validation set of ImageNet, 0 to 1
    source: str  # where that is stated
    pixels: Pixels
