"""Mixup and CutMix: each image of a batch, and its label, mixed with the one before it.

H. Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018: weighted means of two
images. S. Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
Features", ICCV 2019: a box of one image pasted into the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.config import TrainConfig


@dataclass(frozen=True)
class Mixture:
    """How the images of a batch are mixed.

    Attributes:
        shares: float32 [B], weight of the image itself, 0 to 1; the rest is the image before it.
        boxes: int64 [B, 4], top, left, bottom, right of the box pasted from that image; an empty
            box means mixup.
    """

    shares: NDArray[np.float32]
    boxes: NDArray[np.int64]

    def of(self, rows: NDArray[np.int64]) -> Mixture:
        """The mixture of the images at `rows` of the batch."""
        return Mixture(self.shares[rows], self.boxes[rows])

    def mix(
        self, images: NDArray[np.uint8], targets: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Mix each image and target except the first with the one before it.

        Args:
            images: uint8 [1 + B, S, S, 3].
            targets: float32 [1 + B, classes].

        Returns:
            uint8 [B, S, S, 3] and float32 [B, classes].
        """
        others, images = images[:-1], images[1:]
        mixed = images.copy()
        for i, (share, (top, left, bottom, right)) in enumerate(
            zip(self.shares, self.boxes, strict=True)
        ):
            if bottom > top and right > left:
                mixed[i, top:bottom, left:right] = others[i, top:bottom, left:right]
            else:
                mixed[i] = np.rint(share * images[i] + (1 - share) * others[i])
        shares = self.shares[:, None]
        return mixed, shares * targets[1:] + (1 - shares) * targets[:-1]


def draw_mixture(
    config: TrainConfig, count: int, side: int, generator: np.random.Generator
) -> Mixture:
    """Draw the mixture of `count` images of `side` x `side` pixels.

    If both mixup and CutMix are on, each image draws one of them with equal probability.
    """
    boxed = np.full(count, config.cutmix_alpha > 0)
    if config.mixup_alpha and config.cutmix_alpha:
        boxed = generator.random(count) < 0.5
    alphas = np.where(boxed, config.cutmix_alpha, config.mixup_alpha)
    shares = generator.beta(alphas, alphas)
    # Yun et al. 2019, equation 2: a box with the area `1 - share` around a uniform point.
    half = side * np.sqrt(1 - shares[:, None]) / 2
    centre = generator.uniform(0, side, (count, 2))
    low, high = (
        np.rint(np.clip(edge, 0, side)).astype(np.int64) for edge in (centre - half, centre + half)
    )
    boxes = np.where(boxed[:, None], np.hstack((low, high)), 0)
    # The box is clipped to the image, so the share is recomputed from its final area.
    shares = np.where(boxed, 1 - (high - low).prod(1) / side**2, shares)
    return Mixture(shares.astype(np.float32), boxes)
