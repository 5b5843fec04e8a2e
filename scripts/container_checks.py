"""What `make containers` finds in the images and the running containers, one function per promise.

Each returns what it found, or raises `CheckFailed`; its docstring is the line of the report.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from container_client import PAGE, SERVICE, CheckFailed, predict
from engine import ROOT, compose, docker, inside
from waiting import get

NAMES = ("service", "frontend")
MAX_BYTES = 450_000_000
TOOLS = (
    *("sh", "bash", "cat", "apt", "dpkg", "perl", "curl", "pip", "uv"),
    *("gcc", "pytest", "ruff", "mypy", "git", "playwright"),
)


def images_are_small() -> str:
    """Both images are at most 450 MB."""
    sizes = {
        name: int(docker("image", "inspect", "-f", "{{.Size}}", f"resnet-service/{name}").stdout)
        for name in NAMES
    }
    found = ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in sizes.items())
    if max(sizes.values()) > MAX_BYTES:
        raise CheckFailed(found)
    return found


def models_predict() -> str:
    """Every model of the repository classifies a sample image."""
    models = Path(os.environ.get("MODELS_DIR") or ROOT / "models")
    wanted = {path.parent.parent.name for path in models.glob("*/*/manifest.json")}
    found = {}
    for name in (model["name"] for model in json.loads(get(f"{SERVICE}/models"))["models"]):
        best = predict(SERVICE, name)["predictions"][0]
        found[name] = f"{name}: {best['label']} {best['score']:.3f}"
    if wanted - found.keys():
        raise CheckFailed(f"without {', '.join(sorted(wanted - found.keys()))}")
    return ", ".join(found.values())


def page_responds() -> str:
    """The page is healthy and is served."""
    if b"<title>" not in get(PAGE) or get(f"{PAGE}/_stcore/health") != b"ok":
        raise CheckFailed("no page")
    return PAGE


def not_root() -> str:
    """No process in either container runs as root or can become root."""
    for name in NAMES:
        for process in ("1", "self"):
            status = inside(name, f"print(open('/proc/{process}/status').read())")
            fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            if (
                fields["Uid"].split()[0] != "10001"
                or int(fields["CapEff"], 16)
                or fields["NoNewPrivs"] != "1"
            ):
                raise CheckFailed(
                    f"{name}: {fields['Name']} runs as {fields['Uid']}, CapEff {fields['CapEff']}"
                )
    return "uid 10001, no capabilities, no new privileges"


def root_is_read_only() -> str:
    """Only /tmp is writable."""
    for name in NAMES:
        inside(name, "open('/tmp/x', 'w').close()")
        for path in ("/x", "/app/x", "/app/.venv/x", "/usr/local/x", "/etc/x"):
            refuses(name, path)
    return "writes outside /tmp are refused"


def models_are_read_only() -> str:
    """The mounted repository is read-only."""
    refuses("service", "/models/x")
    return "a write to /models is refused"


def refuses(name: str, path: str) -> None:
    """Writing `path` fails because the file system is read-only, not for lack of permission."""
    program = (
        f"import errno, sys\ntry: open({path!r}, 'w')\n"
        "except OSError as e: sys.exit(0 if e.errno == errno.EROFS else 3)\nsys.exit(4)"
    )
    if compose("exec", "-T", name, "python", "-c", program, check=False).returncode:
        raise CheckFailed(f"{name}: {path} is not on a read-only file system")


def no_tools_included() -> str:
    """No shell, installer, compiler, test runner or linter is in the images."""
    program = "import shutil, sys; print(*filter(shutil.which, sys.argv[1:]))"
    modules = ["pip", "setuptools", "ensurepip", "training", "tests", "pytest"]
    for name in NAMES:
        if found := inside(name, program, *TOOLS).split():
            raise CheckFailed(f"{name} has {', '.join(found)}")
        has_none_of(name, *modules)
    return f"no {', '.join(TOOLS)}"


def only_own_extras_installed() -> str:
    """Each image has its own extras only."""
    has_none_of("service", "torch", "tensorflow", "streamlit", "pandas", "frontend")
    has_none_of("frontend", "torch", "tensorflow", "openvino", "fastapi", "bundle", "service")
    return "no torch, tensorflow or streamlit in the service, no framework in the page"


def has_none_of(name: str, *modules: str) -> None:
    """The modules can't be found by Python in a container."""
    program = "import importlib.util as u, sys; print(*filter(u.find_spec, sys.argv[1:]))"
    if found := inside(name, program, *modules).split():
        raise CheckFailed(f"{name} has {', '.join(found)}")


def materials_are_listed() -> str:
    """/app/sbom.cdx.json is CycloneDX and names every distribution in the image."""
    program = (
        "import importlib.metadata as m, json; "
        "print(json.dumps([sorted((d.name.lower().replace('_', '-').replace('.', '-'), d.version) "
        "for d in m.distributions()), json.load(open('/app/sbom.cdx.json'))]))"
    )
    counts = []
    for name in NAMES:
        installed, bom = json.loads(inside(name, program))
        listed = {
            (c["name"].lower().replace("_", "-").replace(".", "-"), c["version"])
            for c in bom["components"]
        }
        missing = [each for each in map(tuple, installed) if each not in listed]
        if bom["bomFormat"] != "CycloneDX" or missing or not installed:
            raise CheckFailed(f"{name}: {missing} is not in it")
        counts.append(f"{name} {len(bom['components'])}")
    return f"components: {', '.join(counts)}"
