"""`python -m training degradation` as a user runs it, with and without training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.training.conftest import SMALL, Start, run_command
from training.errors import ConfigError
from training.reports.degradation import NETWORKS, markdown, read_runs, results


def write_run(
    folder: Path, arch: str, errors: list[tuple[float, float | None]], **config: object
) -> None:
    """A recorded run with (training error, test error) of each epoch."""
    history = []
    for training, test in errors:
        epoch = {"train_accuracy": 1 - training, "validation_accuracy": 0.5, "seconds": 2.0}
        history.append(epoch if test is None else epoch | {"test_accuracy": 1 - test})
    folder.mkdir(parents=True)
    record = {
        "config": {"arch": arch, "epochs": 2, "seed": 0, **config},
        "data": "digest",
        "history": history,
    }
    (folder / "run.json").write_text(json.dumps(record))


def test_one_command_trains_the_four_networks_and_draws_their_errors(
    start: Start, colour_folder: Path, tmp_path: Path
) -> None:
    options = (
        "--data",
        colour_folder,
        "--epochs",
        "1",
        *SMALL,
        "--runs",
        tmp_path / "runs",
        "--out",
        tmp_path,
    )

    done = start("degradation", *options).end()

    assert done.returncode == 0, done.stdout + done.stderr
    report = tmp_path / "degradation"
    record = json.loads((report / "degradation.json").read_text())
    assert [network["name"] for network in record["networks"]] == list(NETWORKS)
    assert record["differing"] == {}
    for network in record["networks"]:
        run = json.loads((tmp_path / "runs" / network["name"] / "run.json").read_text())
        (epoch,) = run["history"]
        assert network["training_error"] == 1 - epoch["train_accuracy"]
        assert network["test_error"] == 1 - epoch["test_accuracy"]
        assert round(epoch["test_accuracy"] * 30, 6).is_integer(), "the test split has 30 images"
    page = (report / "index.html").read_text()
    assert "<svg" in page
    assert "{{" not in page
    assert all(name in page for name in NETWORKS)
    assert (report / "degradation.md").is_file()
    assert (report / "plots" / "degradation.svg").is_file()


def test_runs_that_exist_are_drawn_without_training(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a", "plain20", [(0.5, 0.5), (0.2, 0.3)])
    write_run(tmp_path / "runs" / "b", "plain56", [(0.6, 0.6), (0.35, 0.4)])
    write_run(tmp_path / "runs" / "c", "resnet20", [(0.4, None)], seed=3)

    done = run_command("degradation", "--runs", tmp_path / "runs", "--out", tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "degradation" / "degradation.json").read_text())
    (effect,) = record["deeper_minus_shallower"]
    assert (effect["deep"], effect["shallow"]) == ("plain56", "plain20")
    assert effect["training_error"] == pytest.approx(0.15)
    assert effect["test_error"] == pytest.approx(0.1)
    assert record["differing"] == {"seed": {"a": 0, "b": 0, "c": 3}}
    page = (tmp_path / "degradation" / "index.html").read_text()
    assert "The runs differ in more than the network" in page
    assert "resnet20 is not finished" in page


def test_a_run_without_test_errors_says_so_in_the_table(tmp_path: Path) -> None:
    write_run(tmp_path / "resnet20", "resnet20", [(0.25, None)])

    table = markdown(results(read_runs(tmp_path)))

    assert "| resnet20 | 1 | 25.00% | not recorded |" in table


def test_two_runs_of_a_network_are_named_by_their_folders(tmp_path: Path) -> None:
    write_run(tmp_path / "first", "plain20", [(0.2, 0.3)])
    write_run(tmp_path / "second", "plain20", [(0.3, 0.4)], seed=1)

    assert [network["name"] for network in results(read_runs(tmp_path))["networks"]] == [
        "first",
        "second",
    ]


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run with a whole epoch"):
        read_runs(tmp_path)
