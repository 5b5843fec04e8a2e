"""The learning rate and the crop size as functions of how far the run is; the same for both frameworks."""

from __future__ import annotations

from training.config import TrainConfig


def rate_factor(config: TrainConfig, step: int, steps: int) -> float:
    """The share of the peak learning rate at `step` of `steps`, in [0, 1]."""
    done = step / steps
    if done < config.warmup_fraction:
        return (step + 1) / (config.warmup_fraction * steps + 1)
    if config.decay == "steps":
        return 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01
    return (1 - done) / (1 - config.warmup_fraction)


def crop_size(config: TrainConfig, epoch: int) -> int:
    """The side of the training crops in `epoch` (counted from 0), in pixels.

    Small crops show objects at the scale of the test images on fewer pixels, so early epochs cost less; the last
    part of the run sees the full size (progressive training as in Tan and Le 2021, section 4.2).
    """
    small = config.small_crop and epoch < round(config.epochs * config.small_crop_fraction)
    return config.small_crop if small else config.image_size
