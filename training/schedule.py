"""Rate, crop size and moving average as functions of how far the run is; the same for both frameworks."""

from __future__ import annotations

import math

from training.config import TrainConfig


def rate_factor(config: TrainConfig, step: int, steps: int) -> float:
    """The share of the peak learning rate at `step` of `steps`, in [0, 1].

    The epochs with a frozen backbone and those after them each climb and decay on their own.
    """
    frozen = steps * config.freeze_epochs // config.epochs
    if step < frozen:
        return _one_phase(config, step, frozen)
    return (config.finetune_factor if frozen else 1.0) * _one_phase(
        config, step - frozen, steps - frozen
    )


def _one_phase(config: TrainConfig, step: int, steps: int) -> float:
    done = step / steps
    if done < config.warmup_fraction:
        return (step + 1) / (config.warmup_fraction * steps + 1)
    if config.decay == "steps":
        return 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01
    left = (1 - done) / (1 - config.warmup_fraction)
    return left if config.decay == "linear" else (1 - math.cos(math.pi * left)) / 2


def average_decay(config: TrainConfig, updates: int) -> float:
    """The weight of the past in the moving average of the weights, after so many updates, in [0, 1).

    It grows from 0 (as in tf.train.ExponentialMovingAverage), so that a short run averages about the last tenth of its
    steps, and not the random weights that it began with.
    """
    return min(config.ema_decay, updates / (updates + 9))


def crop_size(config: TrainConfig, epoch: int) -> int:
    """The side of the training crops in `epoch` (counted from 0), in pixels.

    Small crops show objects at the scale of the test images on fewer pixels, so early epochs cost less; the last
    part of the run sees the full size (progressive training as in Tan and Le 2021, section 4.2).
    """
    small = config.small_crop and epoch < round(config.epochs * config.small_crop_fraction)
    return config.small_crop if small else config.image_size
