"""`python -m training transfer` as a user runs it, twice, and its results."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bundle.format.manifest import Manifest, read_manifest
from bundle.format.repository import list_bundles
from tests.training.conftest import SMALL, Start
from training.reports.transfer import Seeded, gain_lines, markdown, results

SEEDS = 2
KINDS = ("source", "transferred", "scratch")


@pytest.fixture(scope="module")
def two_colours(colour_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of the three colours; their test images are training images of the three."""
    root = tmp_path_factory.mktemp("two")
    for split in ("train", "test"):
        for name in ("blue", "red"):
            shutil.copytree(colour_folder / "train" / name, root / split / name)
    return root


def of(folder: Path, kind: str, seed: int = 0) -> Manifest:
    """The newest bundle of a kind."""
    *_, newest = (ref for ref in list_bundles(folder / "models") if ref.name == f"{kind}-{seed}")
    return read_manifest(newest.path)


def test_one_command_trains_both_ways_and_reports_the_gain_and_again_trains_nothing(
    start: Start, colour_folder: Path, two_colours: Path, tmp_path: Path
) -> None:
    data = ("--source", colour_folder, "--target", two_colours, *SMALL, "--train-limit", "40")
    epochs = ("--source-epochs", "1", "--epochs", "1")
    options = (*data, *epochs, "--runs", tmp_path / "r", "--out", tmp_path)

    first = start("transfer", *options, "--seeds", SEEDS).end()

    assert first.returncode == 0, first.stdout + first.stderr
    record = json.loads((tmp_path / "transfer" / "transfer.json").read_text())
    assert [run["seed"] for run in record["runs"]] == [0, 1]
    for run in record["runs"]:
        made = {kind: of(tmp_path / "r", kind, run["seed"]) for kind in KINDS}
        assert {kind: run[kind]["value"] for kind in KINDS} == {
            kind: manifest.metrics[0].value for kind, manifest in made.items()
        }
        assert run["gain"] == run["transferred"]["value"] - run["scratch"]["value"]
        initial = {kind: manifest.trained.config["initial"] for kind, manifest in made.items()}
        assert initial["scratch"] == {"from": "random"}
        assert isinstance(initial["transferred"], dict)
        assert initial["transferred"]["name"] == f"source-{run['seed']}"
        transferred, scratch = made["transferred"].trained, made["scratch"].trained
        for name in ("epochs", "train_samples", "validation_samples", "test_samples", "seed"):
            assert getattr(transferred, name) == getattr(scratch, name)
        assert scratch.train_samples + scratch.validation_samples == 40
    gains, interval = [run["gain"] for run in record["runs"]], record["gain"]["interval_95"]
    assert (interval is None) == (gains[0] == gains[1])
    low, high = interval or gains
    assert low <= record["gain"]["mean"] <= high
    (gain,) = gain_lines(record)
    assert gain in first.stdout
    assert "78 test images of" in first.stdout, (
        "of 80, less two that the source holds out for calibration"
    )
    assert "which flatters the transfer" in first.stdout
    page = (tmp_path / "transfer" / "index.html").read_text()
    assert "<svg" in page
    assert gain in page
    assert (tmp_path / "transfer" / "transfer.md").read_text() == markdown(record)

    again = start("transfer", *options, "--seeds", "1").end()

    assert again.returncode == 0, again.stdout + again.stderr
    assert "epoch" not in again.stdout.replace("epochs", ""), "nothing was left to train"
    record = json.loads((tmp_path / "transfer" / "transfer.json").read_text())
    assert record["gain"]["interval_95"] is None
    assert "(seeds: 1; no interval)" in (tmp_path / "transfer" / "index.html").read_text()
    versions = [ref.version for ref in list_bundles(tmp_path / "r" / "models")]
    assert versions == [1] * SEEDS * len(KINDS)

    other = start("transfer", *options, "--batch-size", "8").end()

    assert other.returncode == 1
    assert "batch_size: 10 there, 8 here" in other.stderr
    assert "Traceback" not in other.stderr


def test_the_three_networks_are_alike_whatever_the_recipes(
    start: Start, colour_folder: Path, two_colours: Path, tmp_path: Path
) -> None:
    """`seed-resnet18` sets its own network and limits, and `transfer` a linear probe."""
    data = ("--source", colour_folder, "--target", two_colours, *SMALL)
    options = (*data, "--seeds", "1", "--epochs", "1")
    recipes = ("--source-recipe", "seed-resnet18", "--scratch-recipe", "transfer")
    place = ("--source-epochs", "1", "--runs", tmp_path / "r", "--out", tmp_path)

    done = start("transfer", *options, *recipes, *place).end()

    assert done.returncode == 0, done.stdout + done.stderr
    made = [of(tmp_path / "r", kind) for kind in KINDS]
    assert {manifest.architecture.name for manifest in made} == {"resnet20"}
    configs = [manifest.trained.config for manifest in made]
    assert [config["train_limit"] for config in configs] == [0, 0, 0]
    assert configs[2]["probe"] is False

    shutil.rmtree(tmp_path / "r" / "runs" / "source-0")
    again = start("transfer", *options, *recipes, *place).end()

    assert again.returncode == 1
    assert "a network has been transferred from it as it was" in again.stderr


def test_a_probe_on_the_weights_of_a_bundle_is_compared_too(
    start: Start, two_colours: Path, tmp_path: Path
) -> None:
    """The network and its input are those of the bundle; the classifier of other labels is not."""
    bundle = Path("models/cifar10-resnet20-pytorch/1")
    options = ("--init", bundle, "--target", two_colours, "--epochs", "2", "--seeds", "1")
    place = ("--threads", "1", "--precision", "fp32", "--runs", tmp_path / "r", "--out", tmp_path)

    done = start("transfer", *options, *place).end()

    assert done.returncode == 0, done.stdout + done.stderr
    made = {kind: of(tmp_path / "r", kind) for kind in ("scratch", "probe", "transferred")}
    (record,) = json.loads((tmp_path / "transfer" / "transfer.json").read_text())["runs"]
    accuracies = {kind: manifest.metrics[0].value for kind, manifest in made.items()}
    assert {kind: record[kind]["value"] for kind in made} == accuracies
    assert record["gain_over_probe"] == accuracies["transferred"] - accuracies["probe"]
    assert {kind: manifest.trained.epochs for kind, manifest in made.items()} == {
        "scratch": 2,
        "probe": 1,
        "transferred": 1,
    }, "fine-tuning goes on where the probe ends"
    initial = {kind: manifest.trained.config["initial"] for kind, manifest in made.items()}
    assert initial["scratch"] == {"from": "random"}
    assert "'classifier': 'random'" in str(initial["probe"])
    assert "'classifier': 'taken over'" in str(initial["transferred"])
    heading, *_ = (tmp_path / "transfer" / "transfer.md").read_text().splitlines()
    assert "| from scratch | linear probe | transferred | gain, points | gain over" in heading
    assert "no interval" in done.stdout


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "Received: neither"),
        (("--source", "somewhere", "--init", "imagenet"), "Received: both"),
        (("--init", "random"), "Received: random"),
        (("--init", "nowhere"), "no such file or folder"),
        (("--init", "models/cifar10-resnet20-pytorch/1", "--epochs", "1"), "at least 2"),
    ],
)
def test_weights_that_cannot_be_compared_are_refused_before_images_are_read(
    options: tuple[str, ...], expected: str, start: Start, tmp_path: Path
) -> None:
    done = start("transfer", "--target", tmp_path / "none", *options, "--out", tmp_path).end()

    assert done.returncode in (1, 2)
    assert expected in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def seeded(seed: int, transferred: float, scratch: float, manifest: Manifest) -> Seeded:
    """The results of a seed: these accuracies in the manifest of a real bundle."""

    def measured(value: float) -> Manifest:
        metric = manifest.metrics[0].model_copy(update={"value": value, "interval_95": (0.0, 1.0)})
        return manifest.model_copy(update={"metrics": [metric]})

    return Seeded(
        seed,
        {"source": manifest, "transferred": measured(transferred), "scratch": measured(scratch)},
    )


def test_the_interval_is_that_of_the_paired_t_test() -> None:
    manifest = read_manifest(Path("models/cifar10-resnet20-pytorch/1"))
    seeds = [(0.80, 0.70), (0.82, 0.70), (0.81, 0.67)]  # gains of 10, 12 and 14 points

    record = results([seeded(seed, *accuracies, manifest) for seed, accuracies in enumerate(seeds)])

    # Two degrees of freedom: t = 4.3027; standard error 2 / sqrt(3) = 1.1547 points.
    assert record["gain"]["mean"] == pytest.approx(0.12)
    assert record["gain"]["interval_95"] == pytest.approx(
        [0.12 - 0.04968, 0.12 + 0.04968], abs=1e-5
    )
    assert gain_lines(record) == ["Gain: +12.00 points (95 % interval +7.03 to +16.97, 3 seeds)"]
    assert "| 1 | 70.00% | 82.00% | +12.00 |" in markdown(record)
