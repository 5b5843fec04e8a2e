"""Random changes of each image, in Pillow: crops and colours, TrivialAugment, RandAugment.

Libraries offer both as layers of one framework only; here both frameworks train on the same pixels.
The operations and their ranges are those of torchvision, which follows the papers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

LEVELS = 30  # the strength of an operation is 0/30, 1/30 ... or 30/30
BILINEAR = Image.Resampling.BILINEAR
ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "color": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "sharpness": ImageEnhance.Sharpness,
}
OPERATIONS = (
    *("identity", "autocontrast", "equalize", "posterize", "solarize"),
    *("rotate", "shear_x", "shear_y", "translate_x", "translate_y"),
    *ENHANCERS,
)

# Of `photo`, an image's share of the area as in Touvron et al. 2019, "Fixing the train-test
# resolution discrepancy", and the ranges of torchvision's RandomResizedCrop and ColorJitter.
CROP_AREA = (0.35, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)  # width to height
JITTER = 0.3  # largest deviation of the factors of brightness, contrast and colour from 1

Chain = list[tuple[str, float]]  # operations in order, each with its strength from -1 to 1


@dataclass(frozen=True)
class Policy:
    """How many operations an image gets, how strong, and what full strength means for each."""

    operations: int
    level: int | None  # the strength of all operations, of LEVELS; None: drawn for each
    shear: float  # pixels per pixel
    translate: float  # fraction of the side
    translate_pixels: float  # upper bound of that, in pixels
    rotate: float  # degrees
    enhance: float  # deviation of the factor from 1, which is the identity
    posterize: int  # bits cleared


POLICIES = {
    # Mueller and Hutter 2021, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation":
    # the wide ranges.
    "trivial": Policy(1, None, 0.99, 1.0, 32.0, 135.0, 0.99, 6),
    # Cubuk et al. 2020, "RandAugment: Practical automated data augmentation with a reduced search
    # space".
    "randaugment": Policy(2, 9, 0.3, 150 / 331, np.inf, 30.0, 0.9, 4),
}


def draw_photos(count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw a crop and factors for each of `count` images: float64 [count, 7] for `apply_photo`."""
    area = generator.uniform(*CROP_AREA, count)
    low, high = CROP_RATIO
    ratio = np.exp(generator.uniform(math.log(low), math.log(high), count))
    sides = np.minimum(np.sqrt(np.stack([area * ratio, area / ratio], 1)), 1)  # width, height
    start = generator.random((count, 2)) * (1 - sides)
    factors = generator.uniform(1 - JITTER, 1 + JITTER, (count, 3))
    return np.concatenate([start, start + sides, factors], 1)


def apply_photo(
    drawn: NDArray[np.float64], pixels: NDArray[np.uint8], side: int
) -> NDArray[np.uint8]:
    """A random resized crop (Szegedy et al. 2015) with other brightness, contrast and colour.

    Args:
        drawn: float64 [7], a row of `draw_photos`.
        pixels: uint8 [H, W, 3].
        side: of the result, in pixels.

    Returns:
        uint8 [side, side, 3].
    """
    height, width = pixels.shape[:2]
    left, top, right, bottom, *factors = drawn
    box = (left * width, top * height, right * width, bottom * height)
    image = Image.fromarray(pixels).resize((side, side), BILINEAR, box=box)
    for kind, factor in zip(("brightness", "contrast", "color"), factors, strict=True):
        image = ENHANCERS[kind](image).enhance(factor)
    return np.asarray(image)


def draw_chains(policy: Policy, count: int, generator: np.random.Generator) -> list[Chain]:
    """Draw the operations of each of `count` images."""
    shape = (count, policy.operations)
    kinds = generator.integers(0, len(OPERATIONS), shape)
    if policy.level is None:
        levels = generator.integers(0, LEVELS + 1, shape)
    else:
        levels = np.full(shape, policy.level)
    strengths = levels / LEVELS * generator.choice((-1, 1), shape)
    return [
        [(OPERATIONS[kind], float(strength)) for kind, strength in zip(*row, strict=True)]
        for row in zip(kinds, strengths, strict=True)
    ]


def apply_chain(
    chain: Chain, policy: Policy, pixels: NDArray[np.uint8], fill: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Apply the operations in order.

    Args:
        chain: from `draw_chains` with the same `policy`.
        policy: what full strength means for each operation.
        pixels: uint8 [H, W, 3].
        fill: uint8 [3], the colour of pixels from outside the image.

    Returns:
        uint8 [H, W, 3].
    """
    image = Image.fromarray(pixels)
    for kind, strength in chain:
        image = _operate(image, kind, strength, policy, tuple(map(int, fill)))
    return np.asarray(image)


def _operate(
    image: Image.Image, kind: str, strength: float, policy: Policy, fill: tuple[int, ...]
) -> Image.Image:
    """One operation; those without a direction use the absolute value of `strength`."""
    if kind in ENHANCERS:
        return ENHANCERS[kind](image).enhance(1 + strength * policy.enhance)
    if kind == "autocontrast":
        return ImageOps.autocontrast(image)
    if kind == "equalize":
        return ImageOps.equalize(image)
    if kind == "posterize":
        return ImageOps.posterize(image, 8 - round(abs(strength) * policy.posterize))
    if kind == "solarize":
        return ImageOps.solarize(image, round(256 * (1 - abs(strength))))
    if kind == "rotate":
        return image.rotate(strength * policy.rotate, BILINEAR, fillcolor=fill)
    shear = strength * policy.shear
    shift = int(strength * min(policy.translate * image.width, policy.translate_pixels))
    inverse = {  # a, b, c, d, e, f: the pixel at (x, y) comes from (ax + by + c, dx + ey + f)
        "identity": None,
        "shear_x": (1, shear, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, shear, 1, 0),
        "translate_x": (1, 0, shift, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, shift),
    }[kind]
    if inverse is None:
        return image
    return image.transform(image.size, Image.Transform.AFFINE, inverse, BILINEAR, fillcolor=fill)
