"""From a configuration and a data set to a bundle, with what is said on the way: what `train` and `fit` share."""

from __future__ import annotations

from pathlib import Path

import typer

from training.commands.options import (
    command_line,
    console,
    interrupted,
    load_backend,
    print_artifacts,
    print_serve_command,
)
from training.config import TrainConfig
from training.data.dataset import DataSet
from training.loop import train as run_training
from training.weights.initial import read_initial

MAX_CLASSES_SHOWN = 10  # whose results are printed; of more, those of the worst ones


def make_bundle(
    config: TrainConfig,
    data_set: DataSet,
    *,
    run: Path,
    out: Path,
    name: str,
    golden: list[tuple[str, bytes]] | None = None,
    accelerated: bool = True,
) -> Path:
    """Train in the folder `run`, or go on there, and write the next version of `out`/`name`; returns its folder.

    Args:
        golden, accelerated: as for `export_bundle`.

    Raises:
        TrainingError, BundleError: see `read_initial`, `training.loop.train` and `export_bundle`.
        typer.Exit: Ctrl-C, or another process makes the bundle of what both have trained.
    """
    for note in data_set.notes:
        console.print(f"Note: {note}", markup=False)
    backend = load_backend(config)
    mean, std = data_set.mean_and_std()
    initial = read_initial(config, backend.weights).for_labels(data_set.classes)
    trainer = backend.Trainer(config, len(data_set.classes), mean, std, initial)
    console.print(
        f"{config.arch} in {config.framework}: {trainer.parameters:,} parameters, {len(data_set.train):,} training and "
        f"{len(data_set.validation):,} validation images, {len(data_set.classes)} classes. Checkpoints and curves: {run} (tensorboard --logdir {run})",
        markup=False,
    )
    if config.freeze_epochs and config.init == "random":
        console.print(
            "Notice: the backbone is frozen at random weights. --init imagenet, a file or a bundle starts from better ones."
        )
    try:
        record = run_training(trainer, config, data_set, run, console)
    except KeyboardInterrupt:
        raise interrupted() from None
    if backend.devices.shut_down():
        raise typer.Exit
    from training.export.export import export_bundle  # noqa: PLC0415 - scipy takes seconds to import

    exported = export_bundle(
        trainer,
        backend,
        config,
        data_set,
        record,
        models=out,
        name=name,
        command=command_line(),
        golden=golden,
        accelerated=accelerated,
    )
    low, high = exported.interval
    before, after = exported.calibration_error
    scaled = "without scaling" if after is None else f"before and {after:.4f} after scaling"
    console.print(
        f"{exported.path}: test accuracy {exported.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}, "
        f"{len(data_set.test):,} images) through the exported artifact; calibration error {before:.4f} "
        f"{scaled}; logits within {exported.max_logit_difference:.1e} of the network's.",
        markup=False,
    )
    if exported.uncalibrated:
        console.print(
            f"Notice: the scores are not calibrated: {exported.uncalibrated}. More images help, or a "
            f"larger share of them in `train`: --validation-fraction, here {config.validation_fraction:g}.",
            markup=False,
        )
    worst_first = sorted(exported.by_class, key=lambda found: found[2] / found[1])
    console.print(
        "Right by class, worst first: "
        + ", ".join(
            f"{label} {right} of {count}" for label, count, right in worst_first[:MAX_CLASSES_SHOWN]
        ),
        markup=False,
    )
    print_artifacts(exported.path, exported.serving)
    print_serve_command(out, name, data_set.test.files[0])
    return exported.path
