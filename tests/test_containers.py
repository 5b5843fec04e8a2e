"""Checks of the containers without building them; `make containers` does the rest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import PREFIX, Settings
from tests import env_example
from tests.test_architecture import RULES

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
BAKE = (ROOT / "docker-bake.hcl").read_text()
NAMES = ("service", "frontend")
FRAMEWORKS = {"torch", "tensorflow", "openvino"}
# The frameworks of each image.
TARGETS = {
    "service": {"openvino"},
    "service-torch": {"openvino", "torch"},
    "service-tensorflow": {"openvino", "tensorflow"},
    "service-gpu": FRAMEWORKS,
    "frontend": set[str](),
    "training": FRAMEWORKS,
}


class ComposeLoader(yaml.SafeLoader):
    """Reads the tag `!reset` of compose as the value that it resets to."""


def reset(loader: ComposeLoader, node: yaml.Node) -> list[Any]:
    assert isinstance(node, yaml.SequenceNode)
    return loader.construct_sequence(node)


ComposeLoader.add_constructor("!reset", reset)


def compose_file(name: str) -> dict[str, Any]:
    text = (ROOT / name).read_text()
    services: dict[str, Any] = yaml.load(text, ComposeLoader)["services"]  # noqa: S506 - a safe one
    return services


COMPOSE = compose_file("docker-compose.yml")
ON_TOP = sorted((ROOT / "docker").glob("compose.*.yml"))


def stages() -> dict[str, str]:
    """The text of each stage of the Dockerfile by its name."""
    found = re.split(r"^FROM \S+ AS (\S+)\n", DOCKERFILE, flags=re.MULTILINE)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


def test_compose_passes_all_settings_of_the_service_and_no_others() -> None:
    passed = COMPOSE["service"]["environment"]
    given = {name: value for name, value in passed.items() if value is not None}
    # Engines take a variable without a value out of the image's own.
    assert given == {"SERVICE_MODELS_DIR": "${SERVICE_MODELS_DIR:-/models}"}

    assert {name for name in passed if name.startswith(PREFIX)} == {
        *given,
        *(PREFIX + name.upper() for name in Settings.model_fields if name not in env_example.FIXED),
    }


def test_compose_passes_the_same_variables_of_traces_to_the_service_and_the_page() -> None:
    passed = [
        {variable for variable in COMPOSE[name]["environment"] if variable.startswith("OTEL_")}
        for name in NAMES
    ]

    assert passed[0] == passed[1] >= {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER"}


def test_the_example_of_env_has_every_variable_of_the_compose_files_with_its_help() -> None:
    files = [ROOT / "docker-compose.yml", *ON_TOP]
    text = "\n".join(line for f in files for line in f.read_text().splitlines())
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    for service in COMPOSE.values():
        environment = service.get("environment", {})
        used |= {name for name, value in environment.items() if value is None}

    example = (ROOT / ".env.example").read_text()
    entries = re.findall(r"((?:^# .+\n)+)^#(\w+)=(.*)$", example, re.MULTILINE)

    assert example == env_example.content(), "python -m tests.readme"
    assert {name for _, name, _ in entries} == used
    assert len(entries) == len(used)


@pytest.mark.parametrize("name", sorted({*env_example.COMPOSE, *env_example.PROFILES}))
def test_the_example_of_env_has_the_defaults_of_the_compose_files(name: str) -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "docker-compose.yml", *ON_TOP))
    default = (env_example.COMPOSE | env_example.PROFILES)[name][0]

    assert set(re.findall(rf"\$\{{{name}:-([^}}]*)\}}", text)) == ({default} if default else set())


@pytest.mark.parametrize("name", TARGETS)
def test_each_image_installs_its_own_extras_only(name: str) -> None:
    installed = re.search(
        r"^RUN .*install\.sh (yes|no) (\S+)$", stages()[f"build-{name}"], re.MULTILINE
    )

    assert installed is not None
    package = name.partition("-")[0]
    wanted = set(RULES[package][1])
    for imported in RULES[package][0]:
        wanted |= RULES[imported][1]
    # A container of the service makes no bundles.
    wanted -= FRAMEWORKS | (set() if name == "training" else {"accelerate", "import"})
    # The libraries of stores are for images of one's own.
    wanted -= {"remote"}
    assert set(installed[2].split(",")) == wanted | TARGETS[name]
    assert (installed[1] == "yes") == (name == "service-gpu")


@pytest.mark.parametrize("name", TARGETS)
def test_each_image_has_its_own_packages_only(name: str) -> None:
    text = stages()[name]
    copied = set(re.findall(r"^COPY --from=code /app/(\S+)", text, re.MULTILINE))
    package = name.partition("-")[0]

    assert copied == {package, *RULES[package][0]}
    assert f'"/mnt/probe.py", "{name}"]' in text
    assert set(re.findall(rf"^COPY --from=build-{name} /app/(\S+)", text, re.MULTILINE)) == {
        *(".venv", "sbom.cdx.json"),
    }


def test_the_default_image_is_the_service() -> None:
    assert list(stages())[-1] == "service"


def test_the_bake_file_has_every_image_for_both_platforms() -> None:
    lists = [re.findall(r'"([\w/-]+)"', found) for found in re.findall(r"= \[([^]]*)\]", BAKE)]

    assert sum(names == list(TARGETS) for names in lists) == 2
    assert ["linux/amd64", "linux/arm64"] in lists


@pytest.mark.parametrize("name", TARGETS)
def test_each_image_says_what_it_is(name: str) -> None:
    labels = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", stages()[name]))

    assert labels == {"title", "licenses", "version", "revision"}


@pytest.mark.parametrize("name", [*NAMES, "training"])
def test_each_container_is_hardened(name: str) -> None:
    service = COMPOSE[name]

    assert service["read_only"] is True
    assert service["init"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"pids_limit", "tmpfs"} <= set(service)
    assert service["build"]["dockerfile"] == "docker/Dockerfile"
    if name != "training":
        assert service["ports"][0].startswith("${BIND_HOST:-127.0.0.1}:")
        assert "mem_limit" in service
        assert "HEALTHCHECK" in stages()["serving" if name == "service" else name]


def test_no_image_runs_as_root() -> None:
    users = {
        name: re.findall(r"^USER (.+)$", text, re.MULTILINE) for name, text in stages().items()
    }

    assert {name: found for name, found in users.items() if found} == {"root": ["10001:10001"]}
    bases = {name: base for base, name in re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.M)}
    assert bases["serving"] == "root"
    for name in TARGETS:
        assert bases[name] in ("root", "serving")


def test_the_dockerfile_names_no_registry_index_or_frontend() -> None:
    names = set(stages()) | {"scratch", "${BASE_IMAGE}", "models-${MODELS}"}

    assert "# syntax" not in DOCKERFILE
    assert not re.search(r"@sha256:[0-9a-f]", DOCKERFILE)
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) <= names
    assert not re.search(r"https?://(?!127\.0\.0\.1)", DOCKERFILE)


def test_the_models_are_mounted_read_only_and_the_page_waits_for_the_service() -> None:
    models, compiled = COMPOSE["service"]["volumes"]
    assert models == "${MODELS_DIR:-./models}:/models:ro"
    assert compiled == "compiled:/compiled"
    assert COMPOSE["frontend"]["depends_on"] == {"service": {"condition": "service_healthy"}}


def test_the_service_has_longer_to_stop_than_it_drains() -> None:
    grace = int(COMPOSE["service"]["stop_grace_period"].removesuffix("s"))
    proxied = compose_file("docker/compose.proxy.yml")["service"]["environment"]
    behind_proxy = int(re.sub(r"\D", "", proxied["SERVICE_DRAIN_DELAY_S"].partition(":-")[2]))

    drain = Settings.model_fields["drain_timeout_s"].default
    assert grace > drain + Settings.model_fields["drain_delay_s"].default
    assert grace > drain + behind_proxy


def test_behind_the_proxy_the_service_has_no_port_of_its_own() -> None:
    proxied = compose_file("docker/compose.proxy.yml")

    assert proxied["service"]["ports"] == []
    assert proxied["proxy"]["ports"] == COMPOSE["service"]["ports"]
    assert proxied["proxy"]["read_only"] is True
    assert proxied["proxy"]["cap_drop"] == ["ALL"]
    config = (ROOT / "deploy/haproxy/compose.cfg").read_text()
    assert "http-check expect status 200" in config
    assert "option httpchk GET /readyz" in config
