"""Settings from the environment: an invalid one stops the start and is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.server import usable_settings
from service.settings import Settings, SettingsError, settings_table
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
        ("log_format", "xml"),
        ("metrics_classes", "-1"),
        ("models_dir", "/nowhere/models"),
        ("compiled_dir", "/proc/compiled"),
        ("cors_origins", "example.org"),
        ("cors_origins", "https://example.org/"),
        ("cors_origins", "https://example.org,*"),
        ("trusted_proxies", "10.0.0.0/8,proxy.example"),
        ("sandbox", "on"),
        ("worker_memory_mb", "100"),
        ("signers", "/nowhere/keys"),
        ("root_path", "classifier/"),
        ("root_path", "/predict/v1"),
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


def test_the_form_of_a_value_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_VERSIONS", "newest")

    with pytest.raises(SettingsError, match="SERVICE_VERSIONS: expected: Versions of") as wrong:
        usable_settings()

    assert "\\d" not in str(wrong.value)


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


def test_the_address_that_kubernetes_injects_as_port_and_host_is_not_taken_for_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SERVICE_PORT", "SERVICE_HOST", "SERVICE_GRPC_PORT"):
        monkeypatch.setenv(name, "tcp://10.1.2.3:8000")

    settings = Settings()

    assert (settings.host, settings.port, settings.grpc_port) == ("127.0.0.1", 8000, None)


def test_the_command_prints_the_values_in_force_and_what_is_ignored() -> None:
    command = [sys.executable, "-m", "service", "settings"]

    def run(**settings: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=environment(**settings), capture_output=True, text=True, check=False
        )

    done, refused = run(port=9000, prot=1), run(port="http")

    assert "| `SERVICE_PORT` | `8000` | `9000` | Port to listen on. |" in done.stdout
    assert "SERVICE_PROT is not a setting" in done.stderr
    assert refused.returncode == 1
    assert "SERVICE_PORT: " in refused.stderr


def test_settings_are_immutable() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1


def test_every_setting_has_a_line_of_help() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    assert settings_table().count("\n") == len(Settings.model_fields) + 1
