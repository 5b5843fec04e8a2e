"""The import arrows between packages and between the rooms of a package.

They are read from the syntax tree of every file, imports inside functions included: what a package
and a room may import, and that each third-party import is declared in pyproject.toml, in the extras
that the package is installed with.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from tests.sources import ROOT, files, imports

MAX_LINES = 300  # of a file
MAX_FILES = 14  # of a package folder, its __init__.py not counted

SCRIPTS = {
    *("ports", "children", "waiting", "environment", "engine"),
    *("container_checks", "container_client", "container_life"),
}

# package: (our packages that it may import, the extras it is installed with)
RULES: dict[str, tuple[set[str], set[str]]] = {
    "bundle": (set(), {"torch", "tensorflow", "openvino", "accelerate", "import", "signing"}),
    "service": ({"bundle"}, {"service", "grpc", "otel", "remote"}),
    "training": ({"bundle"}, {"training", "torch", "tensorflow"}),
    "frontend": (set(), {"frontend", "otel"}),
    "classify": ({"bundle"}, {"classify"}),
    "deploy": ({"bundle", "service"}, {"dev", "ray", "service"}),
    "scripts": (SCRIPTS, set()),
    "benchmarks": (
        {"bundle", "environment"},
        {"service", "training", "torch", "tensorflow", "openvino", "frontend", "dev"},
    ),
}

# Rooms (sub-packages and top-level modules), and the rooms of the same package that each imports.
# A room imports only rooms in rows above its own, so there is no circle.
ROOMS: dict[str, dict[str, set[str]]] = {
    "bundle": {
        "errors": set(),
        "machine": set(),
        "batches": set(),
        "files": set(),
        "sandbox": set(),
        "report": {"errors"},
        "normalisation": set(),
        "format": {"errors", "files"},
        "scores": {"format"},
        "certainty": {"format", "scores"},
        "imaging": {"errors", "format"},
        "runtimes": {"errors", "machine", "format"},
        "signing": {"errors", "report", "format"},
        "worker": {
            *("errors", "machine", "scores", "batches", "sandbox", "format", "imaging"),
            *("runtimes", "signing"),
        },
        "acceleration": {
            *("errors", "machine", "scores", "format", "imaging", "runtimes", "worker"),
        },
        "evaluation": {
            *("errors", "report", "scores", "certainty", "format", "imaging", "worker"),
            "acceleration",
        },
        "importing": {
            *("errors", "normalisation", "format", "runtimes", "worker", "acceleration"),
            *("evaluation", "machine"),
        },
        "cli": {
            *("errors", "report", "format", "signing", "worker", "acceleration", "evaluation"),
            "importing",
        },
        "__main__": {"cli"},
    },
    "service": {
        "neighbours": set(),
        "options": {"neighbours"},
        "settings": {"neighbours", "options"},
        "errors": set(),
        "polling": set(),
        "network": {"settings", "polling"},
        "access": {"options", "settings", "errors", "polling", "network"},
        "traffic": {"settings"},
        "model_settings": {"settings", "traffic"},
        "decoding": {"errors", "settings", "access"},
        "models": {"errors", "settings", "access"},
        "repository": {"errors", "settings", "traffic", "model_settings", "models"},
        "remote": {"options", "settings", "traffic", "model_settings", "models", "repository"},
        "classifier": {"errors", "decoding", "models"},
        "cache": {"models", "classifier"},
        "monitoring": {"errors", "settings", "access", "decoding", "models", "repository", "cache"},
        "api": {"errors", "access", "traffic", "models", "classifier", "monitoring"},
        "analysis": {"errors", "models", "repository", "api"},
        "protocols": {"errors", "access", "models", "repository", "monitoring", "api"},
        "rpc": {
            *("errors", "settings", "network", "access", "models", "monitoring", "api"),
            "protocols",
        },
        "app": {
            *("settings", "access", "decoding", "models", "repository", "classifier", "cache"),
            *("monitoring", "analysis", "api", "network", "protocols", "rpc", "remote"),
        },
        "server": {
            *("options", "settings", "access", "model_settings", "monitoring", "network", "api"),
            *("rpc", "app"),
        },
        "__main__": {"settings", "access", "server"},
    },
    "training": {
        "errors": set(),
        "progress": set(),
        "events": set(),
        "frameworks": set(),
        "recipes": set(),
        "config": {"errors", "frameworks", "recipes"},
        "schedule": {"config"},
        "weights": {"errors", "frameworks", "config"},
        "data": {"errors", "config", "schedule", "weights"},
        "backend": {"config", "weights"},
        "torch": {"errors", "config", "schedule", "weights", "backend"},
        "keras": {"errors", "config", "schedule", "weights", "backend"},
        "probe": {"errors", "backend", "data"},
        "run": {"errors", "config", "data"},
        "loop": {
            *("errors", "progress", "events", "config", "schedule", "data", "backend", "probe"),
            "run",
        },
        "choose": {"errors", "config", "data"},
        "export": {"errors", "frameworks", "config", "data", "weights", "backend", "run", "loop"},
        "reports": {"errors", "progress", "config", "data", "run"},
        "commands": {
            *("errors", "frameworks", "recipes", "config", "choose", "data", "weights", "backend"),
            "torch",
            *("keras", "run", "loop", "export", "reports"),
        },
        "__main__": {"errors", "commands"},
    },
    "frontend": {
        **{name: set() for name in ("components", "metrics", "preview", "responses", "samples")},
        **{name: set() for name in ("settings", "tracing", "words")},
        "cards": {"responses"},
        "choice": {"samples"},
        "errors": {"responses"},
        "image": {"responses", "words"},
        "client": {"cards", "errors", "responses"},
        "messages": {"errors", "words"},
        "visit": {"cards", "client", "errors", "messages", "responses", "words"},
        "views": {
            *("cards", "choice", "client", "components", "errors", "image", "messages", "metrics"),
            *("preview", "responses", "samples", "visit", "words"),
        },
        "app": {
            *("choice", "client", "components", "samples", "settings", "tracing", "views", "visit"),
            "words",
        },
    },
    "classify": {
        **{name: set() for name in ("answers", "errors", "files")},
        "local": {"answers", "errors"},
        "service": {"answers", "errors"},
        "command": {"answers", "errors", "files", "local", "service"},
        "__main__": {"command"},
    },
}


def third_party(package: str) -> dict[str, set[Path]]:
    ours = {"", *RULES, *SCRIPTS}
    found: dict[str, set[Path]] = {}
    for path in files(package):
        for name in {name.split(".")[0] for name, _ in imports(path)}:
            if name not in sys.stdlib_module_names and name not in ours:
                found.setdefault(name, set()).add(path.relative_to(ROOT))
    return found


def room_of(module: str) -> str:
    """The room of a dotted name: `service.api.routes.router` is in `api`."""
    return module.split(".")[1]


def arrows(package: str) -> dict[str, set[str]]:
    """For each room of `package` the other rooms of it that it imports."""
    found: dict[str, set[str]] = {}
    for path in files(package):
        room = path.relative_to(ROOT / package).with_suffix("").parts[0]
        if room != "__init__":
            imported = {
                room_of(name) for name, _ in imports(path) if name.startswith(f"{package}.")
            }
            found.setdefault(room, set()).update(imported - {room})
    return found


def declared(extras: set[str]) -> set[str]:
    """The distributions that an installation with these extras asks for by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + [
        line for extra in extras for line in project["optional-dependencies"][extra]
    ]
    return {normalised(re.split(r"[^A-Za-z0-9._-]", line)[0]) for line in lines}


def normalised(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


@pytest.mark.parametrize("package", RULES)
def test_packages_import_each_other_only_along_the_arrows(package: str) -> None:
    allowed = {package} | RULES[package][0]
    ours = set(RULES) | {"tests"}

    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(package)
        for name, _ in imports(path)
        if (top := name.split(".")[0]) not in allowed and top in {*ours, ""}
    }

    assert not wrong


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_exactly_what_the_table_says(package: str) -> None:
    assert arrows(package) == ROOMS[package]


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_only_rooms_above_them_in_the_table(package: str) -> None:
    rooms = list(ROOMS[package])

    assert [
        f"{room} imports {other}"
        for room, imported in ROOMS[package].items()
        for other in imported
        if rooms.index(other) >= rooms.index(room)
    ] == []


def test_no_file_and_no_folder_is_too_large() -> None:
    paths = [path for package in [*RULES, "tests"] for path in files(package)]
    folders = Counter(path.parent.relative_to(ROOT).as_posix() for path in paths)

    long = [
        path.relative_to(ROOT).as_posix()
        for path in paths
        if len(path.read_text().splitlines()) > MAX_LINES
    ]

    assert long == []
    assert [folder for folder, count in folders.items() if count > MAX_FILES + 1] == []


@pytest.mark.parametrize("package", RULES)
def test_third_party_imports_are_declared_in_the_extras_of_the_package(package: str) -> None:
    distributions = importlib.metadata.packages_distributions()
    allowed = declared(RULES[package][1])

    undeclared = {
        name: sorted(map(str, paths))
        for name, paths in third_party(package).items()
        if not allowed
        & {normalised(distribution) for distribution in distributions.get(name, [name])}
    }

    assert not undeclared
