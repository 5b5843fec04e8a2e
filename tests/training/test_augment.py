from __future__ import annotations

import numpy as np
import pytest

from training.augment import batches
from training.config import make_config

GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (50, 16, 16, 3), dtype=np.uint8)
LABELS = np.arange(50, dtype=np.int64)
FILL = np.array([1, 2, 3], np.uint8)


def draw(epoch: int, **changes: object) -> tuple[np.ndarray, np.ndarray]:
    config = make_config(image_size=16, batch_size=10, epochs=4, **changes)
    parts = list(batches(PIXELS, LABELS, config, epoch, FILL))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def test_an_epoch_is_a_function_of_the_seed_and_its_number() -> None:
    first, again, later = draw(1), draw(1), draw(2)

    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], later[1])
    assert not np.array_equal(first[1], draw(1, seed=1)[1])


def test_every_image_comes_once_an_epoch() -> None:
    assert sorted(draw(0)[1]) == sorted(LABELS)


def test_a_crop_is_a_window_of_its_own_image_perhaps_flipped() -> None:
    crops, labels = draw(0, small_crop=12)

    assert crops.shape == (50, 12, 12, 3)
    windows = np.lib.stride_tricks.sliding_window_view(PIXELS, (12, 12), axis=(1, 2)).transpose(
        0, 1, 2, 4, 5, 3
    )
    for crop, label in zip(crops, labels, strict=True):
        candidates = windows[label].reshape(-1, 12, 12, 3)
        assert (candidates == crop).all((1, 2, 3)).any() or (candidates == crop[:, ::-1]).all((1, 2, 3)).any()


def test_who_is_flipped_in_one_epoch_is_not_in_the_next() -> None:
    # With no room to crop, an image comes as it is or mirrored.
    flipped = {}
    for epoch in (0, 1):
        images, labels = draw(epoch, crop_padding=0, small_crop=0)
        flipped[epoch] = {
            int(label): not np.array_equal(image, PIXELS[label])
            for image, label in zip(images, labels, strict=True)
        }

    assert 10 < sum(flipped[0].values()) < 40
    assert all(flipped[0][i] != flipped[1][i] for i in flipped[0])


def test_padding_has_the_fill_colour() -> None:
    images, _ = draw(0, crop_padding=16, small_crop=0)

    assert (images.reshape(-1, 3) == FILL).all(1).mean() > 0.2


@pytest.mark.parametrize("count", [3, 10, 25])
def test_less_than_a_batch_of_images_is_still_a_batch(count: int) -> None:
    config = make_config(image_size=16, batch_size=10)

    sizes = [len(labels) for _, labels in batches(PIXELS[:count], LABELS[:count], config, 0, FILL)]

    assert sizes == {3: [3], 10: [10], 25: [10, 10]}[count]
