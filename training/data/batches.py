"""Training batches: shuffled and augmented uint8 pixels with their targets, the same sequence for both frameworks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from training.config import TrainConfig
from training.data.augment import POLICIES, carry_out, draw_chains
from training.data.mixup import draw_mixture
from training.schedule import crop_size


def batches(
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: int,
    config: TrainConfig,
    epoch: int,
    fill: NDArray[np.uint8],
    share: tuple[int, int] = (0, 1),
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """The batches of one epoch; a function of the seed and the epoch alone, so a resumed run sees the same ones.

    Args:
        pixels: uint8 [N, H, W, 3].
        labels: int64 [N], below `classes`.
        fill: uint8 [3], the colour of the padding: the mean colour, which the network sees as zero.
        share: which part of each batch to make, and how many parts there are; what is drawn is the same for all.

    Yields:
        uint8 [B, S, S, 3] and float32 [B, classes], the share of each class in an image, which is not 0 or 1 after
        label smoothing (Szegedy et al. 2016), mixup or CutMix. B = `batch_size`, or the share of it (the remainder of an
        epoch is left to the next shuffle, unless there is less than one batch), S = the crop size of the epoch.
    """
    generator = np.random.default_rng([config.seed, epoch])
    # The first draw decides who is flipped in even epochs; in odd ones it is the others (alternating flip).
    flipped = np.random.default_rng([config.seed]).random(len(pixels)) < 0.5
    if epoch % 2:
        flipped = ~flipped
    order = _order(labels, config.oversampling, generator)
    side = crop_size(config, epoch)
    height, width = pixels.shape[1:3]
    padding = config.crop_padding if side >= min(height, width) else 0
    policy = POLICIES.get(config.augment)
    mixed = config.mixup_alpha > 0 or config.cutmix_alpha > 0
    size = min(config.batch_size, len(pixels)) // config.devices * config.devices
    first, last = (size * part // share[1] for part in (share[0], share[0] + 1))
    for start in range(0, len(pixels) - size + 1, size):
        chosen = order[start : start + size]
        top = generator.integers(0, height + 2 * padding - side + 1, size)
        left = generator.integers(0, width + 2 * padding - side + 1, size)
        chains = draw_chains(policy, size, generator) if policy else None
        mixture = draw_mixture(config, size, side, generator) if mixed else None
        # The first image of the share is mixed with the one before it; before the first of the batch comes the last.
        rows = np.arange(first - 1 if mixed else first, last)
        images = _crops(pixels[chosen[rows]], top[rows], left[rows], side, padding, fill)
        if config.flip:
            turn = flipped[chosen[rows]]
            images[turn] = images[turn, :, ::-1]
        if policy and chains:
            for image, row in zip(images, rows, strict=True):
                image[:] = carry_out(chains[row], policy, image, fill)
        targets = np.eye(classes, dtype=np.float32)[labels[chosen[rows]]]
        if mixture:
            images, targets = mixture.of(rows[1:]).mix(images, targets)
        if config.label_smoothing:
            targets = targets * np.float32(1 - config.label_smoothing) + np.float32(
                config.label_smoothing / classes
            )
        yield images, targets


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


def _crops(
    images: NDArray[np.uint8],
    top: NDArray[np.int64],
    left: NDArray[np.int64],
    side: int,
    padding: int,
    fill: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """`side` x `side` pixels of each image, from `top` and `left` [B] on, counted in the image padded with `fill`."""
    if padding:
        padded = np.empty(
            (len(images), images.shape[1] + 2 * padding, images.shape[2] + 2 * padding, 3), np.uint8
        )
        padded[:] = fill
        padded[:, padding:-padding, padding:-padding] = images
        images = padded
    windows = np.lib.stride_tricks.sliding_window_view(images, (side, side), axis=(1, 2))
    crops = windows[np.arange(len(images)), top, left]  # [B, 3, S, S]
    return np.ascontiguousarray(crops.transpose(0, 2, 3, 1))
