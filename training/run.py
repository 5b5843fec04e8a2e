"""The folder of a training run: its record, `run.json`, and its checkpoints.

    run.json                 configuration, fingerprint of the data, history so far
    checkpoint-<epoch>       weights and optimizer state, in the framework's format
    events.out.tfevents…     TensorBoard curves

Files are written under another name and renamed, so a kill at any moment leaves the last complete
epoch.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from training.config import TrainConfig
from training.data.dataset import DataSet
from training.errors import ConfigError, StorageError

RUN_FILE = "run.json"
# What may differ when a run is resumed. Threads and devices change its speed, not what it learns
# from; a run that is shortened or lengthened continues with the schedule of its new length, and its
# history records the rates that it had.
CHANGEABLE = {"threads", "devices", "epochs"}
# Defaults for options added after a run was recorded: what runs did before.
LEGACY_DEFAULTS: dict[str, Any] = {
    "init": "random",
    "initial": {"from": "random"},
    "train_limit": 0,
    "test_limit": 0,
    "probe": False,
    "ema_decay": 0.0,
    "augment": "none",
    "mixup_alpha": 0.0,
    "cutmix_alpha": 0.0,
    "patience": 0,
    "oversampling": 1.0,
    "clip_norm": 0.0,
    "decay_all": True,
    "batch_statistics": True,
}
REMOVED = {"freeze_epochs", "finetune_factor"}  # options that no longer exist


@dataclass
class Run:
    """The content of `run.json`."""

    config: dict[str, Any]
    data: str
    history: list[dict[str, float]]

    @property
    def kept_epoch(self) -> int:
        """The epoch, from 1, whose weights are kept: the last, or with `patience` the best."""
        return best_epoch(self.history) if self.config["patience"] else len(self.history)

    @property
    def stopped_early(self) -> bool:
        """Whether the validation loss has not improved for `patience` epochs."""
        patience: int = self.config["patience"]
        if not (self.history and patience):
            return False
        return len(self.history) - best_epoch(self.history) >= patience

    @property
    def seconds(self) -> float:
        """The time spent in epochs, over all sessions of the run, in seconds."""
        return sum(epoch["seconds"] for epoch in self.history)


def best_epoch(history: list[dict[str, float]]) -> int:
    """The first epoch, counted from 1, with the lowest validation loss; NaN counts as infinite."""
    losses = np.array([epoch["validation_loss"] for epoch in history])
    return int(np.where(np.isfinite(losses), losses, np.inf).argmin()) + 1


def read_run(folder: Path) -> Run | None:
    """The record of the run in `folder`, with today's options; None where there is no run yet.

    Raises:
        ConfigError: `run.json` is damaged, or of an unfinished run with frozen epochs.
        StorageError: `run.json` can't be read.
    """
    path = folder / RUN_FILE
    try:
        run = TypeAdapter(Run).validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise StorageError(
            f"The record of the run can't be read: {exc}. Make it readable, or use another --run "
            "folder."
        ) from exc
    except ValidationError as exc:
        raise _damaged(folder, exc.errors()[0]["msg"]) from exc
    frozen = run.config.get("freeze_epochs")
    run.config = LEGACY_DEFAULTS | {
        name: value for name, value in run.config.items() if name not in REMOVED
    }
    if frozen and len(run.history) < run.config["epochs"] and not run.stopped_early:
        raise ConfigError(
            "The run was begun with frozen epochs, which a linear probe has replaced, so it can't "
            f"be continued. Use another --run folder. Received: {str(folder)!r}"
        )
    return run


def open_run(folder: Path, config: TrainConfig, data: DataSet, initial: dict[str, Any]) -> Run:
    """The record of the run in `folder`: the existing one, or a new one.

    Raises:
        ConfigError: the folder has a run with another configuration, other initial weights or other
            data, or a damaged record.
        StorageError: the record can't be read.
    """
    new = Run(config.as_dict() | {"initial": initial}, data.fingerprint(), [])
    old = read_run(folder)
    if old is None:
        return new
    changed = sorted(
        name
        for name in new.config
        if name not in CHANGEABLE and old.config.get(name) != new.config[name]
    )
    if changed:
        shown = ", ".join(
            f"{name}: {old.config.get(name)!r} there, {new.config[name]!r} here" for name in changed
        )
        raise ConfigError(
            f"{folder} holds a run with another configuration ({shown}). Use the same options to "
            "resume it, another --run folder, or remove the folder."
        )
    if config.epochs < len(old.history):
        raise ConfigError(
            f"{folder} has run for {len(old.history)} epochs already. Expected at least as many. "
            f"Received: --epochs {config.epochs}"
        )
    if old.data != new.data:
        raise ConfigError(
            f"{folder} holds a run on other data. Use another --run folder, or remove this one."
        )
    return Run(new.config, old.data, old.history)


def recorded_config(folder: Path) -> TrainConfig | None:
    """The configuration of the run in `folder`; None where there is no run yet.

    Raises:
        ConfigError, StorageError: see `read_run`.
    """
    run = read_run(folder)
    if run is None:
        return None
    try:
        return TrainConfig(**{name: run.config[name] for name in run.config if name != "initial"})
    except TypeError as exc:
        raise _damaged(folder, exc) from exc


def save_epoch(folder: Path, run: Run, save_checkpoint: Callable[[Path], None]) -> None:
    """Write the last epoch's checkpoint, then the record; then delete unused checkpoints.

    Raises:
        StorageError: something can't be written.
    """
    epoch = len(run.history)
    try:
        part = folder / f".checkpoint-{epoch}.part"
        save_checkpoint(part)
        part.replace(folder / f"checkpoint-{epoch}")
        record = folder / f".{RUN_FILE}.part"
        with record.open("w") as file:
            json.dump(dataclasses.asdict(run), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        record.replace(folder / RUN_FILE)
    # torch.save raises RuntimeError when the disk is full.
    except (OSError, RuntimeError) as exc:
        raise StorageError(
            f"The checkpoint of epoch {epoch} can't be written to {folder}: {exc}. Free some "
            f"space; the same command then continues after epoch {epoch - 1}."
        ) from exc
    kept = (f"checkpoint-{epoch}", f"checkpoint-{run.kept_epoch}")
    for old in (*folder.glob("checkpoint-*"), *folder.glob(".*.part")):
        if old.name not in kept:
            old.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make and lock the run's folder; the kernel releases the lock when the process ends.

    Raises:
        ConfigError: another process trains in the folder.
        StorageError: the folder can't be made, or inside the block something in it can't be read or
            written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise StorageError(f"The run folder {folder} can't be made: {exc.strerror}.") from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as exc:
        raise ConfigError(
            f"Another process trains in {folder}. Wait for it, or use another --run folder."
        ) from exc
    except OSError as exc:
        raise StorageError(
            f"The run folder {folder} can't be read or written: {exc}. Free some space or fix its "
            "permissions; the same command then continues after the last complete epoch."
        ) from exc
    finally:
        os.close(lock)


def _damaged(folder: Path, reason: object) -> ConfigError:
    return ConfigError(
        f"The record of the run is damaged: {reason}. Expected the {RUN_FILE} that training has "
        f"written. Restore it, use another --run folder, or remove this one to start again. "
        f"Received: {str(folder / RUN_FILE)!r}"
    )
