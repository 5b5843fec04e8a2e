"""Every knob of a training run, one per line, and the recipes, which hold only what differs from the defaults."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from training.errors import ConfigError

Framework = Literal["torch", "keras"]

CIFAR_NETWORKS = (
    *(f"resnet{6 * n + 2}" for n in (3, 5, 7, 9)),
    *(f"plain{6 * n + 2}" for n in (3, 5, 7, 9)),
)
IMAGENET_NETWORKS = tuple(f"resnet{depth}" for depth in (18, 34, 50, 101, 152))
V2_NETWORKS = tuple(f"resnet{depth}v2" for depth in (50, 101, 152))  # of keras.applications
ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "torch": (*CIFAR_NETWORKS, *IMAGENET_NETWORKS),
    "keras": (*CIFAR_NETWORKS, *IMAGENET_NETWORKS, *V2_NETWORKS),
}
IMAGENET_SIZE = (
    224  # side of the images of the ImageNet networks where nothing else is said, in pixels
)
IMAGENET_WEIGHTS = {
    "torch": IMAGENET_NETWORKS,
    "keras": (*IMAGENET_NETWORKS[2:], *V2_NETWORKS),
}  # published ones
SMALL_STEM = ("resnet18", "resnet34")  # the networks that have another stem for small images
SMALL_IMAGE = 64  # the largest side that counts as small, in pixels
MIN_VALIDATION = 20  # images that a temperature is fitted on; fewer know next to nothing of it


@dataclass(frozen=True)
class TrainConfig:
    """The configuration of one run; recorded whole in the manifest of the bundle that it makes."""

    # model
    framework: Framework = "torch"
    arch: str = "resnet20"  # one of ARCHITECTURES[framework]
    init: str = "random"  # random, imagenet, a file of weights, or the folder of a bundle
    # data
    image_size: int = 32  # side of the square that the network sees when it is evaluated, in pixels
    validation_fraction: float = (
        0.02  # share of the training split held out, stratified, for calibration
    )
    train_limit: int = (
        0  # most training images, validation included: stratified, drawn with the seed; 0: all
    )
    test_limit: int = 0  # most test images, likewise
    # schedule
    epochs: int = 60
    freeze_epochs: int = (
        0  # epochs at the start in which only the classifier trains; the backbone runs as served
    )
    finetune_factor: float = (
        0.1  # rates of the epochs after those, as a share of the rates given here
    )
    batch_size: int = 128  # images per step
    patience: int = 0  # epochs without a lower validation loss that end the run; the best epoch's weights stay. 0: off
    warmup_fraction: float = (
        0.1  # share of the steps (of each phase) in which the rate climbs linearly from 0
    )
    decay: Literal["linear", "cosine", "steps"] = (
        "linear"  # to 0, or divided by 10 at 1/2 and 3/4 of the steps
    )
    # optimizer: `sgd` for every parameter, or `muon` for the convolutions and SGD for the rest
    optimizer: Literal["sgd", "muon"] = "muon"
    learning_rate: float = 0.05  # peak rate of SGD
    muon_learning_rate: float = 0.02  # peak length of an update relative to the weights it changes
    momentum: float = 0.9  # Nesterov
    weight_decay: float = 5e-4  # L2, on what SGD trains
    clip_norm: float = 0.0  # largest global norm of the gradient of a step; 0: no clipping
    label_smoothing: float = 0.0
    ema_decay: float = (
        0.0  # of the moving average of the weights, which is what is served; 0: the last weights
    )
    # augmentation
    oversampling: float = (
        1.0  # most times that an image of a rare class is drawn for one of the commonest
    )
    crop_padding: int = (
        4  # pixels of zero padding around the image before the random crop (He et al. 4.2)
    )
    small_crop: int = (
        24  # side of the random crop in the first part of the run, in pixels; 0: never
    )
    small_crop_fraction: float = 0.6  # share of the epochs trained on small crops
    flip: bool = True  # horizontal, alternating between epochs (Jordan 2024)
    augment: Literal["none", "trivial", "randaugment"] = (
        "none"  # the policy of training/data/augment.py
    )
    mixup_alpha: float = (
        0.0  # of the beta distribution from which the share of an image is drawn; 0: no mixup
    )
    cutmix_alpha: float = 0.0  # likewise; where both are on, a coin decides for each image
    # run
    precision: Literal["fp32", "bf16"] = (
        "bf16"  # of the forward and backward pass; weights and export are fp32
    )
    seed: int = 0
    threads: int = 0  # of the framework in each process; 0: as many as there are cores
    devices: int = 1  # that share each batch: GPUs, or the CPU as often where there is none

    def __post_init__(self) -> None:
        if self.framework not in ("torch", "keras"):
            raise ConfigError(f"The framework is torch or keras. Received: {self.framework!r}")
        if self.precision not in ("fp32", "bf16"):
            raise ConfigError(f"The precision is fp32 or bf16. Received: {self.precision!r}")
        if self.arch not in ARCHITECTURES[self.framework]:
            raise ConfigError(
                f"--framework {self.framework} has the architectures {', '.join(ARCHITECTURES[self.framework])}. "
                f"Received: {self.arch!r}"
            )
        if self.init == "imagenet":
            self._refuse_imagenet_weights()
        for name in ("epochs", "batch_size", "image_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1. Received: {getattr(self, name)}")
        if self.devices < 1 or self.batch_size % self.devices:
            raise ConfigError(
                f"The devices share a batch equally: batch_size ({self.batch_size}) is a multiple of their number. "
                f"Received: {self.devices}"
            )
        for name in ("patience", "seed", "threads", "clip_norm"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be at least 0. Received: {getattr(self, name)}")
        if self.oversampling < 1:
            raise ConfigError(
                f"oversampling is a factor of at least 1, which is off. Received: {self.oversampling}"
            )
        for name in ("train_limit", "test_limit"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"{name} is a number of images, 0 for all. Received: {getattr(self, name)}"
                )
        if not 0 <= self.freeze_epochs <= self.epochs:
            raise ConfigError(
                f"freeze_epochs lies between 0 and epochs ({self.epochs}). Received: {self.freeze_epochs}"
            )
        if self.finetune_factor <= 0:
            raise ConfigError(
                f"finetune_factor is a number above 0. Received: {self.finetune_factor}"
            )
        for name in ("warmup_fraction", "small_crop_fraction", "label_smoothing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"{name} is a share between 0 and 1. Received: {getattr(self, name)}"
                )
        if self.augment not in ("none", "trivial", "randaugment"):
            raise ConfigError(
                f"augment is none, trivial or randaugment. Received: {self.augment!r}"
            )
        for name in ("mixup_alpha", "cutmix_alpha"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"{name} is a number above 0, or 0 for off. Received: {getattr(self, name)}"
                )
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(
                f"ema_decay lies between 0 and 1, 1 excluded. Received: {self.ema_decay}"
            )
        if not 0 < self.validation_fraction < 1:
            raise ConfigError(
                "validation_fraction lies strictly between 0 and 1: the temperature is fitted on that share. "
                f"Received: {self.validation_fraction}"
            )
        if not 0 <= self.small_crop <= self.image_size:
            raise ConfigError(
                f"small_crop lies between 0 and image_size ({self.image_size}). Received: {self.small_crop}"
            )

    def _refuse_imagenet_weights(self) -> None:
        if self.arch not in IMAGENET_WEIGHTS[self.framework]:
            raise ConfigError(
                f"--framework {self.framework} has ImageNet weights for {', '.join(IMAGENET_WEIGHTS[self.framework])}. "
                f"Received: {self.arch!r}"
            )
        if self.small_stem:
            raise ConfigError(
                f"The ImageNet weights of {self.arch} begin with a 7x7 convolution, which it has from an --image-size "
                f"of {SMALL_IMAGE + 1} on. Received: {self.image_size}"
            )

    @property
    def family(self) -> Literal["cifar", "imagenet"]:
        """Which of the two designs of He et al. 2016 the network has: section 4.2 or table 1."""
        return "cifar" if self.arch in CIFAR_NETWORKS else "imagenet"

    @property
    def residual(self) -> bool:
        """Whether the blocks have shortcuts."""
        return self.arch.startswith("resnet")

    @property
    def depth(self) -> int:
        """The number of weight layers of a CIFAR network, 6n + 2."""
        return int(self.arch.removeprefix("resnet").removeprefix("plain"))

    @property
    def small_stem(self) -> bool:
        """Whether the network begins with a 3x3 convolution and no pooling, as ResNets for small images do."""
        return self.arch in SMALL_STEM and self.image_size <= SMALL_IMAGE

    def as_dict(self) -> dict[str, Any]:
        """The configuration as plain JSON values."""
        return dataclasses.asdict(self)


RECIPES: dict[str, dict[str, Any]] = {
    # For few cores: orthogonalised updates (Jordan et al. 2024), which after 4 epochs had 78.1 % where SGD at its best
    # rate had 75.0 %, and small crops early on, where an epoch costs 0.57 of a full one.
    "fast": {},
    # SGD with a decay of 5e-4 on every weight, as in Zagoruyko and Komodakis 2016, "Wide Residual Networks", with the
    # small crops of `fast` for the first 40 % of the epochs. docs/experiments.md compares it with `fast` at 70 epochs.
    "long": {
        "epochs": 84,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "weight_decay": 5e-4,
        "decay": "cosine",
        "small_crop_fraction": 0.4,
    },
    # He et al. 2016, section 4.2: 64,000 steps of 128 images = 164 epochs of 50,000, rate 0.1 divided at 32k and 48k.
    "he2016": {
        "epochs": 164,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "weight_decay": 1e-4,
        "warmup_fraction": 0.0,
        "decay": "steps",
        "small_crop": 0,
        "precision": "fp32",
    },
    # What torchvision's recipe of 2021 adds (V. Vryniotis, "How to Train State-Of-The-Art Models Using TorchVision's
    # Latest Primitives"), on 84 epochs instead of 600: label smoothing, TrivialAugment, mixup, CutMix, a cosine and the
    # moving average of the weights, here over the last 1,000 steps or so. The rate and the decay are those of `long`.
    "modern": {
        "epochs": 84,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "weight_decay": 5e-4,
        "decay": "cosine",
        "label_smoothing": 0.1,
        "ema_decay": 0.999,
        "small_crop": 0,
        "augment": "trivial",
        "mixup_alpha": 0.2,
        "cutmix_alpha": 1.0,
    },
    # From weights that know images to a few hundred images: first the new classifier on what the backbone sees, then
    # all of it at a tenth of the rate. SGD with momentum and a cosine as in Kornblith et al. 2019, "Do Better ImageNet
    # Models Transfer Better?"; more images held out, because 2 % of a small data set calibrate nothing.
    "transfer": {
        "epochs": 12,
        "freeze_epochs": 4,
        "batch_size": 64,
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "weight_decay": 1e-4,
        "decay": "cosine",
        "small_crop": 0,
        "validation_fraction": 0.1,
    },
    # The third experiment of the project's origin, which had 24.0 % after its one epoch: ResNet-18 from scratch on
    # 5,000 training and 1,000 test images of CIFAR-10. 40 epochs of 4,900 images in batches of 64 = 3,040 steps.
    "seed-resnet18": {
        "arch": "resnet18",
        "image_size": 32,
        "train_limit": 5000,
        "test_limit": 1000,
        "epochs": 40,
        "batch_size": 64,
        "label_smoothing": 0.1,
    },
}


def make_config(recipe: str = "fast", **changes: Any) -> TrainConfig:
    """A configuration: the defaults, changed by the recipe, changed by what the user said (None: not said).

    Raises:
        ConfigError: an unknown recipe or option, or a value out of range.
    """
    if recipe not in RECIPES:
        raise ConfigError(f"Expected a recipe among {', '.join(RECIPES)}. Received: {recipe!r}")
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    said = {name: value for name, value in changes.items() if value is not None}
    if unknown := sorted(set(said) - known):
        raise ConfigError(
            f"Unknown option. Expected one of {', '.join(sorted(known))}. Received: {', '.join(unknown)}"
        )
    values = {**RECIPES[recipe], **said}
    if values.get("arch") in (*IMAGENET_NETWORKS, *V2_NETWORKS):
        values.setdefault("image_size", IMAGENET_SIZE)
    image_size = values.get("image_size", TrainConfig.image_size)
    values.setdefault("small_crop", image_size * 3 // 4)
    values.setdefault("crop_padding", max(TrainConfig.crop_padding, image_size // 8))
    if "epochs" in said and "freeze_epochs" in values and "freeze_epochs" not in said:
        values["freeze_epochs"] = min(values["freeze_epochs"], said["epochs"] // 2)
    return TrainConfig(**values)
