"""Learning rate, moving average, crop size and cost of a step; shared by both frameworks."""

from __future__ import annotations

import math

from training.config import TrainConfig

# Cost of the linear probe, which needs no backward pass, relative to an epoch of training.
PROBE_COST = 1 / 3

# Of Muon's orthogonalisation: the quintic that grows small singular values fastest (Jordan et al.
# 2024).
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def rate_factor(config: TrainConfig, step: int, steps: int) -> float:
    """The learning rate at `step` of `steps`, relative to its peak, in [0, 1].

    A linear probe has none; warm-up and decay are those of the epochs after it.
    """
    probe = steps // config.epochs if config.probe else 0
    if step < probe:
        return 0.0
    step, steps = step - probe, steps - probe
    done = step / steps
    if done < config.warmup_fraction:
        return (step + 1) / (config.warmup_fraction * steps + 1)
    if config.decay == "steps":
        return 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01
    left = (1 - done) / (1 - config.warmup_fraction)
    return left if config.decay == "linear" else (1 - math.cos(math.pi * left)) / 2


def average_decay(config: TrainConfig, updates: int) -> float:
    """The decay of the moving average of the weights after `updates` updates, in [0, 1).

    It grows from 0 (as in tf.train.ExponentialMovingAverage), so that a short run averages about
    the last tenth of its steps without its initial weights.
    """
    return min(config.ema_decay, updates / (updates + 9))


def crop_size(config: TrainConfig, epoch: int) -> int:
    """The side of the training crops in `epoch` (counted from 0), in pixels.

    Small crops show objects at the scale of the test images on fewer pixels, so early epochs cost
    less; the last part of the run sees the full size (progressive training as in Tan and Le 2021,
    section 4.2).
    """
    if config.probe and epoch == 0:
        return config.image_size
    small = config.small_crop and epoch < round(config.epochs * config.small_crop_fraction)
    return config.small_crop if small else config.image_size


def step_cost(config: TrainConfig, epoch: int) -> float:
    """The time of a training step in `epoch`, counted from 0, relative to a full-size one."""
    pixels = (crop_size(config, epoch) / config.image_size) ** 2
    return PROBE_COST if config.probe and epoch == 0 else pixels
