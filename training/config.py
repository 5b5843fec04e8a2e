"""Every knob of a training run, one a line, and how a recipe and options set them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from bundle.machine import computes_in_bf16, cuda_devices
from training.errors import ConfigError
from training.frameworks import FRAMEWORKS, FrameworkOption
from training.recipes import RECIPES

CIFAR_NETWORKS = (
    *(f"resnet{6 * n + 2}" for n in (3, 5, 7, 9)),
    "resnet20x2",  # twice as wide
    *(f"plain{6 * n + 2}" for n in (3, 5, 7, 9)),
)
IMAGENET_NETWORKS = tuple(f"resnet{depth}" for depth in (18, 34, 50, 101, 152))
V2_NETWORKS = tuple(f"resnet{depth}v2" for depth in (50, 101, 152))  # of keras.applications
ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "torch": (*CIFAR_NETWORKS, *IMAGENET_NETWORKS),
    "keras": (*CIFAR_NETWORKS, *IMAGENET_NETWORKS, *V2_NETWORKS),
}
# Architectures with published ImageNet weights.
IMAGENET_WEIGHTS = {"torch": IMAGENET_NETWORKS, "keras": (*IMAGENET_NETWORKS[2:], *V2_NETWORKS)}
IMAGENET_SIZE = 224  # default input side of the ImageNet networks, in pixels
# Networks of bottlenecks, in two variants with the same parameters. v1, of He et al. 2016 and
# keras.applications, strides in a bottleneck's first convolution, v1.5, of torchvision, in its
# second.
BOTTLENECKS = IMAGENET_NETWORKS[2:]
VARIANTS: dict[str, tuple[str, ...]] = {"torch": ("v1.5", "v1"), "keras": ("v1",)}
SMALL_STEM = ("resnet18", "resnet34")  # networks with a different stem for small images
SMALL_IMAGE = 64  # the largest side that counts as small, in pixels


@dataclass(frozen=True)
class TrainConfig:
    """The configuration of one run, recorded in full in the manifest of its bundle."""

    # model
    framework: FrameworkOption = "torch"
    arch: str = "resnet20"  # one of ARCHITECTURES[framework]
    variant: str = ""  # of BOTTLENECKS: one of VARIANTS[framework], the first by default
    init: str = "random"  # random, imagenet, a weights file, or a bundle folder
    # data
    image_size: int = 32  # input side at evaluation and in service, in pixels
    validation_fraction: float = 0.02  # of the training split, stratified; used for calibration
    train_limit: int = 0  # max training images incl. validation, stratified, seeded; 0: all
    test_limit: int = 0  # max test images, stratified, seeded; 0: all
    # schedule
    epochs: int = 60
    probe: bool = False  # the first epoch fits the classifier alone, see training/probe.py
    batch_size: int = 128  # images per step, over all devices
    patience: int = 0  # epochs without a lower validation loss; the best weights are kept. 0: off
    warmup_fraction: float = 0.1  # share of the steps with a linear warm-up from 0
    decay: Literal["linear", "cosine", "steps"] = "linear"  # to 0; steps: 1/10 at 1/2 and 3/4
    # optimizer: `sgd` for every parameter, or `muon` for the convolutions and SGD for the rest
    optimizer: Literal["sgd", "muon"] = "muon"
    learning_rate: float = 0.05  # peak rate of SGD
    muon_learning_rate: float = 0.02  # peak update norm, relative to the norm of the weights
    momentum: float = 0.9  # Nesterov
    weight_decay: float = 5e-4  # L2, on the parameters that SGD trains
    decay_all: bool = True  # or only kernels: not normalisation and biases
    batch_statistics: bool = True  # in training; or normalise by those of the initial weights
    clip_norm: float = 0.0  # max global norm of the gradient of a step; 0: no clipping
    label_smoothing: float = 0.0
    ema_decay: float = 0.0  # of the weights' moving average, which is exported; 0: the last weights
    # augmentation
    oversampling: float = 1.0  # max draws of a rare class's image per draw of a common one's
    crop_padding: int = 4  # pixels of zero padding before the random crop (He et al. 4.2)
    small_crop: int = 24  # side of the random crop early in the run, in pixels; 0: off
    small_crop_fraction: float = 0.6  # share of the epochs trained on small crops
    flip: bool = True  # horizontal, alternating between epochs (Jordan 2024)
    # See training/data/augment.py; `photo` crops and resizes instead of `crop_padding`.
    augment: Literal["none", "trivial", "randaugment", "photo"] = "none"
    mixup_alpha: float = 0.0  # of the beta distribution of an image's share; 0: no mixup
    cutmix_alpha: float = 0.0  # the same for CutMix; if both are on, each image draws one of them
    # run
    # Of both passes; weights and export are fp32. `make_config` takes bf16 where it is fast.
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0
    threads: int = 0  # of the framework in each process; 0: one per core
    devices: int = 1  # that share each batch: GPUs, or replicas on the CPU if there is no GPU

    def __post_init__(self) -> None:
        """Refuse values out of range: ConfigError."""
        self._check(("framework",), lambda value: value in FRAMEWORKS, "torch or keras")
        self._check(("precision",), lambda value: value in ("fp32", "bf16"), "fp32 or bf16")
        augments = ("none", "trivial", "randaugment", "photo")
        self._check(("augment",), lambda value: value in augments, "one of " + ", ".join(augments))
        if self.arch not in ARCHITECTURES[self.framework]:
            raise ConfigError(
                f"--framework {self.framework} has the architectures "
                f"{', '.join(ARCHITECTURES[self.framework])}. Received: {self.arch!r}"
            )
        variants = VARIANTS[self.framework] if self.arch in BOTTLENECKS else ("",)
        self._check(("variant",), lambda value: value in variants, " or ".join(variants) or "unset")
        if self.init == "imagenet":
            self._check_imagenet_weights()
        counts = ("epochs", "batch_size", "image_size")
        self._check(counts, lambda value: value >= 1, "at least 1")
        if self.devices < 1 or self.batch_size % self.devices:
            raise ConfigError(
                f"The devices share a batch equally: batch_size ({self.batch_size}) is a multiple "
                f"of their number. Received: {self.devices}"
            )
        positive = ("patience", "seed", "threads", "clip_norm")
        self._check(positive, lambda value: value >= 0, "at least 0")
        limits = ("train_limit", "test_limit")
        self._check(limits, lambda value: value >= 0, "a number of images, or 0 for all")
        self._check(("oversampling",), lambda value: value >= 1, "at least 1, which is off")
        rates = ("learning_rate", "muon_learning_rate")
        self._check(rates, lambda value: 0 < value < math.inf, "a number above 0")
        shares = ("warmup_fraction", "small_crop_fraction", "label_smoothing")
        self._check(shares, lambda value: 0 <= value <= 1, "between 0 and 1")
        alphas = ("mixup_alpha", "cutmix_alpha")
        self._check(alphas, lambda value: value >= 0, "a number above 0, or 0 for off")
        self._check(("ema_decay",), lambda value: 0 <= value < 1, "at least 0 and below 1")
        held_out = "above 0 and below 1: the temperature is fitted on that share of the images"
        self._check(("validation_fraction",), lambda value: 0 < value < 1, held_out)
        crop = f"between 0 and image_size ({self.image_size})"
        self._check(("small_crop",), lambda value: 0 <= value <= self.image_size, crop)

    def _check(self, names: tuple[str, ...], allowed: Callable[[Any], bool], expected: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not allowed(value):
                raise ConfigError(f"Expected {name} to be {expected}. Received: {value!r}")

    def _check_imagenet_weights(self) -> None:
        if self.arch not in IMAGENET_WEIGHTS[self.framework]:
            raise ConfigError(
                f"--framework {self.framework} has ImageNet weights for "
                f"{', '.join(IMAGENET_WEIGHTS[self.framework])}. Received: {self.arch!r}"
            )
        if self.variant not in ("", VARIANTS[self.framework][0]):
            raise ConfigError(
                f"The ImageNet weights of torchvision for {self.arch} are those of v1.5, which has "
                "the same parameters as v1 and another stride. For weights of v1 pass their file. "
                f"Received: variant {self.variant!r}"
            )
        if self.small_stem:
            raise ConfigError(
                f"The ImageNet weights of {self.arch} begin with a 7x7 convolution, which the "
                f"network has for an --image-size of {SMALL_IMAGE + 1} or more. "
                f"Received: {self.image_size}"
            )

    @property
    def network(self) -> str:
        """The name of the network in full, as in the manifest: resnet50-v1.5."""
        return f"{self.arch}-{self.variant}" if self.variant else self.arch

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
        return int(self.arch.removeprefix("resnet").removeprefix("plain").partition("x")[0])

    @property
    def width(self) -> int:
        """By how much a CIFAR network has more channels in every layer than that of the paper."""
        return int(self.arch.partition("x")[2] or 1)

    @property
    def small_stem(self) -> bool:
        """Whether the network begins with a 3x3 convolution and no pooling, for small images."""
        return self.arch in SMALL_STEM and self.image_size <= SMALL_IMAGE

    def as_dict(self) -> dict[str, Any]:
        """The configuration as plain JSON values."""
        return dataclasses.asdict(self)


def network_options(network: str) -> dict[str, str]:
    """The options of `make_config` for a network by its full name: resnet50-v1.5, resnet20."""
    arch, _, variant = network.partition("-")
    return {"arch": arch} | ({"variant": variant} if variant else {})


def make_config(recipe: str = "fast", **options: Any) -> TrainConfig:
    """Build a configuration: the defaults, overridden by the recipe, overridden by `options`.

    Args:
        recipe: one of RECIPES.
        options: values by field name; None leaves the field alone.

    Raises:
        ConfigError: an unknown recipe or option, or a value out of range.
    """
    if recipe not in RECIPES:
        raise ConfigError(f"Expected a recipe among {', '.join(RECIPES)}. Received: {recipe!r}")
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    overrides = {name: value for name, value in options.items() if value is not None}
    if unknown := sorted(set(overrides) - known):
        raise ConfigError(
            f"Unknown option. Expected one of {', '.join(sorted(known))}. "
            f"Received: {', '.join(unknown)}"
        )
    values = {**RECIPES[recipe], **overrides}
    if values.get("arch") in (*IMAGENET_NETWORKS, *V2_NETWORKS):
        values.setdefault("image_size", IMAGENET_SIZE)
    if values.get("arch") in BOTTLENECKS:
        framework = values.get("framework", TrainConfig.framework)
        values.setdefault("variant", VARIANTS.get(framework, ("",))[0])
    image_size = values.get("image_size", TrainConfig.image_size)
    # Emulated, bf16 takes several times as long as fp32.
    fast = computes_in_bf16() or cuda_devices() > 0
    values.setdefault("precision", "bf16" if fast else "fp32")
    if values.get("init", "random") == "random":  # there are no statistics to keep
        values["batch_statistics"] = overrides.get("batch_statistics", True)
    if values.get("augment") == "photo":
        if image_size <= SMALL_IMAGE:
            # Enlarged parts of small images look like no other image.
            values["augment"] = overrides.get("augment", "none")
            values.setdefault("small_crop", 0)
        values.setdefault("small_crop", image_size * 5 // 7)
    values.setdefault("small_crop", image_size * 3 // 4)
    values.setdefault("crop_padding", max(TrainConfig.crop_padding, image_size // 8))
    return TrainConfig(**values)
