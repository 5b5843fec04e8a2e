"""From a configuration and a data set to a bundle: what `train`, `fit` and `transfer` share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import typer

from training.commands.options import (
    console,
    interrupted,
    load_backend,
    print_artifacts,
    print_serve_command,
)
from training.config import TrainConfig
from training.data import duplicates
from training.data.dataset import DataSet
from training.data.folders import some
from training.loop import train as run_training
from training.weights.initial import read_initial

if TYPE_CHECKING:
    from training.export.export import Exported, ExportOptions

MAX_CLASSES_SHOWN = 10  # in the results; of more classes, the worst ones
DUPLICATES_FILE = "duplicates.csv"
# With four test images of a class, a single one moves the accuracy of that class by 25 points.
MIN_TEST_IMAGES = 5  # of each class
MAX_INTERVAL = 0.3  # width of the 95 % interval of the accuracy: 15 points either way


def make_bundle(config: TrainConfig, data_set: DataSet, run: Path, options: ExportOptions) -> Path:
    """Train or resume in the folder `run`, and export the model's next version.

    Returns:
        The folder of the bundle.

    Raises:
        TrainingError, BundleError: see `read_initial`, `training.loop.train` and `export_bundle`.
        typer.Exit: after Ctrl-C, or in every process but rank 0, which writes the bundle.
    """
    _print_notes(data_set, run)
    backend = load_backend(config)
    mean, std = data_set.mean_and_std()
    initial = read_initial(config, backend.weights)
    if initial.note:
        console.print(f"Note: {initial.note}", markup=False)
    if dropped := initial.dropped_classifier(config.init, data_set.classes):
        console.print(f"Note: {dropped}", markup=False)
    trainer = backend.Trainer(
        config, len(data_set.classes), mean, std, initial.for_labels(data_set.classes)
    )
    console.print(
        f"{config.network} in {config.framework}: {trainer.parameters:,} parameters, "
        f"{len(data_set.train):,} training and {len(data_set.validation):,} validation images, "
        f"{len(data_set.classes)} classes. Checkpoints and curves: {run} "
        f"(tensorboard --logdir {run})",
        markup=False,
    )
    if config.probe and config.init == "random":
        console.print(
            "Notice: the linear probe is fitted to features of random weights. --init imagenet, a "
            "file or a bundle starts from better ones."
        )
    try:
        record = run_training(trainer, config, data_set, run, console)
    except KeyboardInterrupt:
        raise interrupted() from None
    if backend.devices.shut_down():
        raise typer.Exit
    # scipy takes seconds to import.
    from training.export.export import export_bundle  # noqa: PLC0415

    with console.status("exporting") as status:
        exported = export_bundle(
            trainer, backend, config, data_set, record, options, progress=status.update
        )
    _print_result(config, data_set, exported)
    print_artifacts(exported.path, exported.serving, exported.notes)
    print_serve_command(options.models, options.name, data_set.test.files[0])
    return exported.path


def _print_notes(data_set: DataSet, run: Path) -> None:
    """Print what is remarkable about the data, and list its duplicates in a file of the run."""
    for note in data_set.notes:
        console.print(f"Note: {note}", markup=False)
    if data_set.duplicates:
        path = run / DUPLICATES_FILE
        duplicates.write_list(data_set.duplicates, path)
        console.print(f"Note: all {len(data_set.duplicates):,} are listed in {path}", markup=False)
    counts = np.bincount(data_set.test.labels, minlength=len(data_set.classes))
    few = [
        f"{label} {count}"
        for label, count in zip(data_set.classes, counts, strict=True)
        if count < MIN_TEST_IMAGES
    ]
    if few:
        console.print(
            f"Notice: there are fewer than {MIN_TEST_IMAGES} test images of {len(few)} of "
            f"{len(data_set.classes)} classes, so the test accuracy will say little. Add images. "
            f"Received: {some(few)}",
            markup=False,
        )


def _print_result(config: TrainConfig, data_set: DataSet, exported: Exported) -> None:

    low, high = exported.interval
    before, after = exported.calibration_error
    scaled = "without scaling" if after is None else f"before and {after:.4f} after scaling"
    console.print(
        f"{exported.path}: test accuracy {exported.accuracy:.2%} (95 % interval {low:.2%} to "
        f"{high:.2%}, {len(data_set.test):,} images) through the exported artifact; calibration "
        f"error {before:.4f} {scaled}; logits within {exported.max_logit_difference:.1e} of the "
        "network's.",
        markup=False,
    )
    if high - low > MAX_INTERVAL:
        console.print(
            f"Notice: the interval is {(high - low) * 100:.0f} points wide: {len(data_set.test):,} "
            "test images are too few to judge the model by. Add images.",
            markup=False,
        )
    if exported.uncalibrated:
        console.print(
            f"Notice: the scores are not calibrated: {exported.uncalibrated}. Add images, or "
            "hold out more of them with `train --validation-fraction` (now "
            f"{config.validation_fraction:g}).",
            markup=False,
        )
    worst_first = sorted(exported.by_class, key=lambda found: found[2] / found[1])
    correct = ", ".join(
        f"{label} {right} of {count}" for label, count, right in worst_first[:MAX_CLASSES_SHOWN]
    )
    console.print(f"Correct by class, worst first: {correct}", markup=False)
