"""Checks of the containers without building them; `make containers` does the rest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import PREFIX, Settings
from tests.test_architecture import RULES

ROOT = Path(__file__).resolve().parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
FIXED = {"host", "port", "models_dir"}  # set in the image; compose maps them to the host
NAMES = ("service", "frontend")


def dockerfile(name: str) -> str:
    return (ROOT / f"docker/{name}.Dockerfile").read_text()


def test_compose_passes_all_settings_of_the_service_and_no_others() -> None:
    passed = COMPOSE["service"]["environment"]
    assert set(passed.values()) == {None}

    assert {name for name in passed if name.startswith(PREFIX)} == {
        PREFIX + name.upper() for name in Settings.model_fields if name not in FIXED
    }


def test_compose_passes_the_same_variables_of_traces_to_the_service_and_the_page() -> None:
    passed = [
        {variable for variable in COMPOSE[name]["environment"] if variable.startswith("OTEL_")}
        for name in NAMES
    ]

    assert passed[0] == passed[1] >= {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER"}


@pytest.mark.parametrize("name", NAMES)
def test_each_image_installs_its_own_extras_only(name: str) -> None:
    installed = re.search(r"^RUN .*install\.sh (\S+)$", dockerfile(name), re.MULTILINE)

    assert installed is not None
    wanted = set(RULES[name][1])
    for imported in RULES[name][0]:
        wanted |= RULES[imported][1]
    # A container serves bundles and makes none; gRPC is for images of one's own.
    wanted -= {"accelerate", "import", "grpc"}
    assert set(installed[1].split(",")) == wanted


@pytest.mark.parametrize("name", NAMES)
def test_each_image_has_its_own_packages_only(name: str) -> None:
    copied = set(re.findall(r"^COPY --from=build /app/(\S+)", dockerfile(name), re.MULTILINE))

    assert copied - {".venv", ".streamlit"} == {name, *RULES[name][0]}


@pytest.mark.parametrize("name", NAMES)
def test_each_container_is_hardened(name: str) -> None:
    service = COMPOSE[name]

    assert service["read_only"] is True
    assert service["init"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["ports"][0].startswith("${BIND_HOST:-127.0.0.1}:")
    assert {"mem_limit", "pids_limit", "tmpfs"} <= set(service)
    assert re.search(r"^USER 10001:10001$", dockerfile(name), re.MULTILINE)
    assert "HEALTHCHECK" in dockerfile(name)


@pytest.mark.parametrize("name", NAMES)
def test_the_dockerfiles_name_no_registry_index_or_frontend(name: str) -> None:
    text = dockerfile(name)

    assert "# syntax" not in text
    assert "@sha256:" not in text
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${BASE_IMAGE}"}
    assert not re.search(r"https?://(?!127\.0\.0\.1)", text)


def test_the_models_are_mounted_read_only_and_the_page_waits_for_the_service() -> None:
    assert all(volume.endswith(":ro") for volume in COMPOSE["service"]["volumes"])
    assert COMPOSE["frontend"]["depends_on"] == {"service": {"condition": "service_healthy"}}


def test_the_service_has_longer_to_stop_than_it_drains() -> None:
    grace = int(COMPOSE["service"]["stop_grace_period"].removesuffix("s"))

    drain = (
        Settings.model_fields["drain_timeout_s"].default
        + Settings.model_fields["drain_delay_s"].default
    )
    assert grace > drain
