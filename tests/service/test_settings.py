"""Settings from the environment: an invalid one stops the start and is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.server import usable_settings
from service.settings import Settings, SettingsError, settings_table
from tests.service.conftest import refused_start


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
        ("cors_origins", "example.org"),
        ("cors_origins", "https://example.org/"),
        ("cors_origins", "https://example.org,*"),
    ],
)
def test_an_invalid_setting_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    for variable, content in {"models_dir": str(tmp_path), name: value}.items():
        monkeypatch.setenv(f"SERVICE_{variable.upper()}", content)

    with pytest.raises(SettingsError) as refused:
        usable_settings()

    assert f"SERVICE_{name.upper()}" in str(refused.value)
    assert value in str(refused.value)


@pytest.mark.parametrize(
    ("value", "origins"),
    [
        ("*", ("*",)),
        (
            "https://a.example.org, http://[::1]:3000",
            ("https://a.example.org", "http://[::1]:3000"),
        ),
        ("", None),
    ],
)
def test_origins_are_separated_by_commas(
    monkeypatch: pytest.MonkeyPatch, value: str, origins: tuple[str, ...] | None
) -> None:
    monkeypatch.setenv("SERVICE_CORS_ORIGINS", value)

    assert Settings().cors_origins == origins


def test_an_unknown_setting_stops_the_start_with_one_line_that_names_it(tmp_path: Path) -> None:
    line = refused_start(models_dir=tmp_path, modles_dir="models")
    assert "Received: SERVICE_MODLES_DIR" in line
    assert "SERVICE_MODELS_DIR" in line


def test_settings_are_immutable() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1


def test_every_setting_has_a_line_of_help() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    assert settings_table().count("\n") == len(Settings.model_fields) + 1
