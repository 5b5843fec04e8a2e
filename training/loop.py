"""The training loop that both frameworks share: epochs, metrics, progress, checkpoints, resumption.

`training/run.py` describes the files of a run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from bundle.batches import in_batches
from training.backend import TrainerLike
from training.config import TrainConfig
from training.data.batches import batches, class_weights
from training.data.dataset import DataSet, Split
from training.errors import ConfigError
from training.events import EventWriter
from training.probe import fit_probe, loss_and_accuracy
from training.progress import progress_bar
from training.run import Run, locked, open_run, save_epoch
from training.schedule import crop_size, rate_factor, step_cost


def train(
    trainer: TrainerLike,
    config: TrainConfig,
    data: DataSet,
    folder: Path,
    console: Console,
    *,
    test_curve: bool = False,
    make_progress: Callable[[Console], Progress] = progress_bar,
) -> Run:
    """Train to the last epoch, or resume from the last checkpoint in `folder`.

    Of several processes that train together, rank 0 writes. Returns the record of the run.

    Args:
        test_curve: record the accuracy on the test split after each epoch too. Nothing in the
            training reads it, so it influences no decision.
        make_progress: the progress display, whose clock also times the epochs.

    Raises:
        ConfigError: another process trains in `folder`, there are fewer images than devices, or see
            `open_run`.
        StorageError: the folder can't be read or written.
    """
    if len(data.train) < config.devices:
        raise ConfigError(
            f"Each device needs an image. Expected at most {len(data.train)} devices. "
            f"Received: {config.devices}"
        )
    with locked(folder) if trainer.rank == 0 else nullcontext():
        run = open_run(folder, config, data, trainer.initial)
        if run.history:
            trainer.load(folder / f"checkpoint-{len(run.history)}")
            console.print(f"Resuming {folder} after epoch {len(run.history)} of {config.epochs}.")
        writer = EventWriter(folder, len(run.history)) if trainer.rank == 0 else None
        with make_progress(console) as progress:
            epochs = _Epochs(trainer, config, data, progress, len(run.history), test_curve)
            while len(run.history) < config.epochs:
                if run.stopped_early:
                    console.print(
                        f"Stopped: the validation loss has not improved for {config.patience} "
                        "epochs."
                    )
                    break
                scalars = trainer.broadcast_metrics(epochs.run(len(run.history)))
                run.history.append(scalars)
                if writer is not None:
                    save_epoch(folder, run, trainer.save)
                    writer.write(len(run.history), scalars)
                console.print(
                    f"epoch {len(run.history)}/{config.epochs}: loss {scalars['loss']:.4f}, "
                    f"training accuracy {scalars['train_accuracy']:.2%}, "
                    f"validation accuracy {scalars['validation_accuracy']:.2%}, "
                    f"validation loss {scalars['validation_loss']:.4f}, "
                    f"{scalars['seconds']:.0f} s"
                )
        if run.kept_epoch < len(run.history):
            trainer.load(folder / f"checkpoint-{run.kept_epoch}")
            console.print(
                f"The weights are those of epoch {run.kept_epoch}, which had the lowest validation "
                "loss."
            )
    return run


class _Epochs:
    """Runs the epochs of a training run one by one."""

    def __init__(
        self,
        trainer: TrainerLike,
        config: TrainConfig,
        data: DataSet,
        progress: Progress,
        done: int,
        test_curve: bool,
    ) -> None:
        self._trainer, self._config, self._data = trainer, config, data
        self._test_curve = test_curve
        self._weights = class_weights(data.train.labels, config.oversampling)
        self._steps = max(1, len(data.train) // min(config.batch_size, len(data.train)))
        self._progress = progress
        costs = [self._steps * step_cost(config, epoch) for epoch in range(config.epochs)]
        self._cost_before = [sum(costs[:epoch]) for epoch in range(config.epochs + 1)]
        self._bar = progress.add_task("training", total=sum(costs))
        progress.update(self._bar, completed=self._cost_before[done])

    def run(self, epoch: int) -> dict[str, float]:
        """Train for an epoch, counted from 0, and measure it; returns the scalars of its record."""
        trainer, config, data, progress = self._trainer, self._config, self._data, self._progress
        started = progress.get_time()
        if config.probe and epoch == 0:
            training, validation = self._probe()
        else:
            training = self._steps_of(epoch)
            validation = evaluate(trainer, data.validation, self._weights)
        scalars = {
            "loss": training[0],
            "train_accuracy": training[1],
            "validation_loss": validation[0],
            "validation_accuracy": validation[1],
            "rate_factor": self._rate_factor(epoch, 0),
            "crop_size": float(crop_size(config, epoch)),
            "seconds": progress.get_time() - started,
        }
        if self._test_curve:
            scalars["test_accuracy"] = evaluate(trainer, data.test, self._weights)[1]
        return scalars

    def _probe(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Fit the classifier; returns loss and accuracy on training and on validation images."""
        probe = fit_probe(
            self._trainer,
            self._data,
            self._weights,
            lambda share: self._progress.update(
                self._bar, completed=self._cost_before[1] * share, description="linear probe"
            ),
        )
        self._trainer.set_classifier(probe.weights, probe.biases)
        fit = probe.loss, probe.accuracy
        return fit, (probe.validation_loss, probe.validation_accuracy)

    def _steps_of(self, epoch: int) -> tuple[float, float]:
        """The training steps of an epoch; returns the mean loss and accuracy during them."""
        trainer, config, data = self._trainer, self._config, self._data
        loss = correct = seen = 0.0
        for step, (pixels, targets) in enumerate(
            batches(
                data.train.pixels,
                data.train.labels,
                len(data.classes),
                config,
                epoch,
                trainer.normalisation.fill,
                (trainer.rank, trainer.world_size),
            )
        ):
            batch_loss, batch_correct = trainer.train_step(
                pixels, targets, self._rate_factor(epoch, step)
            )
            loss += batch_loss * len(targets) * trainer.world_size
            correct += batch_correct
            seen += len(targets) * trainer.world_size
            self._progress.update(
                self._bar,
                completed=self._cost_before[epoch] + (step + 1) * step_cost(config, epoch),
                description=f"epoch {epoch + 1}/{config.epochs}  loss {loss / seen:.3f}",
            )
        return loss / seen, correct / seen

    def _rate_factor(self, epoch: int, step: int) -> float:
        total = self._config.epochs * self._steps
        return rate_factor(self._config, epoch * self._steps + step, total)


def predict(trainer: TrainerLike, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 logits [N, C] of uint8 pixels [N, H, W, 3], computed in batches."""
    return np.concatenate([trainer.predict(part) for part in in_batches(pixels)])


def evaluate(
    trainer: TrainerLike, split: Split, weights: NDArray[np.float64]
) -> tuple[float, float]:
    """The mean cross-entropy on `split` with class weights float64 [C], and the accuracy.

    The logits are divided by their best temperature, as a bundle's are: a network that has become
    more accurate and too confident is the better one.
    """
    # scipy takes seconds to import.
    from bundle.evaluation.calibration import fit_temperature  # noqa: PLC0415

    logits = predict(trainer, split.pixels)
    temperature = fit_temperature(logits, split.labels) or 1.0
    return loss_and_accuracy(logits / np.float32(temperature), split.labels, weights)
