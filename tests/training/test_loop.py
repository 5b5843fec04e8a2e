from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from training.config import make_config
from training.data.dataset import DataSet, Split
from training.loop import train
from training.run import Run
from training.weights.normalisation import Normalisation


class Scripted:
    """A trainer of one step an epoch, whose validation loss after each epoch is written down beforehand."""

    parameters = 1
    feature_map = (1, 1, 1)
    normalisation = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    initial = {"from": "random"}  # noqa: RUF012 - as the trainers have it
    rank, world_size = 0, 1

    def __init__(self, losses: list[float], killed_in: int | None = None) -> None:
        self.losses, self.killed_in, self.epoch = losses, killed_in, 0

    def freeze(self, frozen: bool) -> None:
        pass

    def train_step(self, *_: object) -> tuple[float, int]:
        if self.epoch == self.killed_in:
            raise KeyboardInterrupt
        self.epoch += 1
        return 0.0, 0

    def broadcast_metrics(self, metrics: dict[str, float]) -> dict[str, float]:
        return metrics

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        wrong = math.log(
            math.expm1(self.losses[self.epoch - 1])
        )  # so that the loss of class 0 is as written
        return np.tile(np.array([0, wrong], np.float32), (len(pixels), 1))

    def save(self, path: Path) -> None:
        path.write_text(str(self.epoch))

    def load(self, path: Path) -> None:
        self.epoch = int(path.read_text())

    def export(self, directory: Path) -> None:
        raise NotImplementedError


def split(*labels: int) -> Split:
    return Split(
        np.zeros((len(labels), 8, 8, 3), np.uint8), np.array(labels), [Path("x")] * len(labels)
    )


DATA = DataSet("data", ["a", "b"], split(0, 0, 1, 1), split(0, 0), split(0, 1), [], 0.5)
LOSSES = [0.9, 0.5, 0.7, 0.6, 0.5, 0.1]  # with a patience of 3 the last one is never seen


def run(trainer: Scripted, folder: Path, patience: int = 3) -> Run:
    config = make_config(epochs=len(trainer.losses), batch_size=4, image_size=8, patience=patience)
    return train(trainer, config, DATA, folder, Console(quiet=True))


def test_a_run_without_a_lower_loss_stops_and_keeps_the_best_weights(tmp_path: Path) -> None:
    trainer = Scripted(LOSSES)

    record = run(trainer, tmp_path)

    assert [round(epoch["validation_loss"], 4) for epoch in record.history] == LOSSES[:5]
    assert (record.kept_epoch, trainer.epoch) == (2, 2)
    assert sorted(file.name for file in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-2",
        "checkpoint-5",
    ]


@pytest.mark.parametrize("killed_in", range(5))
def test_a_run_that_is_interrupted_anywhere_ends_as_it_would_have(
    killed_in: int, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Scripted(LOSSES, killed_in), tmp_path)
    trainer = Scripted(LOSSES)

    record = run(trainer, tmp_path)

    assert (len(record.history), record.kept_epoch, trainer.epoch) == (5, 2, 2)


def test_a_run_that_has_stopped_stays_stopped(tmp_path: Path) -> None:
    run(Scripted(LOSSES), tmp_path)
    trainer = Scripted(LOSSES, killed_in=5)

    record = run(trainer, tmp_path)

    assert (len(record.history), trainer.epoch) == (5, 2)


def test_without_patience_a_run_goes_to_its_end_and_keeps_the_last_weights(tmp_path: Path) -> None:
    trainer = Scripted([*LOSSES, 0.8])

    record = run(trainer, tmp_path, patience=0)

    assert (len(record.history), record.kept_epoch, trainer.epoch) == (7, 7, 7)
    assert [file.name for file in tmp_path.glob("checkpoint-*")] == ["checkpoint-7"]


def test_a_loss_that_is_no_number_is_no_better(tmp_path: Path) -> None:
    record = run(Scripted([0.5, math.nan, math.nan, math.nan, 0.1]), tmp_path)

    assert (len(record.history), record.kept_epoch) == (4, 1)
