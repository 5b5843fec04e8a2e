"""Mixup and CutMix: each image of a batch mixed with the one before it, and its label likewise.

H. Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018: weighted means of two images.
S. Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019: a
box of one image in the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.config import TrainConfig


@dataclass(frozen=True)
class Mixture:
    """How the images of a batch are mixed."""

    shares: NDArray[
        np.float32
    ]  # [B], of the image itself, in [0, 1]; the rest is the image before it
    boxes: NDArray[
        np.int64
    ]  # [B, 4] top, left, bottom, right of what comes from that image; empty: mixup

    def of(self, rows: NDArray[np.int64]) -> Mixture:
        """The mixture of these images of the batch."""
        return Mixture(self.shares[rows], self.boxes[rows])

    def mix(
        self, images: NDArray[np.uint8], targets: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Each image and target but the first mixed with the one before it.

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
    """The mixture of `count` images of `side` x `side` pixels; where mixup and CutMix are on, a coin decides for each."""
    boxed = np.full(count, config.cutmix_alpha > 0)
    if config.mixup_alpha and config.cutmix_alpha:
        boxed = generator.random(count) < 0.5
    alphas = np.where(boxed, config.cutmix_alpha, config.mixup_alpha)
    shares = generator.beta(alphas, alphas)
    # Yun et al. 2019, equation 2: a box of the area that `1 - share` says, around a point anywhere in the image.
    half = side * np.sqrt(1 - shares[:, None]) / 2
    centre = generator.uniform(0, side, (count, 2))
    low, high = (
        np.rint(np.clip(edge, 0, side)).astype(np.int64) for edge in (centre - half, centre + half)
    )
    boxes = np.where(boxed[:, None], np.hstack((low, high)), 0)
    # What lies outside is cut off, so that the share is what the box leaves.
    shares = np.where(boxed, 1 - (high - low).prod(1) / side**2, shares)
    return Mixture(shares.astype(np.float32), boxes)
