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
    order = _order(labels, config.oversampling, generator)
    side = crop_size(config, epoch)
    size = min(config.batch_size, len(pixels))
    for start in range(0, len(pixels) - size + 1, size):
        chosen = order[start : start + size]
        images = _random_crops(pixels[chosen], side, config.crop_padding, fill, generator)
        if config.flip:
            turn = flipped[chosen]
            images[turn] = images[turn, :, ::-1]
        yield images, labels[chosen]


def class_weights(labels: NDArray[np.int64], oversampling: float) -> NDArray[np.float64]:
    """float64 [C]: how often an image of each class counts for one of the commonest class.

    That is the ratio of their numbers, so that the classes weigh the same, up to `oversampling`: beyond it a few
    images would be learnt by heart.
    """
    counts = np.bincount(labels)
    return np.minimum(counts.max() / np.maximum(counts, 1), oversampling)


def _order(
    labels: NDArray[np.int64], oversampling: float, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Indices int64 [N] of the images of an epoch: each once, or each class as often as `class_weights` says.

    An image comes again when all of its class have come.
    """
    if oversampling == 1:
        return generator.permutation(len(labels))
    shares = np.bincount(labels) * class_weights(labels, oversampling)
    ends = np.round(np.cumsum(shares) / shares.sum() * len(labels)).astype(int)
    drawn = []
    for label, quota in enumerate(np.diff(ends, prepend=0)):
        members = np.flatnonzero(labels == label)
        passes = -(-quota // max(1, len(members)))
        drawn += (
            [np.concatenate([generator.permutation(members) for _ in range(passes)])[:quota]]
            if passes
            else []
        )
    return generator.permutation(np.concatenate(drawn))


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
