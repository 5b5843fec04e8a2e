from __future__ import annotations

from typing import Any

import pytest

from bundle.machine import computes_in_bf16, cuda_devices
from training.config import TrainConfig, make_config
from training.errors import ConfigError
from training.recipes import RECIPES


def test_the_default_precision_is_one_that_the_machine_computes_in() -> None:
    fast = computes_in_bf16() or cuda_devices() > 0

    assert make_config().precision == ("bf16" if fast else "fp32")
    assert make_config("he2016").precision == "fp32"
    assert make_config(precision="bf16").precision == "bf16"


def test_a_recipe_changes_the_defaults_and_an_option_changes_the_recipe() -> None:
    config = make_config("he2016", epochs=3, seed=None)

    assert (config.epochs, config.optimizer, config.weight_decay, config.seed) == (
        3,
        "sgd",
        1e-4,
        TrainConfig.seed,
    )


def test_the_paper_recipe_has_64000_steps_on_cifar() -> None:
    config = make_config("he2016")

    assert abs(config.epochs * 50_000 / config.batch_size - 64_000) < 100


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_a_valid_configuration(recipe: str) -> None:
    assert make_config(recipe, framework="keras").as_dict()["framework"] == "keras"


def test_depth_width_and_shortcuts_come_from_the_name() -> None:
    assert (make_config(arch="resnet20x2").depth, make_config(arch="resnet20x2").width) == (20, 2)
    assert make_config(arch="resnet56").width == 1
    assert (make_config(arch="resnet56").depth, make_config(arch="resnet56").residual) == (56, True)
    assert (make_config(arch="plain20").depth, make_config(arch="plain20").residual) == (20, False)


def test_imagenet_networks_see_larger_images_and_small_images_have_a_stem_of_their_own() -> None:
    assert make_config(arch="resnet50").image_size == 224
    assert make_config(arch="resnet20").image_size == 32
    assert make_config(arch="resnet18", image_size=64).small_stem
    assert not make_config(arch="resnet18").small_stem
    assert not make_config(arch="resnet50", image_size=64).small_stem


def test_photos_are_cropped_and_resized_and_small_images_are_not() -> None:
    assert make_config("transfer", arch="resnet50").augment == "photo"
    assert make_config("transfer").augment == "none"


def test_the_padding_of_large_images_is_in_proportion() -> None:
    assert make_config(image_size=16).crop_padding == 4
    assert make_config(arch="resnet50").crop_padding == 28


def test_small_crops_follow_the_image_size() -> None:
    assert make_config(image_size=16).small_crop == 12


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"recipe": "fastest"}, "fastest"),
        ({"learnig_rate": 0.1}, "learnig_rate"),
        ({"arch": "resnet21"}, "resnet21"),
        ({"arch": "resnet50v2"}, "torch has the architectures .*resnet152. Received: 'resnet50v2'"),
        ({"init": "imagenet"}, "ImageNet weights for resnet18, .*Received: 'resnet20'"),
        (
            {"framework": "keras", "arch": "resnet18", "init": "imagenet"},
            "ImageNet weights for resnet50",
        ),
        ({"image_size": 64, "arch": "resnet18", "init": "imagenet"}, "7x7 convolution"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"train_limit": -1}, "train_limit"),
        ({"framework": "jax"}, "jax"),
        ({"epochs": 0}, "epochs"),
        ({"validation_fraction": 0.0}, "validation_fraction"),
        ({"small_crop": 40}, "small_crop"),
        ({"augment": "auto"}, "none, trivial, randaugment, photo. Received: 'auto'"),
        ({"mixup_alpha": -1.0}, "mixup_alpha"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"devices": 3}, "batch_size \\(128\\) is a multiple of their number. Received: 3"),
        ({"seed": -1}, "seed"),
        ({"patience": -1}, "patience"),
        ({"oversampling": 0.5}, "oversampling"),
    ],
    ids=lambda value: (
        ",".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else ""
    ),
)
def test_a_wrong_option_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        make_config(**changes)
