from __future__ import annotations

from pathlib import Path

import pytest

from frontend.settings import DEFAULT_URL, Settings, SettingsError


@pytest.mark.parametrize(
    "environment", [{}, {"SERVICE_URL": ""}, {"SERVICE_URL": "  "}], ids=["unset", "empty", "blank"]
)
def test_the_default_is_this_machine(environment: dict[str, str]) -> None:
    assert Settings.from_environment(environment).service_url == DEFAULT_URL


@pytest.mark.parametrize(
    "value", ["http://service:8000", "https://models.example/api", "http://[::1]:8000"]
)
def test_a_valid_url_is_used_without_its_trailing_slash(value: str) -> None:
    assert Settings.from_environment({"SERVICE_URL": f" {value}/ "}).service_url == value


def test_visitors_reach_the_service_as_the_page_does_unless_it_is_said() -> None:
    inside = {"SERVICE_URL": "http://service:8000"}
    outside = {**inside, "FRONTEND_PUBLIC_SERVICE_URL": "https://models.example/"}

    assert Settings.from_environment(inside).public_url == "http://service:8000"
    assert Settings.from_environment(outside).public_url == "https://models.example"
    with pytest.raises(SettingsError, match="FRONTEND_PUBLIC_SERVICE_URL must be"):
        Settings.from_environment({"FRONTEND_PUBLIC_SERVICE_URL": "models.example"})


@pytest.mark.parametrize(
    "value",
    [
        "service:8000",
        "ftp://service",
        "http://",
        "http://host:99999",
        "http://host:x",
        "http://ho st",
        "http://h/?a=1",
        "http://h/#a",
        "http://host:0",
        "http://[::1",
    ],
)
def test_an_invalid_url_is_refused_with_the_variable_and_the_value(value: str) -> None:
    with pytest.raises(
        SettingsError, match="SERVICE_URL must be the address of the service"
    ) as refused:
        Settings.from_environment({"SERVICE_URL": value})

    assert str(refused.value).endswith(f"Received: {value!r}")


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment({"SERVICE_URL": "http://me:hunter2@host"})

    assert "hunter2" not in str(refused.value)


def test_the_key_of_the_page_is_optional_and_not_shown() -> None:
    settings = Settings.from_environment({"FRONTEND_API_KEY": " rsk_secret\n"})

    assert settings.api_key == "rsk_secret"
    assert "rsk_secret" not in repr(settings)
    assert Settings.from_environment({"FRONTEND_API_KEY": " "}).api_key is None


@pytest.mark.parametrize("value", ["rsk secret", "secr\x00et", "gehéim secret"])
def test_a_key_that_no_header_can_have_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(SettingsError, match="FRONTEND_API_KEY must be an API key") as refused:
        Settings.from_environment({"FRONTEND_API_KEY": value})

    assert value not in str(refused.value)


def test_the_certificates_of_authorities_are_a_file_that_exists(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    environment = {"REQUESTS_CA_BUNDLE": str(file)}

    with pytest.raises(SettingsError, match="REQUESTS_CA_BUNDLE must be a PEM file"):
        Settings.from_environment(environment)
    file.touch()

    assert Settings.from_environment(environment).ca_bundle == str(file)
    assert Settings.from_environment({}).ca_bundle is None
