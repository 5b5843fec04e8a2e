"""Where the deep learning frameworks are imported, and that importing our packages loads none.

What importing the rooms of training/ loads is in tests/training/test_twins.py.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.sources import ROOT, files, imports

PACKAGES = ("bundle", "service", "training", "frontend", "scripts")

# The only rooms that may import a framework, and whether only inside the function that needs it.
FRAMEWORKS = {"torch", "torchvision", "tensorflow", "keras", "openvino", "nncf"}
FRAMEWORK_ROOMS = {
    "bundle/runtimes": ({"torch", "tensorflow", "openvino"}, "inside functions"),
    "bundle/acceleration": ({"torch", "tensorflow", "nncf"}, "inside functions"),
    "bundle/importing": ({"torch", "torchvision", "tensorflow", "keras"}, "inside functions"),
    "training/torch": ({"torch", "torchvision"}, "anywhere"),
    "training/keras": ({"tensorflow", "keras", "torch"}, "anywhere"),
    "training/data": ({"torchvision"}, "inside functions"),
}


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


@pytest.mark.parametrize("package", PACKAGES)
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
        for package in PACKAGES
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
