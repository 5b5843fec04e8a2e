"""The option `--devices` of the commands that train."""

from __future__ import annotations

import dataclasses

import rich
import typer

from training.commands.options import INTERRUPTED, console, interrupted, load_backend
from training.config import TrainConfig
from training.errors import ConfigError


def on_devices(config: TrainConfig, devices: str) -> TrainConfig:
    """Set up the devices of `--devices`; training uses them from here on.

    With one process per device, only rank 0 prints.

    Returns:
        The configuration with the number of devices.

    Raises:
        ConfigError: neither a number nor `auto`, more GPUs than there are, or a batch size that is
            not a multiple of the number.
        DeviceError: one of the processes was killed.
        typer.Exit: this process launched the others, which have done the work.
    """
    if devices == "1":
        return config
    backend = load_backend(config)
    gpus = backend.devices.gpus()
    if devices != "auto" and not (devices.isdecimal() and int(devices)):
        raise ConfigError(f"--devices is a number, or auto for every GPU. Received: {devices!r}")
    count = max(1, gpus) if devices == "auto" else int(devices)
    if gpus and count > gpus:
        raise ConfigError(f"--devices is at most the number of GPUs, {gpus}. Received: {count}")
    config = dataclasses.replace(config, devices=count)
    if count == 1:
        return config
    code = backend.devices.launch(count)
    if code == INTERRUPTED:
        console.show_cursor()  # hidden by the progress bar of a process that was killed
        raise interrupted()
    if code is not None:
        raise typer.Exit(code)
    rank, _ = backend.devices.rank_and_world_size()
    console.quiet = rich.get_console().quiet = rank > 0
    if not gpus:
        console.print(
            f"Notice: there is no GPU. The CPU acts as {count} devices, which saves no time."
        )
    return config
