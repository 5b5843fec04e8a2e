"""How a data set is divided: limits, test and validation splits, stratified and deterministic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.evaluation.calibration import MIN_VALIDATION
from training.config import TrainConfig
from training.data import duplicates
from training.data.dataset import Split
from training.errors import DataError

TEST_FRACTION = 0.2  # of each class, where no split is given
VALIDATION_STEP = 0.01  # by which the validation split grows where it may


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """The size of the images, and how they are divided.

    Attributes:
        image_size: side of the square that each image becomes, in pixels.
        validation_fraction: share of the training images that is held out.
        max_validation: up to which that share grows until there are MIN_VALIDATION images.
        train_limit: maximum number of training images, validation images included; 0: all.
        test_limit: maximum number of test images; 0: all.
    """

    image_size: int
    validation_fraction: float = TrainConfig.validation_fraction
    max_validation: float = 0.0
    seed: int = 0
    train_limit: int = 0
    test_limit: int = 0


def draw(labels: NDArray[np.int64], limit: int, seed: int) -> NDArray[np.int64]:
    """Draw `limit` images (0: all), at least one per class, otherwise in proportion to the classes.

    Returns:
        Their indices int64, in ascending order.

    Raises:
        DataError: the limit is below the number of classes.
    """
    if not limit or limit >= len(labels):
        return np.arange(len(labels))
    classes, counts = np.unique(labels, return_counts=True)
    if limit < len(classes):
        raise DataError(
            f"A limit leaves each class at least one image. Expected {len(classes)} or more. "
            f"Received: {limit}"
        )
    shares = (counts - 1) * (limit - len(classes)) / (len(labels) - len(classes))
    quotas = 1 + np.floor(shares).astype(int)
    largest = np.argsort(np.floor(shares) - shares, kind="stable")  # remainders, largest first
    quotas[largest[: limit - quotas.sum()]] += 1
    generator = np.random.default_rng([seed, limit])
    drawn = [
        generator.permutation(np.flatnonzero(labels == label))[:quota]
        for label, quota in zip(classes, quotas, strict=True)
    ]
    return np.sort(np.concatenate(drawn))


def share_of(count: int, fraction: float) -> int:
    """How many of a class's `count` images make up the share `fraction`: at least one."""
    return max(1, round(count * fraction))


def hold_out(train: Split, options: SplitOptions) -> tuple[Split, Split, float]:
    """Training split, validation split, and the share of the images that the latter has."""
    fraction, most = options.validation_fraction, options.max_validation
    rest, validation = divide(train, fraction, options.seed)
    while len(validation) < MIN_VALIDATION and fraction < most:
        fraction = min(most, round(fraction + VALIDATION_STEP, 2))
        rest, validation = divide(train, fraction, options.seed)
    return rest, validation, fraction


def divide(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Divide `split` in two; the second part has `fraction` of each class, at least one image.

    Duplicates of an image stay in its part: no test image was trained on.
    """
    generator = np.random.default_rng([seed, len(split)])
    group = duplicates.groups(split.pixels)
    second = np.zeros(len(split), bool)
    for label in np.unique(split.labels):
        members = np.unique(group[split.labels == label])
        chosen = generator.permutation(members)[: share_of(len(members), fraction)]
        second[np.isin(group, chosen)] = True
    return split.take(np.flatnonzero(~second)), split.take(np.flatnonzero(second))
