"""Choose a configuration for the images and the machine, with a reason for each choice.

Pure functions: the same images on the same machine give the same configuration.
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
from training.data.splits import TEST_FRACTION, share_of
from training.data.survey import Survey
from training.errors import DataError

TRANSFER_NETWORK = "resnet50"  # the one whose weights ship with the project
SCRATCH_NETWORK = "resnet20"
PHOTO_SIZE = {"cifar": 64, "imagenet": 128}  # for photos and random weights, in pixels
MIN_SIZE = {"cifar": 32, "imagenet": 96}  # if memory is short
SIZE_STEP = 32
VALIDATION_IMAGES = 1000  # more would not improve early stopping or calibration
VALIDATION_FRACTION = (0.05, 0.2)  # min and max
MIN_STEPS = 8  # per epoch, as long as a batch has MIN_BATCH images
MIN_BATCH = 8
MAX_BATCH = {"random": 128, "transfer": 32}
SAMPLES_SEEN = 300_000  # over a run from random weights, approximately
SCRATCH_EPOCHS = (30, 120)  # min and max
# Fine-tuning of photos on processors with bf16 instructions: five epochs of 1,800 photos take 8
# minutes of two cores. Without them one epoch takes 12 minutes, and what fits into their time was
# worse than the probe alone (docs/experiments.md): there the probe is all.
FINE_TUNED_SAMPLES = 9_000  # over a run, approximately
FINE_TUNING_EPOCHS = (2, 8)  # min and max
# From random weights, the moving average of the weights is kept: its validation loss on a handful
# of images is less noisy. In one run (154 training, 38 validation images) the best epoch by that
# loss had 87.7 % of 400 test images right with averaging, 86.0 % without.
AVERAGED_EPOCHS = 5
MIN_PATIENCE = 5  # epochs
NAMED_CLASSES = 6  # that the table lists with their counts
IMBALANCE = 1.5  # ratio of the largest class to the smallest, up to which nothing is done
OVERSAMPLING = 10.0

# Memory of a training step in bytes per pixel of an image: activations of convolutions and
# normalisations in fp32, and as much again for their gradients.
STEP_MEMORY = {
    "resnet18": 800,
    "resnet34": 1200,
    "resnet50": 3600,
    "resnet101": 5200,
    "resnet152": 7200,
}
STEP_MEMORY_PER_LAYER = 150  # of the CIFAR networks
SMALL_STEM_FACTOR = 12  # for the stem that does not downsample
STEP_SHARE = 0.25  # of the available memory, for a training step
PIXELS_SHARE = 0.5  # of the available memory, for the images
PIXEL_COPIES = 3  # of all images, while they are read and split


@dataclass(frozen=True)
class Machine:
    """What the choice depends on besides the images."""

    memory: int  # available, in bytes
    bf16: bool  # whether the processor computes in bfloat16
    gpu: bool  # whether the framework sees one


@dataclass(frozen=True)
class Choice:
    """A row of the table that is printed before the training."""

    what: str
    value: str
    why: str


def wanted_weights(survey: Survey, overrides: Mapping[str, Any]) -> str | None:
    """The network whose ImageNet weights to start from, if they are available; None: no network.

    Args:
        survey: the images.
        overrides: what the user requested, by the names of `TrainConfig`, with the framework.
    """
    init, arch = overrides.get("init"), overrides.get("arch", TRANSFER_NETWORK)
    if init is not None:
        return arch if init == "imagenet" else None
    if survey.side <= SMALL_IMAGE:
        return None
    return arch if arch in IMAGENET_WEIGHTS[overrides["framework"]] else None


def choose(
    survey: Survey, machine: Machine, overrides: Mapping[str, Any], *, imagenet: str | None
) -> tuple[TrainConfig, list[Choice]]:
    """The configuration, and the reasons for it.

    Args:
        survey: the images.
        machine: where it will train.
        overrides: as for `wanted_weights`; they always win.
        imagenet: the `init` of the wanted ImageNet weights; None: they are not available.

    Raises:
        ConfigError: the overrides are invalid.
        DataError: the images do not fit into memory.
    """
    init = imagenet or overrides.get("init", "random")
    transfer = init != "random"
    arch = overrides.get("arch") or (TRANSFER_NETWORK if transfer else SCRATCH_NETWORK)
    counts = survey.counts.values()
    left = [count if survey.test else count - share_of(count, TEST_FRACTION) for count in counts]
    held_out = _between(VALIDATION_IMAGES / sum(left), *VALIDATION_FRACTION)
    validated = sum(share_of(count, held_out) for count in left)
    trained = sum(left) - validated
    size, why_size = _image_size(survey, machine, overrides, arch, transfer)
    batch, why_batch = _batch_size(trained, machine, arch, size, transfer)
    config = make_config(
        "transfer" if transfer else "fast",
        framework=overrides["framework"],
        arch=arch,
        variant=overrides.get("variant"),
        init=init,
        image_size=size,
        validation_fraction=held_out,
        batch_size=batch,
        epochs=overrides.get("epochs") or _epochs(trained, machine, size, transfer),
        ema_decay=None if transfer else 1 - 1 / (AVERAGED_EPOCHS * max(1, trained // batch)),
        oversampling=OVERSAMPLING if survey.imbalance > IMBALANCE else None,
        precision="bf16" if machine.bf16 and not machine.gpu else "fp32",
        seed=overrides.get("seed"),
        threads=overrides.get("threads"),
    )
    why_test = f"{TEST_FRACTION:.0%} of each class, measured once at the end"
    if survey.test:
        why_test = "the folder test/"
    config = replace(config, patience=max(MIN_PATIENCE, config.epochs // 4))
    return config, [
        Choice("images", f"{survey.images:,} in {len(survey.counts)} classes", _counts(survey)),
        Choice("test split", f"{survey.test or survey.images - sum(left):,} images", why_test),
        Choice(
            "validation split",
            f"{validated:,} images",
            f"{held_out:.0%} of the others, for early stopping and calibration",
        ),
        Choice("first weights", config.init, _why_weights(survey, overrides, arch, imagenet)),
        Choice("network", config.network, _why_network(overrides, transfer)),
        Choice("image size", f"{size} pixels", why_size),
        Choice("batch size", f"{batch} images", why_batch),
        Choice("epochs", f"{config.epochs} at most", _why_epochs(config)),
        Choice("imbalance", *_imbalance(survey, config)),
        Choice("precision", config.precision, _why_precision(machine)),
    ]


def _between(value: float, low: float, high: float) -> float:
    return max(low, min(high, value))


def _epochs(trained: int, machine: Machine, size: int, transfer: bool) -> int | None:
    """The number of epochs; None: the recipe's."""
    if not transfer:
        return round(_between(SAMPLES_SEEN / trained, *SCRATCH_EPOCHS))
    if machine.gpu or size <= SMALL_IMAGE:
        return None
    if not machine.bf16:
        return 1
    return 1 + round(_between(FINE_TUNED_SAMPLES / trained, *FINE_TUNING_EPOCHS))


def _image_size(
    survey: Survey, machine: Machine, overrides: Mapping[str, Any], arch: str, transfer: bool
) -> tuple[int, str]:
    """The side of the network's input in pixels, and the reason.

    Raises:
        DataError: the images do not fit into memory.
    """
    family = "cifar" if arch in CIFAR_NETWORKS else "imagenet"
    if "image_size" in overrides:
        return overrides["image_size"], "that of the bundle"
    if transfer and family == "imagenet":
        size, why = IMAGENET_SIZE, "the size that the weights were trained at"
    elif survey.side <= SMALL_IMAGE:
        size, why = -(-survey.side // 8) * 8, f"the images have {survey.side} on their shorter side"
    else:
        size, why = (
            PHOTO_SIZE[family],
            f"of {survey.side} on the shorter side; more is slow from random weights",
        )
    wanted = size
    while _pixel_memory(survey, size) > PIXELS_SHARE * machine.memory:
        size -= SIZE_STEP
        if size < MIN_SIZE[family]:
            raise DataError(
                "The images do not fit into memory, and training keeps all of them there. Expected "
                f"at most {_gigabytes(PIXELS_SHARE * machine.memory)}, half of the free memory. "
                f"Use fewer images. Received: {survey.images:,} images, "
                f"{_gigabytes(_pixel_memory(survey, size + SIZE_STEP))}"
            )
    if size < wanted:
        why = f"{wanted} would take more than half of the free memory"
    return size, why


def _pixel_memory(survey: Survey, size: int) -> int:
    return PIXEL_COPIES * survey.images * 3 * size**2


def _batch_size(
    trained: int, machine: Machine, arch: str, size: int, transfer: bool
) -> tuple[int, str]:
    """Images per step, and the reason."""
    small_stem = SMALL_STEM_FACTOR if arch in SMALL_STEM and size <= SMALL_IMAGE else 1
    if arch in CIFAR_NETWORKS:
        per_pixel = STEP_MEMORY_PER_LAYER * int(arch.removeprefix("resnet").removeprefix("plain"))
    else:
        per_pixel = STEP_MEMORY[arch.removesuffix("v2")] * small_stem
    batch = MAX_BATCH["transfer" if transfer else "random"]
    while batch > MIN_BATCH and batch * MIN_STEPS > trained:
        batch //= 2
    wanted = batch
    while batch > 2 and batch * per_pixel * size**2 > STEP_SHARE * machine.memory:
        batch //= 2
    needed = _gigabytes(batch * per_pixel * size**2)
    why = f"{needed} of the {_gigabytes(machine.memory)} that are free"
    if batch < wanted:
        why += f"; {wanted} would take more than a quarter"
    return batch, why


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"


def _counts(survey: Survey) -> str:
    ordered = sorted(survey.counts.items(), key=lambda item: -item[1])
    return some([f"{name} {count:,}" for name, count in ordered], NAMED_CLASSES)


def _why_weights(
    survey: Survey, overrides: Mapping[str, Any], arch: str, imagenet: str | None
) -> str:
    if overrides.get("init"):
        return "as requested"
    if imagenet:
        return f"photos ({survey.side} pixels on the shorter side), as in ImageNet"
    if survey.side <= SMALL_IMAGE:
        return f"small images ({survey.side} pixels on the shorter side), unlike ImageNet's"
    if arch not in IMAGENET_WEIGHTS[overrides["framework"]] and "arch" in overrides:
        return f"there are no ImageNet weights for {arch} in {overrides['framework']}"
    return "those of ImageNet are not available, see the notice"


def _why_network(overrides: Mapping[str, Any], transfer: bool) -> str:
    if "arch" in overrides:
        return "as requested"
    return "that of the weights" if transfer else "small: trains in minutes, and on few images"


def _why_epochs(config: TrainConfig) -> str:
    if config.probe and config.epochs == 1:
        return "a linear probe, which fits the classifier only; --epochs 6 fine-tunes all weights"
    reasons = [f"early stopping after {config.patience} without a lower validation loss"]
    if config.ema_decay:
        reasons.insert(0, f"weights averaged over the last {min(AVERAGED_EPOCHS, config.epochs)}")
    if config.probe:
        reasons.insert(0, "the first is a linear probe, which fits the classifier only")
    return "; ".join(reasons)


def _imbalance(survey: Survey, config: TrainConfig) -> tuple[str, str]:
    if survey.imbalance == 1:
        return "none", "all classes have the same number of images"
    largest, smallest = (f(survey.counts, key=survey.counts.__getitem__) for f in (max, min))
    ratio = f"{survey.imbalance:.1f} images of {largest} for one of {smallest}"
    if config.oversampling == 1:
        return "negligible", ratio
    return (
        f"balanced, up to {config.oversampling:.0f} times",
        f"{ratio}: rare classes are oversampled",
    )


def _why_precision(machine: Machine) -> str:
    if machine.gpu:
        return "of the training; every GPU supports it"
    return f"of the training; the processor has {'it' if machine.bf16 else 'no bf16'}"
