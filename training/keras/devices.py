"""Several devices in TensorFlow: one process drives all of them by MirroredStrategy.

Its twin is `training/torch/devices.py`.
"""

from __future__ import annotations

import tensorflow as tf


def gpus() -> int:
    """The number of GPUs that can be used."""
    return len(tf.config.list_physical_devices("GPU"))


def launch(devices: int) -> int | None:
    """Run the command on several devices: GPUs, or the CPU several times if there is none.

    To be called before TensorFlow computes.

    Returns:
        None: this process continues with the command.
    """
    if not gpus():
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * devices
        )
    return None


def rank_and_world_size() -> tuple[int, int]:
    """The rank of this process and the number of processes."""
    return 0, 1


def shut_down() -> bool:
    """Leave the process group; True if this process is done, because rank 0 continues alone."""
    return False
