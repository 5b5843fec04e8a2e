"""The option `--devices` of the commands that train."""

from __future__ import annotations

import dataclasses

import rich
import typer

from training.commands.options import INTERRUPTED, console, interrupted, load_backend
from training.config import TrainConfig
from training.errors import ConfigError


def on_devices(config: TrainConfig, devices: str) -> TrainConfig:
    """The configuration with the devices that the option names; if they are several, training uses them from here on.

    Where each device has a process, only the first one prints.

    Raises:
        ConfigError: no number and not `auto`, more GPUs than there are, or a batch that can't be shared out.
        DeviceError: one of the processes was killed.
        typer.Exit: other processes have done the work.
    """
    if devices == "1":
        return config
    backend = load_backend(config)
    gpus = backend.devices.gpus()
    if devices != "auto" and not (devices.isdecimal() and int(devices)):
        raise ConfigError(
            f"--devices is a number, or auto for every GPU that there is. Received: {devices!r}"
        )
    count = max(1, gpus) if devices == "auto" else int(devices)
    if gpus and count > gpus:
        raise ConfigError(
            f"--devices is at most the number of GPUs, which is {gpus}. Received: {count}"
        )
    config = dataclasses.replace(config, devices=count)
    if count == 1:
        return config
    code = backend.devices.launch(count)
    if code == INTERRUPTED:
        console.show_cursor()  # the progress bar of a process that has ended hides it
        raise interrupted()
    if code is not None:
        raise typer.Exit(code)
    rank, _ = backend.devices.rank_and_world_size()
    console.quiet = rich.get_console().quiet = rank > 0
    if not gpus:
        console.print(
            f"Notice: there is no GPU. The CPU is used as {count} devices, which saves no time."
        )
    return config
