"""Training batches: shuffled, randomly cropped and flipped uint8 pixels, the same sequence for both frameworks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from training.config import TrainConfig
from training.schedule import crop_size


def batches(
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    config: TrainConfig,
    epoch: int,
    fill: NDArray[np.uint8],
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """The batches of one epoch; a function of the seed and the epoch alone, so a resumed run sees the same ones.

    Args:
        pixels: uint8 [N, H, W, 3].
        labels: int64 [N].
        fill: uint8 [3], the colour of the padding: the mean colour, which the network sees as zero.

    Yields:
        uint8 [B, S, S, 3] and int64 [B], B = `batch_size` (the remainder of an epoch is left to the next
        shuffle, unless there is less than one batch), S = the crop size of the epoch.
    """
    generator = np.random.default_rng([config.seed, epoch])
    # The first draw decides who is flipped in even epochs; in odd ones it is the others (alternating flip).
    flipped = np.random.default_rng([config.seed]).random(len(pixels)) < 0.5
    if epoch % 2:
        flipped = ~flipped
    order = generator.permutation(len(pixels))
    side = crop_size(config, epoch)
    size = min(config.batch_size, len(pixels))
    for start in range(0, len(pixels) - size + 1, size):
        chosen = order[start : start + size]
        images = _random_crops(pixels[chosen], side, config.crop_padding, fill, generator)
        if config.flip:
            turn = flipped[chosen]
            images[turn] = images[turn, :, ::-1]
        yield images, labels[chosen]


def _random_crops(
    images: NDArray[np.uint8],
    side: int,
    padding: int,
    fill: NDArray[np.uint8],
    generator: np.random.Generator,
) -> NDArray[np.uint8]:
    """One crop of `side` x `side` pixels per image, from the image padded with `fill` where it is not larger."""
    height, width = images.shape[1:3]
    if side >= min(height, width):
        padded = np.empty((len(images), height + 2 * padding, width + 2 * padding, 3), np.uint8)
        padded[:] = fill
        padded[:, padding : padding + height, padding : padding + width] = images
        images = padded
    windows = np.lib.stride_tricks.sliding_window_view(images, (side, side), axis=(1, 2))
    top = generator.integers(0, windows.shape[1], len(images))
    left = generator.integers(0, windows.shape[2], len(images))
    crops = windows[np.arange(len(images)), top, left]  # [B, 3, S, S]
    return np.ascontiguousarray(crops.transpose(0, 2, 3, 1))
