"""Settings from the environment: an invalid one stops the start and is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings, settings_table
from tests.service.conftest import environment


def refused_start(**settings: object) -> str:
    """The one line that the service prints when it refuses to start."""
    done = subprocess.run(
        [sys.executable, "-m", "service"],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    return line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "http"),
        ("port", "70000"),
        ("device", "tpu"),
        ("max_batch", "0"),
        ("max_image_pixels", "200000000"),
        ("max_aspect_ratio", "inf"),
        ("host", "192.0.2.1"),
        ("decode_timeout_s", "-1"),
        ("default_model", "../up"),
        ("runtime", "OpenVINO int8"),
        ("log_level", "loud"),
        ("models_dir", "/nowhere/models"),
        ("compiled_dir", "/proc/compiled"),
    ],
)
def test_an_invalid_setting_stops_the_start_and_is_named(
    tmp_path: Path, name: str, value: str
) -> None:
    error = refused_start(**{"models_dir": tmp_path, name: value})

    assert f"SERVICE_{name.upper()}" in error
    assert value in error


def test_an_unknown_setting_stops_the_start_and_the_known_ones_are_listed(tmp_path: Path) -> None:
    error = refused_start(models_dir=tmp_path, modles_dir="models")

    assert "Received: SERVICE_MODLES_DIR" in error
    assert "SERVICE_MODELS_DIR" in error


def test_settings_are_immutable() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1


def test_every_setting_has_a_line_of_help() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    assert settings_table().count("\n") == len(Settings.model_fields) + 1
