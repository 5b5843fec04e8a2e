"""The arrows between the packages (docs: README, "The tree"), held twice.

Statically, from the syntax tree of every file, imports inside functions included: which of our packages a package may
import, and that each third-party import is declared in pyproject.toml, in the extras that the package is installed
with. Dynamically, in a fresh interpreter: what importing a package really loads (for training/ in
tests/training/test_twins.py).
"""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# package: (our packages that it may import, the extras it is installed with)
RULES: dict[str, tuple[set[str], set[str]]] = {
    "bundle": (set(), {"torch", "tensorflow", "openvino", "accelerate"}),
    "service": ({"bundle"}, {"service"}),
    "training": ({"bundle"}, {"training", "torch", "tensorflow"}),
    "frontend": (set(), {"frontend"}),
    "scripts": ({"ports", "children", "waiting"}, set()),
}

# The only files that may import a framework, and whether only inside the function that needs it.
FRAMEWORKS = {"torch", "torchvision", "tensorflow", "keras", "openvino", "nncf"}
FRAMEWORK_FILES = {
    "bundle/runtimes/torchscript.py": ({"torch"}, "inside functions"),
    "bundle/runtimes/savedmodel.py": ({"tensorflow"}, "inside functions"),
    "bundle/runtimes/openvino.py": ({"openvino"}, "inside functions"),
    "bundle/acceleration/convert.py": ({"torch", "tensorflow"}, "inside functions"),
    "bundle/acceleration/quantize.py": ({"nncf"}, "inside functions"),
    "training/torch/trainer.py": ({"torch"}, "anywhere"),
    "training/torch/devices.py": ({"torch"}, "anywhere"),
    "training/torch/networks.py": ({"torch", "torchvision"}, "anywhere"),
    "training/torch/weights.py": ({"torch", "torchvision"}, "anywhere"),
    "training/keras/trainer.py": ({"tensorflow", "keras"}, "anywhere"),
    "training/keras/devices.py": ({"tensorflow", "keras"}, "anywhere"),
    "training/keras/networks.py": ({"tensorflow", "keras"}, "anywhere"),
    "training/keras/weights.py": ({"tensorflow", "keras"}, "anywhere"),
    "training/export/calibration.py": ({"torch"}, "inside functions"),
    "training/data/load.py": ({"torchvision"}, "inside functions"),
    "training/weights/published.py": ({"torchvision"}, "inside functions"),
}


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """The top-level name of each import and whether it happens when the file is imported."""
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
            names = ["." if node.level else node.module or ""]
        for name in names:
            yield name.split(".")[0], id(node) not in late | typing_only


def third_party(package: str) -> dict[str, set[Path]]:
    ours = set(RULES) | RULES["scripts"][0]
    found: dict[str, set[Path]] = {}
    for path in files(package):
        for name, _ in imports(path):
            if name not in sys.stdlib_module_names and name not in ours:
                found.setdefault(name, set()).add(path.relative_to(ROOT))
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
    program = f"import json, sys\nfor name in {names!r}: __import__(name)\nprint(json.dumps(sorted(sys.modules)))"
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
        if (name in ours and name not in allowed) or name == "."
    }

    assert not wrong


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


@pytest.mark.parametrize("package", RULES)
def test_frameworks_are_imported_in_their_own_files_only(package: str) -> None:
    wrong = []
    for path in files(package):
        name = path.relative_to(ROOT).as_posix()
        allowed, where = FRAMEWORK_FILES.get(name, (set(), ""))
        for module, at_import in imports(path):
            if module in FRAMEWORKS and (
                module not in allowed or (at_import and where == "inside functions")
            ):
                wrong.append(f"{name} imports {module}")

    assert not wrong


def test_the_list_of_framework_files_holds_no_file_that_is_gone() -> None:
    assert [name for name in FRAMEWORK_FILES if not (ROOT / name).exists()] == []


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
