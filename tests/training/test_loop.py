from __future__ import annotations

import dataclasses
import json
import math
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from bundle.normalisation import Normalisation
from training.config import TrainConfig, make_config
from training.data.dataset import DataSet, Split
from training.errors import ConfigError, StorageError
from training.loop import train
from training.run import Run, read_run, recorded_config
from training.schedule import step_cost


class Scripted:
    """A trainer with one step an epoch and a given validation loss after each epoch."""

    parameters = 1
    feature_map = (1, 1, 1)
    normalisation = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    initial = {"from": "random"}  # noqa: RUF012 - as the trainers have it
    rank, world_size = 0, 1

    def __init__(self, losses: list[float], killed_in: int | None = None) -> None:
        self.losses, self.killed_in, self.epoch = losses, killed_in, 0

    def train_step(self, *_: object) -> tuple[float, int]:
        if self.epoch == self.killed_in:
            raise KeyboardInterrupt
        self.epoch += 1
        return 0.0, 0

    def broadcast_metrics(self, metrics: dict[str, float]) -> dict[str, float]:
        return metrics

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        # So that the loss of class 0 is the given one.
        wrong = math.log(math.expm1(self.losses[self.epoch - 1]))
        return np.tile(np.array([0, wrong], np.float32), (len(pixels), 1))

    def features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        features: NDArray[np.float32] = pixels.mean((1, 2), dtype=np.float32)
        return features

    def set_classifier(self, *_: object) -> None:
        self.epoch += 1

    def save(self, path: Path) -> None:
        path.write_text(str(self.epoch))

    def load(self, path: Path) -> None:
        self.epoch = int(path.read_text())

    def round_to_half(self) -> None:
        raise NotImplementedError

    def export(self, directory: Path) -> None:
        raise NotImplementedError


def split(*labels: int) -> Split:
    return Split(
        np.zeros((len(labels), 8, 8, 3), np.uint8), np.array(labels), [Path("x")] * len(labels)
    )


DATA = DataSet("data", ["a", "b"], split(0, 0, 1, 1), split(0, 0), split(0, 1), [], 0.5)
LOSSES = [0.9, 0.5, 0.7, 0.6, 0.5, 0.1]  # with a patience of 3 the last one is never seen


def run(trainer: Scripted, folder: Path, patience: int = 3, probe: bool = False) -> Run:
    config = make_config(
        epochs=len(trainer.losses),
        batch_size=4,
        image_size=8,
        patience=patience,
        probe=probe,
    )
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


def test_an_unfinished_run_with_frozen_epochs_is_refused_and_a_finished_one_read(
    tmp_path: Path,
) -> None:
    run(Scripted(LOSSES[:3]), tmp_path, patience=0)
    record = json.loads((tmp_path / "run.json").read_text())
    record["config"] |= {"freeze_epochs": 2, "finetune_factor": 0.1}
    (tmp_path / "run.json").write_text(json.dumps(record))

    finished = read_run(tmp_path)
    record["history"].pop()
    (tmp_path / "run.json").write_text(json.dumps(record))

    assert finished is not None
    assert "freeze_epochs" not in finished.config
    with pytest.raises(ConfigError, match=r"begun with frozen epochs.* another --run folder"):
        read_run(tmp_path)


def test_a_probe_is_kept_where_fine_tuning_does_not_lower_the_loss(tmp_path: Path) -> None:
    record = run(Scripted([0.1, 0.9, 0.9, 0.8, 0.05]), tmp_path, patience=3, probe=True)

    assert (len(record.history), record.kept_epoch) == (4, 1)
    assert record.history[0]["rate_factor"] == 0


class Clocked(Scripted):
    """A trainer whose steps take the seconds that `step_cost` promises, by a clock of its own."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__([0.5] * config.epochs)
        self.config, self.now = config, 0.0
        self.estimates: list[tuple[float, float]] = []  # the time of each, and its ETA in seconds
        self.progress: Progress

    def features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        # The probe takes its time for these.
        share = len(pixels) / (len(DATA.train) + len(DATA.validation))
        self.now += 60 * step_cost(self.config, 0) * share
        return super().features(pixels)

    def train_step(self, *_: object) -> tuple[float, int]:
        if (remaining := self.progress.tasks[0].time_remaining) is not None:
            self.estimates.append((self.now, remaining))
        self.now += 60 * step_cost(self.config, self.epoch)
        return super().train_step()

    def make_progress(self, console: Console) -> Progress:
        self.progress = Progress(
            console=console,
            auto_refresh=False,
            speed_estimate_period=math.inf,
            get_time=lambda: self.now,
        )
        return self.progress


@pytest.mark.parametrize("cheap", [{"probe": True}, {"small_crop": 4}], ids=["probe", "small"])
def test_the_remaining_time_counts_what_the_epochs_cost(
    cheap: dict[str, Any], tmp_path: Path
) -> None:
    config = make_config(epochs=10, batch_size=4, image_size=8, small_crop=0)
    config = dataclasses.replace(config, **cheap)
    trainer = Clocked(config)

    train(trainer, config, DATA, tmp_path, Console(quiet=True), make_progress=trainer.make_progress)

    assert len(trainer.estimates) >= 8
    for now, remaining in trainer.estimates:
        assert remaining == pytest.approx(trainer.now - now, rel=0.1, abs=1)


def test_a_full_disk_is_a_storage_error(tmp_path: Path) -> None:
    with limited_files(0), pytest.raises(StorageError, match="can't be"):
        run(Scripted(LOSSES), tmp_path)


def test_a_checkpoint_on_a_full_disk_is_a_storage_error(tmp_path: Path) -> None:
    class Large(Scripted):
        def save(self, path: Path) -> None:
            path.write_bytes(bytes(1_000_000))

    with limited_files(100_000), pytest.raises(StorageError, match="checkpoint of epoch 1 can't"):
        run(Large(LOSSES), tmp_path)


@contextmanager
def limited_files(size: int) -> Iterator[None]:
    """Files grow to `size` bytes at most, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"config": {}, "data": ""}',
        '{"config": {}, "data": "", "history": [{"loss": ""}]}',
    ],
    ids=["empty", "another type", "a field is missing", "a number is not one"],
)
def test_a_damaged_record_is_named_with_what_to_do(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content)

    for read in (lambda: run(Scripted(LOSSES), tmp_path), lambda: recorded_config(tmp_path)):
        with pytest.raises(ConfigError, match=r"damaged: .*use another --run folder.*run\.json"):
            read()


def test_a_record_that_cannot_be_read_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()

    with pytest.raises(StorageError, match="record of the run can't be read"):
        run(Scripted(LOSSES), tmp_path)


def test_a_link_to_itself_is_a_storage_error(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.symlink_to(folder)

    with pytest.raises(StorageError, match="can't be made"):
        run(Scripted(LOSSES), folder)
