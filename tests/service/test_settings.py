"""Settings from the environment: a wrong one stops the start and is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings, settings_table
from tests.service.conftest import environment


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
        ("modles_dir", "models"),
    ],
)
def test_a_wrong_setting_stops_the_start_and_is_named(
    tmp_path: Path, name: str, value: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service"],
        env=environment(**{"models_dir": tmp_path, name: value}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert f"SERVICE_{name.upper()}" in done.stderr
    assert value in done.stderr or name == "modles_dir"
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_settings_can_not_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]


def test_every_setting_has_a_line_of_help() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    assert settings_table().count("\n") == len(Settings.model_fields) + 1
