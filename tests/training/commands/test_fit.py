"""`python -m training fit`: a folder of photos of all kinds, and folders that are broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bundle.format.manifest import read_manifest
from tests.training.conftest import Start, write_images

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / "models/imagenet-resnet50/1"
NOWHERE = "http://127.0.0.1:9"  # a closed port as the proxy: no download succeeds


def fit(
    data: str, folder: Path, *options: str, columns: int = 200, start: Start | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m training fit --data DATA` in `folder`, which gets models/ and runs/.

    `start` saves the import of the framework.
    """
    command = ("fit", "--data", data, "--threads", "1", *options)
    variables = {
        "TORCH_HOME": str(folder / "cache"),
        "COLUMNS": str(columns),
        "https_proxy": NOWHERE,
        "HTTPS_PROXY": NOWHERE,
    }
    if start is not None:
        return start(*command, folder=folder, **variables).end()
    return subprocess.run(
        [sys.executable, "-m", "training", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        timeout=500,
        check=False,
    )


def write_photos(folder: Path, per_class: int = 10) -> Path:
    """Dark and bright images of different sizes, formats and modes, some with an EXIF rotation."""
    generator = np.random.default_rng(0)
    modes = ("RGB", "L", "P", "RGBA", "CMYK", "LA")
    for name, level in (("bright", 180), ("dark", 70)):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            width, height = generator.integers(70, 240, 2)
            coarse = np.clip(generator.normal(level, 40, (6, 6, 3)), 0, 255).astype(np.uint8)
            mode = modes[i % len(modes)]
            image = Image.fromarray(coarse).resize((width, height)).convert(mode)
            exif = Image.Exif()
            exif[0x0112] = 6 if i % 2 else 1
            suffix = "png" if mode in ("P", "RGBA", "LA") else "jpg"
            if i % 5 == 0 and mode == "RGB":
                suffix = "webp"
            image.save(folder / name / f"{i:02}.{suffix}", exif=exif)
    return folder


def test_a_folder_of_photos_becomes_a_bundle_and_the_same_command_goes_on(
    start: Start, tmp_path: Path
) -> None:
    photos = write_photos(tmp_path / "My photos")
    elsewhere = write_photos(tmp_path / "elsewhere", 1)
    (photos / "dark" / "notes.txt").write_text("no image")
    (photos / "dark" / "old").mkdir()
    shutil.copy(elsewhere / "dark" / "00.webp", photos / "dark" / "old" / "deep.webp")
    (photos / "dark" / "link.webp").symlink_to(elsewhere / "dark" / "00.webp")
    shutil.copy(photos / "dark" / "02.png", photos / "bright" / "wrong.png")
    shutil.copy(photos / "dark" / "02.png", photos / "stray.png")

    done = fit("My photos", tmp_path, "--arch", "resnet20")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for choice in (
        "test split",
        "first weights",
        "network",
        "image size",
        "batch size",
        "epochs",
        "imbalance",
    ):
        assert choice in done.stdout
    for note, file in (
        ("not an image by its suffix", "notes.txt"),
        ("in a sub-folder of a class", "deep.webp"),
        ("in no class folder", "stray.png"),
        ("a link out of", "link.webp"),
        ("under two labels", "wrong.png"),
    ):
        (line,) = (line for line in done.stdout.splitlines() if note in line)
        assert line.startswith("Note: ")
        assert file in line
    (listed,) = tmp_path.glob("runs/my-photos-pytorch-*/duplicates.csv")
    assert f"are listed in {listed.relative_to(tmp_path)}" in done.stdout
    assert "wrong.png" in listed.read_text()
    manifest = read_manifest(tmp_path / "models" / "my-photos-pytorch" / "1")
    metric = manifest.metrics[0]
    config: Any = manifest.trained.config
    assert metric.split == "test"
    assert f"test accuracy {metric.value:.2%} (95 % interval" in done.stdout
    assert (config["arch"], config["image_size"], config["init"]) == ("resnet20", 64, "random")
    assert 1 <= config["kept_epoch"] <= manifest.trained.epochs <= config["epochs"]
    assert "SERVICE_MODELS_DIR=models SERVICE_DEFAULT_MODEL=my-photos-pytorch" in done.stdout

    again = fit("My photos", tmp_path, "--arch", "resnet20", "--epochs", "120", start=start)

    assert again.returncode == 0, again.stdout + again.stderr
    assert "with the choices of its first start" in again.stdout
    assert f"after epoch {manifest.trained.epochs} of 120" in again.stdout
    second = read_manifest(tmp_path / "models" / "my-photos-pytorch" / "2")
    assert second.metrics[0].value == metric.value


def test_photos_alone_start_from_the_weights_that_ship(start: Start, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos")

    done = fit("photos", tmp_path, "--epochs", "1", start=start)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"│ {SHIPPED} " in done.stdout
    manifest = read_manifest(tmp_path / "models" / "photos-pytorch" / "1")
    initial: Any = manifest.trained.config["initial"]
    assert (initial["name"], initial["classifier"]) == ("imagenet-resnet50", "random")
    assert manifest.architecture.name == "resnet50-v1"
    assert manifest.metrics[0].value == 1, "dark and bright are easy for a linear probe"


def test_without_weights_a_notice_says_what_that_costs(start: Start, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos")

    done = fit("photos", tmp_path, "--arch", "resnet18", "--epochs", "1", start=start)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Notice: the network starts from random weights" in done.stdout
    assert "can't be downloaded" in done.stdout


def test_the_announced_images_are_held_out_and_few_test_images_are_noticed(
    start: Start, tmp_path: Path
) -> None:
    write_images(tmp_path / "colours", 8)

    done = fit("colours", tmp_path, "--epochs", "1", "--arch", "resnet20", start=start)

    assert done.returncode == 0, done.stdout + done.stderr
    rows = [[cell.strip() for cell in line.split("│")] for line in done.stdout.splitlines()]
    announced = {row[1]: row[2] for row in rows if len(row) > 2}
    training = read_manifest(tmp_path / "models" / "colours-pytorch" / "1").trained
    assert announced["test split"] == f"{training.test_samples} images"
    assert announced["validation split"] == f"{training.validation_samples} images"
    assert "Notice: there are fewer than 5 test images of 3 of 3 classes" in done.stdout


def empty_class(folder: Path) -> None:
    (folder / "neither").mkdir()


def one_class(folder: Path) -> None:
    shutil.rmtree(folder / "dark")


def three_images(folder: Path) -> None:
    for name in ("dark", "bright"):
        for file in sorted((folder / name).iterdir())[2:]:
            file.unlink()


def nested(folder: Path) -> None:
    shutil.move(folder / "dark", folder / "inner")
    (folder / "dark").mkdir()
    shutil.move(folder / "inner", folder / "dark" / "inner")


def corrupt(folder: Path) -> None:
    whole = (folder / "dark" / "01.jpg").read_bytes()
    (folder / "dark" / "01.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "bright" / "empty.png").touch()


def nothing(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (nothing, "There is no folder 'photos'"),
        (empty_class, "has no image"),
        (one_class, "has one class folder"),
        (three_images, "Received: bright 2, dark 2"),
        (nested, "move them up"),
        (corrupt, "2 of 21 images can't be read; --skip-unreadable leaves such files out."),
    ],
)
def test_a_broken_folder_is_an_error_that_names_the_reason(
    damage: Callable[[Path], None], text: str, start: Start, tmp_path: Path
) -> None:
    damage(write_photos(tmp_path / "photos"))

    done = fit("photos", tmp_path, "--init", "random", start=start)

    assert done.returncode == 1
    assert text in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not list((tmp_path).glob("models/*/*"))


def test_in_a_narrow_window_the_choices_are_wrapped_and_not_cut(
    torch_bundle_root: Path, start: Start, tmp_path: Path
) -> None:
    corrupt(write_photos(tmp_path / "photos"))  # the command fails after the table
    weights = "bundles/one-of-several-with-long-names-that-differ-at-the-end/1"
    shutil.copytree(torch_bundle_root / "tiny-torch" / "1", tmp_path / weights)

    done = fit("photos", tmp_path, "--arch", "resnet20", "--init", weights, columns=80, start=start)

    assert "What was chosen for photos" in done.stdout, done.stderr
    choices = "".join(
        line.split("│")[2].strip() for line in done.stdout.splitlines() if line.startswith("│")
    )
    assert weights in choices
