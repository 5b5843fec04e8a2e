from __future__ import annotations

from dataclasses import replace

import pytest

from training.choose import Machine, choose, wanted_weights
from training.data.survey import Survey
from training.errors import ConfigError, DataError

PHOTOS = Survey(counts={"cat": 120, "truck": 120}, test=None, side=450, digest="")
LAPTOP = Machine(memory=8_000_000_000, bf16=True, gpu=False)
TORCH = {"framework": "torch"}


def with_images(*counts: int, side: int = 450, test: int | None = None) -> Survey:
    return Survey({f"class {i}": count for i, count in enumerate(counts)}, test, side, "")


def test_photos_want_imagenet_weights_and_small_images_do_not() -> None:
    small = replace(PHOTOS, side=32)

    assert wanted_weights(PHOTOS, TORCH) == "resnet50"
    assert wanted_weights(PHOTOS, {"framework": "keras"}) == "resnet50"
    assert wanted_weights(small, TORCH) is None
    assert wanted_weights(small, TORCH | {"init": "imagenet"}) == "resnet50"


def test_what_is_requested_decides_over_the_weights() -> None:
    assert wanted_weights(PHOTOS, TORCH | {"init": "random"}) is None
    assert wanted_weights(PHOTOS, TORCH | {"arch": "resnet34"}) == "resnet34"
    assert wanted_weights(PHOTOS, TORCH | {"arch": "resnet56"}) is None
    assert wanted_weights(PHOTOS, TORCH | {"arch": "resnet56", "init": "imagenet"}) == "resnet56"
    with pytest.raises(ConfigError, match="ImageNet weights for resnet18"):
        choose(
            PHOTOS, LAPTOP, TORCH | {"arch": "resnet56", "init": "imagenet"}, imagenet="imagenet"
        )


def test_with_weights_photos_are_transferred_to_at_the_size_of_the_weights() -> None:
    config, choices = choose(
        PHOTOS, LAPTOP, TORCH | {"variant": "v1"}, imagenet="models/imagenet-resnet50/1"
    )

    assert (config.init, config.network) == ("models/imagenet-resnet50/1", "resnet50-v1")
    assert config.image_size == 224
    whys = {choice.what: (choice.value, choice.why) for choice in choices}
    assert whys["first weights"][1] == "photos (450 pixels on the shorter side), as in ImageNet"
    assert whys["network"] == ("resnet50-v1", "that of the weights")
    assert config.probe
    assert config.ema_decay == 0
    assert config.augment == "photo"


def test_photos_are_fine_tuned_where_that_takes_minutes_and_probed_elsewhere() -> None:
    slow = replace(LAPTOP, bf16=False)
    small = TORCH | {"init": "models/x/1", "arch": "resnet20", "image_size": 32}

    def epochs(count: int, machine: Machine) -> int:
        return choose(with_images(count, count), machine, TORCH, imagenet="imagenet")[0].epochs

    assert epochs(120, LAPTOP) == 9
    assert epochs(4_000, LAPTOP) == 3
    assert epochs(120, slow) == 1
    assert epochs(4_000, replace(slow, gpu=True)) == 6
    assert choose(replace(PHOTOS, side=32), slow, small, imagenet=None)[0].epochs == 6


def test_without_weights_photos_train_a_small_network_on_small_images() -> None:
    config, choices = choose(PHOTOS, LAPTOP, TORCH, imagenet=None)

    assert (config.init, config.arch, config.image_size) == ("random", "resnet20", 64)
    assert not config.probe
    assert config.ema_decay == pytest.approx(1 - 1 / 45), "five epochs of nine steps"
    assert "not available" in next(
        choice.why for choice in choices if choice.what == "first weights"
    )


@pytest.mark.parametrize(
    ("side", "size"), [(28, 32), (32, 32), (33, 40), (64, 64), (65, 64), (9, 16)]
)
def test_small_images_keep_their_size(side: int, size: int) -> None:
    assert choose(replace(PHOTOS, side=side), LAPTOP, TORCH, imagenet=None)[0].image_size == size


def test_a_bundle_brings_its_network_and_its_size() -> None:
    requested = TORCH | {"init": "models/x/1", "arch": "resnet20", "image_size": 32}

    config, choices = choose(PHOTOS, LAPTOP, requested, imagenet=None)

    assert (config.arch, config.image_size, config.probe) == ("resnet20", 32, True)
    assert "that of the bundle" in [choice.why for choice in choices]
    requested |= {"arch": "resnet50", "variant": "v1", "image_size": 224}
    assert choose(PHOTOS, LAPTOP, requested, imagenet=None)[0].network == "resnet50-v1"


def test_few_images_have_long_epochs_of_several_steps_and_many_images_few_epochs() -> None:
    few = choose(PHOTOS, LAPTOP, TORCH, imagenet=None)[0]
    many = choose(with_images(30_000, 30_000, test=10_000), LAPTOP, TORCH, imagenet=None)[0]

    assert (few.epochs, few.batch_size, few.validation_fraction) == (120, 16, 0.2)
    assert (many.epochs, many.batch_size, many.validation_fraction) == (30, 128, 0.05)


@pytest.mark.parametrize(
    ("counts", "test", "announced"),
    [((60, 60), None, ["24 images", "20 images"]), ((15, 15, 15), 9, ["9 images", "9 images"])],
    ids=["drawn", "given"],
)
def test_as_many_images_are_announced_as_the_splits_take(
    counts: tuple[int, ...], test: int | None, announced: list[str]
) -> None:
    choices = choose(with_images(*counts, test=test), LAPTOP, TORCH, imagenet=None)[1]

    assert [choice.value for choice in choices if choice.what.endswith("split")] == announced


def test_a_batch_takes_a_share_of_the_memory_and_so_do_the_images() -> None:
    tight = replace(LAPTOP, memory=600_000_000)
    images = with_images(2500, 2500)

    small = TORCH | {"arch": "resnet18"}
    assert choose(images, LAPTOP, small, imagenet="imagenet")[0].batch_size == 32
    assert choose(images, LAPTOP, TORCH, imagenet="imagenet")[0].batch_size == 8
    assert choose(images, tight, TORCH, imagenet=None)[0].batch_size == 8
    assert choose(with_images(500, 500), tight, TORCH, imagenet="imagenet")[0].image_size == 160


def test_images_that_do_not_fit_into_the_memory_are_refused() -> None:
    with pytest.raises(
        DataError, match=r"half of the free memory.*Received: 2,000,000 images, 18\.4 GB"
    ):
        choose(with_images(1_000_000, 1_000_000), LAPTOP, TORCH, imagenet=None)


def test_rare_classes_are_evened_out_and_equal_ones_left_alone() -> None:
    equal = choose(with_images(120, 90), LAPTOP, TORCH, imagenet=None)
    unequal = choose(with_images(120, 40), LAPTOP, TORCH, imagenet=None)

    assert (equal[0].oversampling, unequal[0].oversampling) == (1, 10)
    reported = next(choice for choice in unequal[1] if choice.what == "imbalance")
    assert reported.why.startswith("3.0 images of class 0 for one of class 1")


def test_the_precision_is_what_the_processor_has() -> None:
    def precision(machine: Machine) -> str:
        return choose(PHOTOS, machine, TORCH, imagenet=None)[0].precision

    assert precision(LAPTOP) == "bf16"
    assert precision(replace(LAPTOP, bf16=False)) == precision(replace(LAPTOP, gpu=True)) == "fp32"


def test_what_is_requested_is_taken() -> None:
    requested = {"framework": "keras", "epochs": 3, "seed": 7, "threads": 1, "arch": "resnet32"}

    config, _ = choose(PHOTOS, LAPTOP, requested, imagenet=None)

    assert {name: getattr(config, name) for name in requested} == requested


def test_every_choice_has_a_reason_and_the_same_facts_give_the_same_choice() -> None:
    first, again = (choose(PHOTOS, LAPTOP, TORCH, imagenet=None) for _ in range(2))

    assert first == again
    assert all(choice.what and choice.value and choice.why for choice in first[1])
