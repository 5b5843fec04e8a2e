"""Several devices in TensorFlow: one process drives them all, by tf.distribute.MirroredStrategy.

Its twin is `training/torch/devices.py`: the same names in the same order, with the same types.
"""

from __future__ import annotations

import tensorflow as tf


def gpus() -> int:
    """The number of GPUs that can be used."""
    return len(tf.config.list_physical_devices("GPU"))


def spread(devices: int) -> int | None:
    """Let the command run on so many devices: GPUs, or where there is none the CPU as often.

    To be called before TensorFlow computes.

    Returns:
        None: this process goes on with the command.
    """
    if not gpus():
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * devices
        )
    return None


def share() -> tuple[int, int]:
    """Which part of each batch is this process's, and how many parts there are."""
    return 0, 1


def leave() -> bool:
    """End the training in common; whether this process has nothing more to do, because the first one goes on alone."""
    return False
