"""The import arrows between packages and between the rooms of a package, held twice.

Statically, from the syntax tree of every file, imports inside functions included: what a package
and a room may import, and that each third-party import is declared in pyproject.toml, in the extras
that the package is installed with. Dynamically, in a fresh interpreter: what importing a package
really loads (for training/ in tests/training/test_twins.py).
"""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 300  # of a file
MAX_FILES = 14  # of a package folder, its __init__.py not counted

SCRIPTS = {"ports", "children", "waiting", "environment"}

# package: (our packages that it may import, the extras it is installed with)
RULES: dict[str, tuple[set[str], set[str]]] = {
    "bundle": (set(), {"torch", "tensorflow", "openvino", "accelerate"}),
    "service": ({"bundle"}, {"service"}),
    "training": ({"bundle"}, {"training", "torch", "tensorflow"}),
    "frontend": (set(), {"frontend"}),
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
        "scores": set(),
        "batches": set(),
        "files": set(),
        "format": {"errors"},
        "imaging": {"errors", "format"},
        "runtimes": {"errors", "machine", "format"},
        "worker": {"errors", "machine", "scores", "batches", "format", "imaging", "runtimes"},
        "acceleration": {"errors", "machine", "format", "imaging", "runtimes", "worker"},
        "cli": {"errors", "format", "worker", "acceleration"},
        "__main__": {"cli"},
    },
    "service": {
        "settings": set(),
        "errors": set(),
        "decoding": {"errors", "settings"},
        "models": {"errors", "settings"},
        "cache": {"errors", "models"},
        "metrics": {"models", "cache"},
        "api": {"settings", "errors", "decoding", "models", "cache", "metrics"},
        "app": {"settings", "decoding", "models", "cache", "metrics", "api"},
        "server": {"settings", "api", "app"},
        "__main__": {"settings", "server"},
    },
    "training": {
        "errors": set(),
        "progress": set(),
        "events": set(),
        "config": {"errors"},
        "schedule": {"config"},
        "data": {"errors", "config", "schedule"},
        "weights": {"errors", "config"},
        "backend": {"config", "weights"},
        "torch": {"errors", "config", "schedule", "weights", "backend"},
        "keras": {"errors", "config", "schedule", "weights", "backend"},
        "run": {"errors", "config", "data"},
        "loop": {
            *("errors", "progress", "events", "config", "schedule", "data", "backend", "run"),
        },
        "choose": {"errors", "config", "data"},
        "export": {"errors", "config", "data", "weights", "backend", "run", "loop"},
        "reports": {"errors", "progress", "config", "data", "run", "export"},
        "commands": {
            *("errors", "config", "choose", "data", "weights", "backend", "torch", "keras", "run"),
            *("loop", "export", "reports"),
        },
        "__main__": {"errors", "commands"},
    },
}

# The only rooms that may import a framework, and whether only inside the function that needs it.
FRAMEWORKS = {"torch", "torchvision", "tensorflow", "keras", "openvino", "nncf"}
FRAMEWORK_ROOMS = {
    "bundle/runtimes": ({"torch", "tensorflow", "openvino"}, "inside functions"),
    "bundle/acceleration": ({"torch", "tensorflow", "nncf"}, "inside functions"),
    "training/torch": ({"torch", "torchvision"}, "anywhere"),
    "training/keras": ({"tensorflow", "keras"}, "anywhere"),
    "training/data": ({"torchvision"}, "inside functions"),
    "training/weights": ({"torchvision"}, "inside functions"),
}


def files(package: str) -> list[Path]:
    """The files of a package; those of a peer run in an environment of their own."""
    found = sorted((ROOT / package).rglob("*.py"))
    return [path for path in found if not path.match("benchmarks/peers/*/server.py")]


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """The dotted name of each import and whether it happens when the file is imported."""
    tree = ast.parse(path.read_text())
    functions = [
        n
        for n in ast.walk(tree)
        if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    ]
    late = {id(node) for function in functions for node in ast.walk(function)}
    typing_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test).endswith("TYPE_CHECKING")
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names = [f"{module}.{alias.name}" for alias in node.names]
        for name in names:
            yield name, id(node) not in late | typing_only


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


def modules(package: str) -> list[str]:
    paths = [path.relative_to(ROOT).with_suffix("") for path in files(package)]
    return [
        ".".join(path.parts).removesuffix(".__init__") for path in paths if path.name != "__main__"
    ]


def loaded_by(*names: str) -> set[str]:
    """The top-level modules in a fresh interpreter that has imported `names`."""
    program = (
        f"import json, sys\nfor name in {names!r}: __import__(name)\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return {name.split(".")[0] for name in json.loads(result.stdout.splitlines()[-1])}


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


@pytest.mark.parametrize("package", [package for package in RULES if package != "benchmarks"])
def test_frameworks_are_imported_in_their_own_rooms_only(package: str) -> None:
    wrong = []
    for path in files(package):
        name = path.relative_to(ROOT).as_posix()
        allowed, where = FRAMEWORK_ROOMS.get("/".join(name.split("/")[:2]), (set(), ""))
        for module, at_import in imports(path):
            framework = module.split(".")[0]
            if framework in FRAMEWORKS and (
                framework not in allowed or (at_import and where == "inside functions")
            ):
                wrong.append(f"{name} imports {module}")

    assert not wrong


def test_the_table_of_framework_rooms_holds_no_room_that_needs_none() -> None:
    used = {
        "/".join(path.relative_to(ROOT).parts[:2])
        for package in ROOMS
        for path in files(package)
        for name, _ in imports(path)
        if name.split(".")[0] in FRAMEWORKS
    }

    assert used == set(FRAMEWORK_ROOMS)


def test_importing_the_service_loads_no_framework() -> None:
    loaded = loaded_by("service.app")

    assert not loaded & FRAMEWORKS
    assert not loaded & {"training", "frontend", "streamlit"}


def test_importing_every_module_of_bundle_loads_no_framework_and_nothing_else_of_ours() -> None:
    loaded = loaded_by(*modules("bundle"))

    assert not loaded & FRAMEWORKS
    assert not loaded & {"service", "training", "frontend"}


def test_importing_every_module_of_the_frontend_loads_nothing_else_of_ours() -> None:
    loaded = loaded_by(*modules("frontend"))

    assert not loaded & FRAMEWORKS
    assert not loaded & {"bundle", "service", "training", "fastapi"}
