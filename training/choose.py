"""From what is known about images and machine to a configuration, with a reason for each part of it.

Pure functions: the same images on the same machine give the same choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from training.config import (
    CIFAR_NETWORKS,
    IMAGENET_SIZE,
    IMAGENET_WEIGHTS,
    SMALL_IMAGE,
    SMALL_STEM,
    TrainConfig,
    make_config,
)
from training.data.folders import some
from training.data.load import TEST_FRACTION, share_of
from training.data.survey import Survey
from training.errors import DataError

SCRATCH_NETWORK = "resnet20"
PHOTO_SIZE = {"cifar": 64, "imagenet": 128}  # for photos and random weights, in pixels
LEAST_SIZE = {"cifar": 32, "imagenet": 96}  # where memory is short
SIZE_STEP = 32
VALIDATION_IMAGES = 1000  # more of them tell no more about when to stop and how sure to be
VALIDATION_FRACTION = (0.05, 0.2)  # least and most
STEPS = 8  # of an epoch at least, where a batch then has SMALLEST_BATCH images or more
SMALLEST_BATCH = 8
LARGEST_BATCH = {"random": 128, "transfer": 64}
SEEN = 300_000  # images that a network sees on its way from random weights, more or less
SCRATCH_EPOCHS = (30, 120)  # least and most
# Where a network starts from random weights their moving average is kept: a handful of validation images judges it more
# steadily. In one run (154 training, 38 validation images) the epoch that they prefer had 87.7 % of 400 test images with
# it, 86.0 % without.
AVERAGED_EPOCHS = 5
LEAST_PATIENCE = (
    5  # epochs; above the frozen ones of a transfer, so that what comes after them has a chance
)
NAMED_CLASSES = 6  # with their numbers; of more it is said how many there are
IMBALANCE = 1.5  # images of the commonest class for one of the rarest, up to which nothing is done
OVERSAMPLING = 10.0

# What a training step keeps, in bytes for each pixel of an image: the outputs of convolutions and normalisations in
# fp32, and as much again for their gradients.
STEP_MEMORY = {
    "resnet18": 800,
    "resnet34": 1200,
    "resnet50": 3600,
    "resnet101": 5200,
    "resnet152": 7200,
}
STEP_MEMORY_OF_A_LAYER = 150  # of the networks for small images
SMALL_STEM_FACTOR = 12  # of a stem that keeps the size of the image
STEP_SHARE = 0.25  # of the free memory, for a training step
PIXELS_SHARE = 0.5  # of the free memory, for the images
PIXEL_COPIES = 3  # of all images, while they are read and divided


@dataclass(frozen=True)
class Machine:
    """What the choice of a configuration depends on."""

    memory: int  # bytes that are free
    bf16: bool  # whether the processor computes in bfloat16
    gpu: bool  # whether the framework sees one


@dataclass(frozen=True)
class Choice:
    """A line of what is printed before the training."""

    what: str
    value: str
    why: str


def wanted_weights(survey: Survey, machine: Machine, said: Mapping[str, Any]) -> str | None:
    """The network whose ImageNet weights to start from if they can be had; None: none are wanted.

    Args:
        said: what the user asked for, by the names of `TrainConfig`; the framework is always among it.
    """
    init, arch = said.get("init"), said.get("arch")
    if init == "imagenet":
        return arch or _transfer_network(machine, said["framework"])
    if init is not None:
        return None
    if arch is not None:
        return (
            arch
            if arch in IMAGENET_WEIGHTS[said["framework"]] and survey.side > SMALL_IMAGE
            else None
        )
    return _transfer_network(machine, said["framework"]) if survey.side > SMALL_IMAGE else None


def choose(
    survey: Survey, machine: Machine, said: Mapping[str, Any], *, imagenet: bool
) -> tuple[TrainConfig, list[Choice]]:
    """The configuration, and what it was chosen for.

    Args:
        said: as for `wanted_weights`; it is never overruled.
        imagenet: whether the ImageNet weights that were wanted can be had.

    Raises:
        ConfigError: what was said is no configuration.
        DataError: the images do not fit into the memory.
    """
    init = "imagenet" if imagenet else said.get("init", "random")
    transfer = init != "random"
    arch = said.get("arch") or (
        _transfer_network(machine, said["framework"]) if transfer else SCRATCH_NETWORK
    )
    counts = survey.counts.values()
    left = [count if survey.test else count - share_of(count, TEST_FRACTION) for count in counts]
    held_out = _between(VALIDATION_IMAGES / sum(left), *VALIDATION_FRACTION)
    validated = sum(share_of(count, held_out) for count in left)
    trained = sum(left) - validated
    size, why_size = _image_size(survey, machine, said, arch, transfer)
    batch, why_batch = _batch_size(trained, machine, arch, size, transfer)
    config = make_config(
        "transfer" if transfer else "fast",
        framework=said["framework"],
        arch=arch,
        init=init,
        image_size=size,
        validation_fraction=held_out,
        batch_size=batch,
        epochs=said.get("epochs")
        or (None if transfer else round(_between(SEEN / trained, *SCRATCH_EPOCHS))),
        ema_decay=None if transfer else 1 - 1 / (AVERAGED_EPOCHS * max(1, trained // batch)),
        oversampling=OVERSAMPLING if survey.imbalance > IMBALANCE else None,
        precision="bf16" if machine.bf16 and not machine.gpu else "fp32",
        seed=said.get("seed"),
        threads=said.get("threads"),
    )
    config = replace(config, patience=max(LEAST_PATIENCE, config.epochs // 4))
    return config, [
        Choice("images", f"{survey.images:,} in {len(survey.counts)} classes", _counts(survey)),
        Choice(
            "test split",
            f"{survey.test or survey.images - sum(left):,} images",
            "the folder test/"
            if survey.test
            else f"{TEST_FRACTION:.0%} of each class, measured once at the end",
        ),
        Choice(
            "validation split",
            f"{validated:,} images",
            f"{held_out:.0%} of the others: when to stop, and how sure to be",
        ),
        Choice("first weights", config.init, _why_weights(survey, said, arch, imagenet)),
        Choice("network", arch, _why_network(machine, said, transfer)),
        Choice("image size", f"{size} pixels", why_size),
        Choice("batch size", f"{batch} images", why_batch),
        Choice("epochs", f"{config.epochs} at most", _why_epochs(config)),
        Choice("imbalance", *_imbalance(survey, config)),
        Choice("precision", config.precision, _why_precision(machine)),
    ]


def _between(value: float, least: float, most: float) -> float:
    return max(least, min(most, value))


def _transfer_network(machine: Machine, framework: str) -> str:
    return "resnet18" if framework == "torch" and not machine.gpu else "resnet50"


def _image_size(
    survey: Survey, machine: Machine, said: Mapping[str, Any], arch: str, transfer: bool
) -> tuple[int, str]:
    """The side of the network's input in pixels, and why.

    Raises:
        DataError: the images do not fit into the memory.
    """
    family = "cifar" if arch in CIFAR_NETWORKS else "imagenet"
    if "image_size" in said:
        return said["image_size"], "that of the bundle"
    if transfer and family == "imagenet":
        size, why = IMAGENET_SIZE, "what the weights are used to"
    elif survey.side <= SMALL_IMAGE:
        size, why = -(-survey.side // 8) * 8, f"the images have {survey.side} on their shorter side"
    else:
        size, why = (
            PHOTO_SIZE[family],
            f"of {survey.side} on the shorter side; more is slow without a start",
        )
    wished = size
    while _pixel_memory(survey, size) > PIXELS_SHARE * machine.memory:
        size -= SIZE_STEP
        if size < LEAST_SIZE[family]:
            raise DataError(
                f"The images do not fit into the memory: training reads all of them. Expected at most "
                f"{_gigabytes(PIXELS_SHARE * machine.memory)}, half of what is free. Use fewer images. "
                f"Received: {survey.images:,} images, {_gigabytes(_pixel_memory(survey, size + SIZE_STEP))}"
            )
    return (
        size,
        why if size == wished else f"{wished} would take more memory than half of what is free",
    )


def _pixel_memory(survey: Survey, size: int) -> int:
    return PIXEL_COPIES * survey.images * 3 * size**2


def _batch_size(
    trained: int, machine: Machine, arch: str, size: int, transfer: bool
) -> tuple[int, str]:
    """Images per step, and why."""
    small_stem = SMALL_STEM_FACTOR if arch in SMALL_STEM and size <= SMALL_IMAGE else 1
    if arch in CIFAR_NETWORKS:
        per_pixel = STEP_MEMORY_OF_A_LAYER * int(arch.removeprefix("resnet").removeprefix("plain"))
    else:
        per_pixel = STEP_MEMORY[arch.removesuffix("v2")] * small_stem
    batch = LARGEST_BATCH["transfer" if transfer else "random"]
    while batch > SMALLEST_BATCH and batch * STEPS > trained:
        batch //= 2
    wished = batch
    while batch > 2 and batch * per_pixel * size**2 > STEP_SHARE * machine.memory:
        batch //= 2
    memory = f"{_gigabytes(batch * per_pixel * size**2)} of the {_gigabytes(machine.memory)} that are free"
    return (
        batch,
        memory if batch == wished else f"{memory}; {wished} would take more than a quarter",
    )


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"


def _counts(survey: Survey) -> str:
    ordered = sorted(survey.counts.items(), key=lambda item: -item[1])
    return some([f"{name} {count:,}" for name, count in ordered], most=NAMED_CLASSES)


def _why_weights(survey: Survey, said: Mapping[str, Any], arch: str, imagenet: bool) -> str:
    if said.get("init"):
        return "as said"
    if imagenet:
        return f"the images are photos ({survey.side} pixels on the shorter side), and these weights know photos"
    if survey.side <= SMALL_IMAGE:
        return f"small images ({survey.side} pixels on the shorter side); ImageNet weights know large ones"
    if arch not in IMAGENET_WEIGHTS[said["framework"]] and "arch" in said:
        return f"there are no ImageNet weights for {arch} in {said['framework']}"
    return "those of ImageNet can't be had, see the notice"


def _why_network(machine: Machine, said: Mapping[str, Any], transfer: bool) -> str:
    if "arch" in said:
        return "as said"
    if not transfer:
        return "small: learns in minutes, and from few images"
    if machine.gpu:
        return "there is a GPU"
    return "the smallest with ImageNet weights: there is no GPU"


def _why_epochs(config: TrainConfig) -> str:
    frozen = (
        f"the first {config.freeze_epochs} train the classifier only; "
        if config.freeze_epochs
        else ""
    )
    average = f"weights are averaged over {AVERAGED_EPOCHS}; " if config.ema_decay else ""
    end = (
        f"{config.patience} without a lower validation loss end it, and the best one's weights stay"
    )
    return frozen + average + end


def _imbalance(survey: Survey, config: TrainConfig) -> tuple[str, str]:
    if survey.imbalance == 1:
        return "none", "every class has as many images"
    most, least = (f(survey.counts, key=lambda name: survey.counts[name]) for f in (max, min))
    ratio = f"{survey.imbalance:.1f} images of {most} for one of {least}"
    if config.oversampling == 1:
        return "none to speak of", ratio
    return (
        f"evened out, up to {config.oversampling:.0f} times",
        f"{ratio}: rare classes are drawn more often",
    )


def _why_precision(machine: Machine) -> str:
    if machine.gpu:
        return "of the training; every GPU has it"
    return "of the training; the processor has " + ("it" if machine.bf16 else "no bf16")
