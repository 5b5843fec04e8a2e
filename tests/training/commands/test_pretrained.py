"""`python -m training pretrained`, with a local server and random weights for torchvision's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bundle.cli import app
from bundle.format.manifest import read_manifest
from tests.training.conftest import Start, WarmOf, run_command
from tests.training.weights.weights_server import WeightsServer, serve_weights

STAND_IN = """
import sys, torch, torchvision
torch.manual_seed(0)
torch.save(torchvision.models.resnet18(weights=None).state_dict(), sys.argv[1])
"""


@pytest.fixture
def server(warm: WarmOf, tmp_path: Path) -> Iterator[WeightsServer]:
    file = tmp_path / "stand-in.pth"
    assert warm("torch").start(STAND_IN, file).end().returncode == 0
    with serve_weights(file.read_bytes()) as server:
        yield server


def test_one_command_makes_a_photo_classifier_even_after_a_download_that_was_cut(
    server: WeightsServer, start: Start, tmp_path: Path
) -> None:
    name = f"resnet18-{hashlib.sha256(server.content).hexdigest()[:8]}.pth"
    server.cut = [1_000_000]
    command: tuple[str | Path, ...] = ("pretrained", "--arch", "resnet18", "--threads", "1")
    command = (*command, "--out", tmp_path / "models", "--weights", server.url + name)
    variables = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "no_proxy": "127.0.0.1"}

    cut = start(*command, **variables).end()
    done = run_command(*command, **variables)

    assert cut.returncode == 1
    assert "The downloaded file is cut" in cut.stderr
    assert "Traceback" not in cut.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not the published weights" in done.stdout
    assert server.requests == 2
    bundle = tmp_path / "models" / "imagenet-resnet18-pytorch" / "1"
    check = CliRunner().invoke(app, ["check", str(bundle)])
    assert check.exit_code == 0, check.output
    manifest = read_manifest(bundle)
    config: Any = manifest.trained.config
    assert (len(manifest.labels), manifest.labels[0], manifest.labels[999]) == (
        1000,
        "tench",
        "toilet tissue",
    )
    assert (manifest.input.resize.size, manifest.input.height) == (256, 224)  # type: ignore[union-attr]
    assert (manifest.metrics, manifest.calibration.method) == ([], "none")
    assert config["published"] is None
    assert config["initial"]["file"] == name
    assert manifest.architecture.parameters == 11_689_512


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--arch", "resnet20"), "has ImageNet weights for resnet18"),
        (("--weights", "none.pth"), "no such file. Received: 'none.pth'"),
    ],
    ids=["network", "file"],
)
def test_a_wrong_option_is_an_error_without_a_traceback(
    options: tuple[str, ...], text: str, start: Start, tmp_path: Path
) -> None:
    done = start("pretrained", *options, "--out", tmp_path, XDG_CACHE_HOME=tmp_path).end()

    assert done.returncode == 1
    assert text in done.stderr
    assert "Traceback" not in done.stderr
