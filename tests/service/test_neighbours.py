"""Variables with our prefix that other programs set, or that nobody knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.neighbours import warnings
from tests.service.conftest import serving
from tests.service.images import coloured

OURS = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_MODELS_DIR", "SERVICE_LOG_LEVEL")
INJECTED = {
    # Kubernetes, for Services that are called `service` and `service-page`
    "SERVICE_SERVICE_HOST": "10.1.2.3",
    "SERVICE_SERVICE_PORT": "8000",
    "SERVICE_SERVICE_PORT_HTTP": "8000",
    "SERVICE_PORT_8000_TCP": "tcp://10.1.2.3:8000",
    "SERVICE_PORT_8000_TCP_PROTO": "tcp",
    "SERVICE_PORT_8000_TCP_PORT": "8000",
    "SERVICE_PORT_8000_TCP_ADDR": "10.1.2.3",
    "SERVICE_PAGE_PORT": "tcp://10.1.2.4:80",
    "SERVICE_PAGE_SERVICE_HOST": "10.1.2.4",
    "SERVICE_PAGE_PORT_80_UDP": "udp://10.1.2.4:80",
    # links of Docker
    "SERVICE_NAME": "/page/service",
    "SERVICE_ENV_PYTHON_VERSION": "3.11",
    # Consul's Registrator
    "SERVICE_TAGS": "blue",
    "SERVICE_8000_NAME": "classifier",
    "SERVICE_CHECK_HTTP": "/readyz",
    # Coolify
    "SERVICE_FQDN_CLASSIFIER": "classifier.example",
    "SERVICE_URL_CLASSIFIER_8000": "https://classifier.example",
    "SERVICE_USER_ADMIN": "a",
    "SERVICE_PASSWORD_ADMIN": "secret",
    "SERVICE_BASE64_64_KEY": "secret",
}


@pytest.mark.parametrize("name", INJECTED)
def test_what_platforms_inject_is_ignored_without_a_word(name: str) -> None:
    assert warnings({name: INJECTED[name]}, OURS) == []


def test_our_own_names_and_that_of_the_page_are_known() -> None:
    names = (*OURS, "SERVICE_URL", "HOME", "SERVICES")

    assert warnings(dict.fromkeys(names, ""), OURS) == []


def test_a_misspelling_is_named_with_the_nearest_setting_and_without_its_value() -> None:
    misspelt, odd = warnings({"SERVICE_MODLES_DIR": "secret", "SERVICE_XYZ": "secret"}, OURS)

    assert "SERVICE_MODLES_DIR is not a setting, and is ignored" in misspelt
    assert "Did you mean SERVICE_MODELS_DIR?" in misspelt
    assert "SERVICE_XYZ is not a setting" in odd
    assert "Did you mean" not in odd
    assert "secret" not in misspelt + odd


def test_a_service_starts_among_all_of_them_and_warns_of_the_misspelling_only(
    quick_root: Path,
) -> None:
    injected = {name.removeprefix("SERVICE_").lower(): value for name, value in INJECTED.items()}
    settings: dict[str, Any] = {"log_levle": "debug", **injected}

    with serving(models_dir=quick_root, **settings) as server:
        assert server.predict(coloured()).status_code == 200

        (line,) = [line for line in server.log().splitlines() if " WARNING " in line]
        assert "SERVICE_LOG_LEVLE" in line
        assert "SERVICE_LOG_LEVEL?" in line
