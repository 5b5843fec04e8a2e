"""The training loop that both frameworks share: epochs, progress, curves, checkpoints, resumption.

A run lives in a folder:

    run.json                 configuration, data fingerprint, history so far and the checkpoint that belongs to it
    checkpoint-<epoch>       weights and optimizer state, in the format of the framework
    events.out.tfevents…     TensorBoard curves

Whatever is written is written beside and renamed, so a kill at any moment leaves the last whole epoch.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from bundle.batches import in_batches
from training.config import TrainConfig
from training.data.batches import batches, class_weights
from training.data.dataset import DataSet, Split
from training.errors import ConfigError, StorageError
from training.progress import progress_bar
from training.schedule import crop_size, rate_factor
from training.weights.normalisation import Normalisation

RUN_FILE = "run.json"
# What may differ when a run is resumed. Threads and devices change its speed, not what it learns from; a run that is
# shortened or lengthened goes on with the schedule of its new length, and its history records the rates that it had.
CHANGEABLE = {"threads", "devices", "epochs"}
# Knobs that runs from before they existed do not have, with what those runs did.
ADDED: dict[str, Any] = {
    "init": "random",
    "initial": {"from": "random"},
    "train_limit": 0,
    "test_limit": 0,
    "freeze_epochs": 0,
    "finetune_factor": TrainConfig.finetune_factor,
    "ema_decay": 0.0,
    "augment": "none",
    "mixup_alpha": 0.0,
    "cutmix_alpha": 0.0,
    "patience": 0,
    "oversampling": 1.0,
}


class TrainerLike(Protocol):
    """What a framework offers to the loop; see `training/torch/trainer.py` and `training/keras/trainer.py`."""

    parameters: int
    feature_map: tuple[int, int, int]  # height, width, channels
    normalisation: Normalisation
    initial: dict[str, Any]  # where the weights came from, as in the manifest
    share: tuple[
        int, int
    ]  # which part of each batch is for this process, and how many parts there are

    def freeze(self, frozen: bool) -> None: ...
    def train_step(
        self, pixels: NDArray[np.uint8], targets: NDArray[np.float32], factor: float
    ) -> tuple[float, int]: ...
    def agree(self, figures: dict[str, float]) -> dict[str, float]: ...
    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]: ...
    def save(self, path: Path) -> None: ...
    def load(self, path: Path) -> None: ...
    def export(self, directory: Path) -> None: ...


class EventWriterLike(Protocol):
    """What a framework offers for TensorBoard."""

    def write(self, epoch: int, scalars: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


@dataclass
class Run:
    """The record of a run, as `run.json` holds it."""

    config: dict[str, Any]
    data: str
    history: list[dict[str, float]]

    @property
    def kept_epoch(self) -> int:
        """The epoch, counted from 1, whose weights are those of the run: the last, or with `patience` the best."""
        return best_epoch(self.history) if self.config["patience"] else len(self.history)

    @property
    def stopped_early(self) -> bool:
        """Whether the validation loss has been no better for `patience` epochs."""
        patience = self.config["patience"]
        return bool(
            self.history and patience and len(self.history) - best_epoch(self.history) >= patience
        )

    @property
    def seconds(self) -> float:
        """The time spent in epochs, over all sessions of the run, in seconds."""
        return sum(epoch["seconds"] for epoch in self.history)


def open_run(folder: Path, config: TrainConfig, data: DataSet, initial: dict[str, Any]) -> Run:
    """The record of the run in `folder`: the one that is there, or a new one.

    Raises:
        ConfigError: the folder holds a run with another configuration, other initial weights or other data.
    """
    new = Run(config.as_dict() | {"initial": initial}, data.fingerprint(), [])
    path = folder / RUN_FILE
    if not path.exists():
        return new
    old = Run(**json.loads(path.read_text()))
    old.config = ADDED | old.config
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
            f"{folder} holds a run with another configuration ({shown}). Use the same options to resume it, "
            "another --run folder, or remove the folder."
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
    """The configuration of the run in `folder`; None where there is no run yet."""
    path = folder / RUN_FILE
    if not path.exists():
        return None
    recorded = ADDED | json.loads(path.read_text())["config"]
    return TrainConfig(**{name: value for name, value in recorded.items() if name != "initial"})


def train(
    trainer: TrainerLike,
    make_writer: Any,
    config: TrainConfig,
    data: DataSet,
    folder: Path,
    console: Console,
    *,
    test_curve: bool = False,
) -> Run:
    """Train to the last epoch, from the last checkpoint in `folder` on if there is one; returns the record.

    Of several processes that train together the first one writes.

    Args:
        test_curve: record the accuracy on the test split after each epoch too. It is written down and read by nothing
            in the training, so it has no part in any choice.

    Raises:
        ConfigError: another run goes on in `folder`, there are fewer images than devices, or see `open_run`.
        StorageError: a checkpoint could not be written.
    """
    if len(data.train) < config.devices:
        raise ConfigError(
            f"Each device needs an image. Expected at most {len(data.train)} devices. Received: {config.devices}"
        )
    with _alone_in(folder) if trainer.share[0] == 0 else nullcontext():
        return _train(trainer, make_writer, config, data, folder, console, test_curve)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """The folder, made and locked; the kernel drops the lock with the process, however that ends."""
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
    finally:
        os.close(lock)


def _train(
    trainer: TrainerLike,
    make_writer: Any,
    config: TrainConfig,
    data: DataSet,
    folder: Path,
    console: Console,
    test_curve: bool,
) -> Run:
    run = open_run(folder, config, data, trainer.initial)
    done = len(run.history)
    if done:
        trainer.load(folder / f"checkpoint-{done}")
        console.print(f"Resuming {folder} after epoch {done} of {config.epochs}.")
    part, parts = trainer.share
    writer: EventWriterLike | None = make_writer(folder, done) if part == 0 else None
    fill = trainer.normalisation.fill
    weights = class_weights(data.train.labels, config.oversampling)
    per_epoch = max(1, len(data.train) // min(config.batch_size, len(data.train)))
    steps = config.epochs * per_epoch
    try:
        with progress_bar(console) as progress:
            bar = progress.add_task("training", total=steps, completed=done * per_epoch)
            for epoch in range(done, config.epochs):
                if run.stopped_early:
                    console.print(
                        f"Stopped: the validation loss has been no better for {config.patience} epochs."
                    )
                    break
                started = time.monotonic()
                trainer.freeze(epoch < config.freeze_epochs)
                loss = correct = seen = 0.0
                step = epoch * per_epoch
                for pixels, targets in batches(
                    data.train.pixels,
                    data.train.labels,
                    len(data.classes),
                    config,
                    epoch,
                    fill,
                    trainer.share,
                ):
                    batch_loss, batch_correct = trainer.train_step(
                        pixels, targets, rate_factor(config, step, steps)
                    )
                    loss += batch_loss * len(targets) * parts
                    correct += batch_correct
                    seen += len(targets) * parts
                    step += 1
                    progress.update(
                        bar,
                        completed=step,
                        description=f"epoch {epoch + 1}/{config.epochs}  loss {loss / seen:.3f}",
                    )
                validation_loss, validation_accuracy = evaluate(trainer, data.validation, weights)
                scalars = {
                    "loss": loss / seen,
                    "train_accuracy": correct / seen,
                    "validation_loss": validation_loss,
                    "validation_accuracy": validation_accuracy,
                    "rate_factor": rate_factor(config, epoch * per_epoch, steps),
                    "crop_size": float(crop_size(config, epoch)),
                    "seconds": time.monotonic() - started,
                }
                if test_curve:
                    scalars["test_accuracy"] = evaluate(trainer, data.test, weights)[1]
                scalars = trainer.agree(scalars)
                run.history.append(scalars)
                if writer is not None:
                    _save(folder, run, trainer)
                    writer.write(epoch + 1, scalars)
                console.print(
                    f"epoch {epoch + 1}/{config.epochs}: loss {scalars['loss']:.4f}, "
                    f"training accuracy {scalars['train_accuracy']:.2%}, "
                    f"validation accuracy {scalars['validation_accuracy']:.2%}, "
                    f"validation loss {scalars['validation_loss']:.4f}, {scalars['seconds']:.0f} s"
                )
        if run.kept_epoch < len(run.history):
            trainer.load(folder / f"checkpoint-{run.kept_epoch}")
            console.print(
                f"The weights are those of epoch {run.kept_epoch}, which had the lowest validation loss."
            )
    finally:
        if writer is not None:
            writer.close()
    return run


def predict(trainer: TrainerLike, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 logits [N, C] of uint8 pixels [N, H, W, 3], asked in batches."""
    return np.concatenate([trainer.predict(part) for part in in_batches(pixels)])


def evaluate(
    trainer: TrainerLike, split: Split, weights: NDArray[np.float64]
) -> tuple[float, float]:
    """The mean cross-entropy on `split` with the classes weighted float64 [C], and the share that is right."""
    logits = predict(trainer, split.pixels).astype(np.float64)
    with np.errstate(invalid="ignore"):  # of a run that has diverged, whose logits are no numbers
        losses = np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(split)), split.labels]
    right = logits.argmax(1) == split.labels
    return float(np.average(losses, weights=weights[split.labels])), float(right.mean())


def best_epoch(history: list[dict[str, float]]) -> int:
    """The first epoch, counted from 1, with the lowest validation loss; one that is no number is no better."""
    losses = np.array([epoch["validation_loss"] for epoch in history])
    return int(np.where(np.isfinite(losses), losses, np.inf).argmin()) + 1


def _save(folder: Path, run: Run, trainer: TrainerLike) -> None:
    """The checkpoint of the last epoch, then the record that names it, then away with those that nobody needs."""
    epoch = len(run.history)
    try:
        part = folder / f".checkpoint-{epoch}.part"
        trainer.save(part)
        part.replace(folder / f"checkpoint-{epoch}")
        record = folder / f".{RUN_FILE}.part"
        with record.open("w") as file:
            json.dump(
                {"config": run.config, "data": run.data, "history": run.history}, file, indent=1
            )
            file.flush()
            os.fsync(file.fileno())
        record.replace(folder / RUN_FILE)
    except (OSError, RuntimeError) as exc:  # torch.save raises RuntimeError when the disk is full
        raise StorageError(
            f"The checkpoint of epoch {epoch} can't be written to {folder}: {exc}. Free some space; the same "
            f"command then goes on after epoch {epoch - 1}."
        ) from exc
    for old in folder.glob("checkpoint-*"):
        if old.name not in (f"checkpoint-{epoch}", f"checkpoint-{run.kept_epoch}"):
            old.unlink(missing_ok=True)
    for old in folder.glob(".*.part"):
        old.unlink(missing_ok=True)
