from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from training.config import make_config
from training.data.augment import OPERATIONS, POLICIES, apply_chain
from training.data.batches import batches, class_weights

GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (50, 16, 16, 3), dtype=np.uint8)
LABELS = np.arange(50, dtype=np.int64)
FILL = np.array([1, 2, 3], np.uint8)
Options = dict[str, Any]
Drawn = tuple[NDArray[np.uint8], NDArray[np.float32]]
PLAIN: Options = {"flip": False, "crop_padding": 0, "small_crop": 0}
MIXED: Options = {"augment": "trivial", "mixup_alpha": 0.2, "cutmix_alpha": 1.0}


def draw_targets(epoch: int, pixels: NDArray[np.uint8] = PIXELS, **changes: Any) -> Drawn:
    config = make_config(image_size=16, batch_size=10, epochs=4, **changes)
    parts = list(batches(pixels, LABELS, len(LABELS), config, epoch, FILL))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def draw(epoch: int, **changes: Any) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, targets = draw_targets(epoch, **changes)
    return images, targets.argmax(1)


@pytest.mark.parametrize(
    "changes",
    [{}, MIXED, {"augment": "randaugment"}, {"augment": "photo"}],
    ids=["plain", "mixed", "rand", "photo"],
)
def test_an_epoch_is_a_function_of_the_seed_and_its_number(changes: Options) -> None:
    first, again, later = (
        draw_targets(1, **changes),
        draw_targets(1, **changes),
        draw_targets(2, **changes),
    )

    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], later[1])
    assert not np.array_equal(first[1], draw_targets(1, seed=1, **changes)[1])


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
        assert (candidates == crop).all((1, 2, 3)).any() or (candidates == crop[:, ::-1]).all(
            (1, 2, 3)
        ).any()


def test_a_photo_is_a_part_of_its_own_image_with_other_colours() -> None:
    # In each image red grows from left to right and green from top to bottom; blue is its number.
    ramp = np.linspace(0, 255, 16)
    pixels = np.zeros((50, 16, 16, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = ramp, ramp[:, None]
    pixels[..., 2] = 5 * LABELS[:, None, None]

    config = make_config(
        image_size=16, batch_size=10, augment="photo", small_crop=12, epochs=2, flip=False
    )
    drawn = list(batches(pixels, LABELS, 50, config, 0, FILL))
    crops = np.concatenate([part[0] for part in drawn]).astype(int)

    numbers = np.concatenate([part[1] for part in drawn]).argmax(1)

    assert crops.shape == (50, 12, 12, 3)
    blues = crops[..., 2].mean((1, 2))
    assert np.corrcoef(blues, numbers)[0, 1] > 0.9, "its own image"
    assert np.ptp(blues / (5 * numbers + 1)) > 0.1, "other colours"
    assert (np.diff(crops[..., 0].mean(1)) >= 0).all(), "left stays left"
    assert (np.diff(crops[..., 1].mean(2)) >= 0).all(), "up stays up"
    spans = np.ptp(crops[..., 0].mean(1), axis=1)
    assert 20 < spans.min() < spans.max() * 0.8, "parts of several sizes"
    assert np.array_equal(
        draw(0, augment="photo", small_crop=12, crop_padding=0)[0].shape, (50, 12, 12, 3)
    )


def test_an_image_flipped_in_one_epoch_is_not_flipped_in_the_next() -> None:
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
    # 40, 8 and 2 images, balanced up to 5 times: one of the rarest class counts 5 of the first.
    classes = np.repeat([0, 1, 2], [40, 8, 2])
    config = make_config(
        image_size=16, batch_size=10, oversampling=5.0, crop_padding=0, small_crop=0, flip=False
    )

    epochs = []
    for epoch in (0, 1):
        parts = list(batches(PIXELS, classes, 3, config, epoch, FILL))
        images, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
        labels = labels.argmax(1)
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

    sizes = [
        len(targets) for _, targets in batches(PIXELS[:count], LABELS[:count], 50, config, 0, FILL)
    ]

    assert sizes == {3: [3], 10: [10], 25: [10, 10]}[count]


@pytest.mark.parametrize("changes", [{}, MIXED], ids=["plain", "mixed"])
def test_the_shares_of_a_batch_make_up_the_whole(changes: Options) -> None:
    config = make_config(image_size=16, batch_size=10, **changes)
    arguments = (PIXELS, LABELS, len(LABELS), config, 1, FILL)

    whole = list(batches(*arguments))
    shares = [list(batches(*arguments, (number, 2))) for number in range(2)]

    for batch, *parts in zip(whole, *shares, strict=True):
        assert len(parts[0][1]) == 5
        for index in range(2):
            assert np.array_equal(batch[index], np.concatenate([part[index] for part in parts]))


def test_a_smoothed_target_leaves_the_others_their_share() -> None:
    _, targets = draw_targets(0, label_smoothing=0.1)

    assert np.allclose(targets.sum(1), 1)
    assert np.allclose(targets.max(1), 0.9 + 0.1 / 50)
    assert np.allclose(targets.min(1), 0.1 / 50)


@pytest.mark.parametrize(
    "changes", [{"mixup_alpha": 1.0}, {"cutmix_alpha": 1.0}], ids=["mixup", "cutmix"]
)
def test_a_target_has_the_shares_of_a_mixed_image(changes: Options) -> None:
    colours = 5 * np.arange(50)  # of image and label alike
    pixels = np.broadcast_to(colours[:, None, None, None], PIXELS.shape).astype(np.uint8)

    images, targets = draw_targets(0, pixels, **PLAIN, **changes)

    assert np.allclose(targets.sum(1), 1)
    assert ((targets > 0).sum(1) == 2).mean() > 0.8
    assert np.abs(images.mean((1, 2, 3)) - targets @ colours).max() < 0.51, (
        "rounded to whole values"
    )
    colours_in = max(len(np.unique(image)) for image in images)
    assert colours_in == (1 if "mixup_alpha" in changes else 2)


def test_without_strength_only_the_histogram_operations_change_an_image() -> None:
    image = PIXELS[0] // 2 + 60
    changed = {
        kind: [
            not np.array_equal(
                apply_chain([(kind, strength)], POLICIES["trivial"], image, FILL), image
            )
            for strength in (0.0, 1.0)
        ]
        for kind in OPERATIONS
    }

    assert {kind for kind, (without, _) in changed.items() if without} == {
        "autocontrast",
        "equalize",
    }
    assert {kind for kind, (_, at_full) in changed.items() if not at_full} == {"identity"}


def test_what_a_policy_moves_in_has_the_fill_colour() -> None:
    for strength, column in ((0.25, -1), (-0.25, 0)):
        moved = apply_chain([("translate_x", strength)], POLICIES["trivial"], PIXELS[0], FILL)

        assert (moved[:, column] == FILL).all()
        assert (moved == FILL).all(2).mean() == 0.25
