from __future__ import annotations

import numpy as np
import pytest

from training.augment import batches, class_weights
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


def test_rare_classes_are_drawn_more_often_and_every_image_before_one_comes_again() -> None:
    # 40, 8 and 2 images: evened out up to five times, an image of the rarest class counts five of the first.
    classes = np.repeat([0, 1, 2], [40, 8, 2])
    config = make_config(
        image_size=16, batch_size=10, oversampling=5.0, crop_padding=0, small_crop=0, flip=False
    )

    epochs = []
    for epoch in (0, 1):
        parts = list(batches(PIXELS, classes, config, epoch, FILL))
        images, labels = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        epochs.append([int((image == PIXELS).all((1, 2, 3)).argmax()) for image in images])
        assert np.bincount(labels).tolist() == [22, 22, 6]
        assert all(classes[i] == label for i, label in zip(epochs[-1], labels, strict=True))

    times = np.bincount(epochs[0], minlength=50)
    assert set(times[:40]) == {0, 1}
    assert set(times[40:48]) == {2, 3}
    assert set(times[48:]) == {3}
    assert set(epochs[0]) != set(epochs[1]), "which of the common ones come changes"


@pytest.mark.parametrize(
    ("counts", "weights"), [([10, 10], [1, 1]), ([30, 10], [1, 3]), ([100, 2, 50], [1, 10, 2])]
)
def test_classes_weigh_the_same_up_to_a_bound(counts: list[int], weights: list[float]) -> None:
    assert class_weights(np.repeat(range(len(counts)), counts), 10).tolist() == weights
    assert set(class_weights(np.repeat(range(len(counts)), counts), 1)) == {1}


@pytest.mark.parametrize("count", [3, 10, 25])
def test_less_than_a_batch_of_images_is_still_a_batch(count: int) -> None:
    config = make_config(image_size=16, batch_size=10)

    sizes = [len(labels) for _, labels in batches(PIXELS[:count], LABELS[:count], config, 0, FILL)]

    assert sizes == {3: [3], 10: [10], 25: [10, 10]}[count]
