"""Training batches: shuffled, augmented uint8 pixels and soft targets, alike in both frameworks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from training.config import TrainConfig
from training.data.augment import POLICIES, apply_chain, apply_photo, draw_chains, draw_photos
from training.data.mixup import draw_mixture
from training.schedule import crop_size


def batches(
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: int,
    config: TrainConfig,
    epoch: int,
    fill: NDArray[np.uint8],
    rank_and_world_size: tuple[int, int] = (0, 1),
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """The batches of one epoch.

    They depend on the seed and the epoch alone, so a resumed run sees the same ones.

    Args:
        pixels: uint8 [N, H, W, 3].
        labels: int64 [N], below `classes`.
        classes: the number of classes.
        config: of the run.
        epoch: counted from 0.
        fill: uint8 [3], the colour of the padding: the mean colour, which normalises to zero.
        rank_and_world_size: which part of each batch to make, and how many parts there are; every
            rank draws the same random numbers.

    Yields:
        uint8 [B, S, S, 3] and float32 [B, classes], the soft targets: other than 0 and 1 after
        label smoothing (Szegedy et al. 2016), mixup or CutMix. B = `batch_size` / world size (the
        remainder of an epoch is dropped, unless it is the only batch), S = the crop size of the
        epoch.
    """
    generator = np.random.default_rng([config.seed, epoch])
    # Alternating flip: half of the images are flipped in even epochs, the other half in odd ones.
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
    rank, world_size = rank_and_world_size
    first, last = (size * part // world_size for part in (rank, rank + 1))
    for start in range(0, len(pixels) - size + 1, size):
        chosen = order[start : start + size]
        top = generator.integers(0, height + 2 * padding - side + 1, size)
        left = generator.integers(0, width + 2 * padding - side + 1, size)
        chains = draw_chains(policy, size, generator) if policy else None
        photos = draw_photos(size, generator) if config.augment == "photo" else None
        mixture = draw_mixture(config, size, side, generator) if mixed else None
        # The part's first image is mixed with the one before it; -1 is the last of the batch.
        rows = np.arange(first - 1 if mixed else first, last)
        images = pixels[chosen[rows]]
        if photos is None:
            images = _crops(images, top[rows], left[rows], side, padding, fill)
        else:
            pairs = zip(photos[rows], images, strict=True)
            images = np.stack([apply_photo(drawn, image, side) for drawn, image in pairs])
        if config.flip:
            mirrored = flipped[chosen[rows]]
            images[mirrored] = images[mirrored, :, ::-1]
        if policy and chains:
            for image, row in zip(images, rows, strict=True):
                image[:] = apply_chain(chains[row], policy, image, fill)
        targets = np.eye(classes, dtype=np.float32)[labels[chosen[rows]]]
        if mixture:
            images, targets = mixture.of(rows[1:]).mix(images, targets)
        if config.label_smoothing:
            smoothing = config.label_smoothing
            targets = targets * np.float32(1 - smoothing) + np.float32(smoothing / classes)
        yield images, targets


def class_weights(labels: NDArray[np.int64], oversampling: float) -> NDArray[np.float64]:
    """The weight of an image of each class, relative to the largest class: float64 [C].

    The inverse ratio of their sizes, which balances the classes, up to `oversampling`: beyond it a
    few images would be memorised.
    """
    counts = np.bincount(labels)
    weights: NDArray[np.float64] = counts.max() / np.maximum(counts, 1)
    return np.minimum(weights, oversampling)


def _order(
    labels: NDArray[np.int64], oversampling: float, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Indices int64 [N] of the images of an epoch: each once, or balanced by `class_weights`.

    An image is repeated only after all others of its class.
    """
    if oversampling == 1:
        return generator.permutation(len(labels))
    shares = np.bincount(labels) * class_weights(labels, oversampling)
    ends = np.round(np.cumsum(shares) / shares.sum() * len(labels)).astype(int)
    drawn: list[NDArray[np.int64]] = []
    for label, quota in enumerate(np.diff(ends, prepend=0)):
        members = np.flatnonzero(labels == label)
        passes = -(-quota // max(1, len(members)))
        if passes:
            repeated = [generator.permutation(members) for _ in range(passes)]
            drawn.append(np.concatenate(repeated)[:quota])
    return generator.permutation(np.concatenate(drawn))


def _crops(
    images: NDArray[np.uint8],
    top: NDArray[np.int64],
    left: NDArray[np.int64],
    side: int,
    padding: int,
    fill: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """Crops of `side` x `side` pixels at `top`, `left` [B] of the images padded with `fill`."""
    if padding:
        count, height, width, _ = images.shape
        padded = np.empty((count, height + 2 * padding, width + 2 * padding, 3), np.uint8)
        padded[:] = fill
        padded[:, padding:-padding, padding:-padding] = images
        images = padded
    windows = np.lib.stride_tricks.sliding_window_view(images, (side, side), axis=(1, 2))
    crops = windows[np.arange(len(images)), top, left]  # [B, 3, S, S]
    return np.ascontiguousarray(crops.transpose(0, 2, 3, 1))
