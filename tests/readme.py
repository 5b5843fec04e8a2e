"""Generated parts of README.md and docs: `python -m tests.readme` writes them, tests check them.

A part lies between `<!-- NAME -->` and `<!-- /NAME -->`. README.md has the response to its curl
example (from the shipped models, if they are present) and the tree of folders; docs/ has the tree
of files, the settings and the routes. docs/openapi.json and .env.example are generated as a whole.

A line of a tree is the first line of the file's docstring or comment, or of the docstring in the
folder's `__init__.py`. Files and folders without one are described here.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import requests

from service.app import create_app
from service.settings import Settings, settings_table
from tests import env_example
from tests.frontend.servers import serve_models

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
OPENAPI = ROOT / "docs/openapi.json"
ENV_EXAMPLE = ROOT / ".env.example"
SAMPLE = ROOT / "frontend/samples/coffee.jpg"
TOP_K = 2
# Requests for the example; the fastest response is shown: that of a warm service.
REQUESTS = 30

# The folders of the README, in this order; the rooms of the first two follow each of them.
PACKAGES = ("bundle", "service", "training", "frontend", "classify")
WITH_ROOMS = ("bundle", "service")
OTHERS = {
    "models": "The model repository that ships with the project.",
    "docs": "Guides, references, experiments and decisions.",
    "deploy": "What runs the service or stands beside it: Helm, KServe, Ray, Prometheus, Grafana.",
    "tests": "Tests, folder by folder as the packages are; the browser tests.",
    "benchmarks": "Measurements of the service, of its peers and of the machine's limits.",
    "scripts": "The programs behind the make verbs.",
    "docker": "Images, by need.",
}
# Folders that one line of docs/tree.md stands for.
FOLDERS = {
    "benchmarks/peers/": "the peers: servers that do the same work, each with its lock",
    "deploy/helm/resnet-service/templates/": "templates of the chart, an object each",
    "deploy/kubernetes/": "the chart as plain manifests, written by deploy/manifests.py",
    "docs/decisions/": "what was decided and why, numbered",
    "docs/images/": "screenshots and plots",
    "frontend/samples/": "sample images, the program that draws them, and their origin",
    "tests/benchmarks/": "tests of benchmarks/ that need no environment of a peer",
    "tests/browser/": "the page in a real browser, against the real service",
    "tests/bundle/": "tests of bundle/, file by file",
    "tests/deploy/": "the chart and its manifests, by Helm and the schemas of Kubernetes",
    "tests/frontend/": "tests of frontend/, file by file",
    "tests/service/": "tests of service/, file by file",
    "tests/training/": "tests of training/, file by file",
    "training/reports/templates/": "pages of the reports",
}
FILES = {
    "deploy/monitoring/grafana/dashboards/resnet-service.json": "the dashboard",
    ".github/workflows/ci.yml": "runs .ci/run on GitHub",
    ".ci/run": "what CI runs: make check, make test",
    ".dockerignore": "what the image builds may see",
    ".env.example": "every variable of the containers, generated",
    ".editorconfig": "indentation and line endings, for editors",
    ".gitignore": "what git leaves out",
    ".streamlit/config.toml": "settings of the page's server",
    "CHANGELOG.md": "what changed, version by version",
    "CONTRIBUTING.md": "set-up, rooms, glossary, how to add a runtime or a route",
    "LICENSE": "Apache-2.0",
    "Makefile": "the verbs",
    "README.md": "the front page",
    "SECURITY.md": "how to report a vulnerability, and what counts as one",
    "benchmarks/RESULTS.md": "the last run of make bench, with every target",
    "benchmarks/page.md.jinja": "the template of RESULTS.md",
    "benchmarks/results.svg": "the plot of RESULTS.md",
    "deploy/haproxy/compose.cfg": "the containers of the service, as many as there are",
    "deploy/haproxy/haproxy.cfg": "two instances that are replaced in turn",
    "deploy/helm/prometheus-adapter.yaml": "the queue's depth as a metric to scale by",
    "deploy/helm/resnet-service/.helmignore": "what a package of the chart leaves out",
    "deploy/helm/resnet-service/Chart.yaml": "name and version of the chart",
    "deploy/helm/resnet-service/values.schema.json": "what values may be",
    "deploy/helm/resnet-service/values.yaml": "the values, with a line of help each",
    "deploy/kserve/inference-service.yaml": "one model repository, served by that runtime",
    "deploy/kserve/serving-runtime.yaml": "the service as a runtime of KServe",
    "deploy/ray/rayservice.yaml": "the service on KubeRay",
    "deploy/ray/serve.yaml": "the service on Ray Serve",
    "docker-compose.yml": "both containers on one machine",
    "docker-bake.hcl": "all images, for both platforms",
    "docker/Dockerfile": "all images, by target",
    "docker/compose.gpu.yml": "on top of it, for an NVIDIA GPU",
    "docker/compose.proxy.yml": "on top of it, for several containers of the service",
    "docker/compose.tls.yml": "on top of it, for HTTPS",
    "docker/cpu-excludes.txt": "what an image for CPUs leaves out",
    "docker/install.sh": "what an image installs",
    "docker/trim.sh": "what an image does not load",
    "docs/openapi.json": "the OpenAPI document of the service, generated",
    "docs/tour.ipynb": "a notebook: training, transfer, a bundle and the shipped models",
    "pyproject.toml": "dependencies by extra; settings of ruff, mypy and pytest",
    "requirements.lock": "every version that is installed",
}


def tracked() -> list[str]:
    """Files in git's index that exist in the work tree."""
    command = ["git", "-c", "core.quotePath=false", "ls-files"]
    names = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [name for name in names if (ROOT / name).exists()]


def tree(names: list[str]) -> str:
    """The tree of these files: one line per file, per folder in `FOLDERS` and per model version."""
    lines, seen = [], set[str]()
    for path, description in sorted(entries(names), key=lambda entry: order(entry[0])):
        for parent in reversed(PurePosixPath(path).parents[:-1]):
            if str(parent) not in seen:
                seen.add(str(parent))
                lines.append(f"{indent(parent)}{parent.name}/")
        name = PurePosixPath(path).name + ("/" if path.endswith("/") else "")
        lines.append(f"{indent(PurePosixPath(path)) + name:<32}  {description}".rstrip())
    return "\n".join(lines)


def order(path: str) -> tuple[tuple[bool, str], ...]:
    """Files of a folder before its sub-folders, each by name; on top the folders come first."""
    parts = path.rstrip("/").split("/")
    folders = [*[True] * (len(parts) - 1), path.endswith("/")]
    return tuple(
        (folder != (depth == 0), part)
        for depth, (folder, part) in enumerate(zip(folders, parts, strict=True))
    )


def indent(path: PurePosixPath) -> str:
    return "    " * (len(path.parts) - 1)


def entries(names: list[str]) -> Iterator[tuple[str, str]]:
    """(path, description) of each line; a folder in `FOLDERS` comes once instead of its files."""
    folders = {}
    for name in names:
        model = re.match(r"models/[^/]+/\d+/", name)
        folder = (
            model[0]
            if model
            else next((folder for folder in FOLDERS if name.startswith(folder)), None)
        )
        if folder:
            folders[folder] = FOLDERS.get(folder) or describe_model(ROOT / folder)
        else:
            yield name, FILES.get(name) or describe(ROOT / name)
    yield from folders.items()


def folder_tree() -> str:
    """The packages, their rooms and the other folders, one line each."""
    lines = []
    for package in PACKAGES:
        lines.append((f"{package}/", describe(ROOT / package / "__init__.py")))
        rooms = sorted((ROOT / package).glob("*/__init__.py")) if package in WITH_ROOMS else []
        lines += [(f"    {room.parent.name}/", describe(room)) for room in rooms]
    lines += [(f"{name}/", line.rstrip(".")) for name, line in OTHERS.items()]
    return "\n".join(f"{name:<20}{description}" for name, description in lines)


def describe(path: Path) -> str:
    """The first line of a file's docstring, title or comment."""
    text = path.read_text()
    if path.name == "py.typed":
        return "marks the package as typed"
    if path.suffix == ".py":
        first = ast.get_docstring(ast.parse(text)) or (
            "marks the folder as a package" if not text.strip() else ""
        )
    else:
        lines = (line for line in text.splitlines() if line.strip("#! ") and "#!" not in line)
        first = next(lines, "").strip("/*# ")
    return re.sub(r":\w+:`|`", "", first.split("\n")[0]).rstrip(".")


def describe_model(path: Path) -> str:
    return str(json.loads((path / "manifest.json").read_text())["description"]).rstrip(".")


def paths_of(text: str) -> set[str]:
    """The paths that a tree names, without the folders that only hold further lines."""
    found, parents = [], list[str]()
    for line in text.strip("\n").splitlines():
        depth = (len(line) - len(line.lstrip())) // 4
        name = line.split()[0]
        parents[depth:] = [name.rstrip("/")]
        found.append("/".join(parents) + ("/" if name.endswith("/") else ""))
    return {
        path
        for path in found
        if not any(other != path and other.startswith(path) for other in found)
    }


def openapi() -> dict[str, Any]:
    """The OpenAPI document of a service with the default settings and without models."""
    return create_app(Settings.model_construct()).openapi()


def routes_table(document: dict[str, Any]) -> str:
    """The routes of an OpenAPI document as a Markdown table."""
    rows = ["| route | summary | details |", "|---|---|---|"]
    rows += [
        f"| `{method.upper()} {path}` | {route['summary']} | {route['description']} |"
        for path, methods in document["paths"].items()
        for method, route in methods.items()
    ]
    return "\n".join(rows)


def part(name: str, page: Path = README) -> str:
    """The text between the marks of a part, without its code fence."""
    found = re.search(marks(name), page.read_text(), re.DOTALL)
    assert found is not None, f"{page.name} has no part {name}"
    return re.sub(r"^```.*$", "", found[2], flags=re.MULTILINE).strip("\n")


def marks(name: str) -> str:
    return rf"(<!-- {name} -->\n)(.*?)(<!-- /{name} -->)"


@contextmanager
def shipped_models() -> Iterator[str | None]:
    """The URL of a service over the shipped models, or None without them."""
    if not any((ROOT / "models").glob("*/*/manifest.json")):
        yield None
        return
    with tempfile.TemporaryDirectory() as logs, serve_models(ROOT / "models", Path(logs)) as url:
        yield url


def response(url: str) -> dict[str, Any]:
    """The body of the response to the curl example of the README."""
    files = {"file": (SAMPLE.name, SAMPLE.read_bytes(), "image/jpeg")}
    bodies: list[dict[str, Any]] = []
    for _ in range(REQUESTS):
        posted = requests.post(f"{url}/predict?top_k={TOP_K}", files=files, timeout=60)
        posted.raise_for_status()
        bodies.append(posted.json())
    return min(bodies, key=lambda body: body["timing_ms"]["total"])


def compact(body: dict[str, Any]) -> str:
    """JSON with one line for each field, and for each item of a list of objects."""
    fields = []
    for name, value in body.items():
        text = json.dumps(value)
        if isinstance(value, list):
            text = "[\n    " + ",\n    ".join(map(json.dumps, value)) + "\n  ]"
        fields.append(f'  "{name}": {text}')
    return "{\n" + ",\n".join(fields) + "\n}"


def main() -> None:
    document = openapi()
    OPENAPI.write_text(json.dumps(document, indent=1) + "\n")
    ENV_EXAMPLE.write_text(env_example.content())
    write(ROOT / "docs/settings.md", "settings", settings_table())
    write(ROOT / "docs/api.md", "routes", routes_table(document))
    write(ROOT / "docs/tree.md", "tree", f"```text\n{tree(tracked())}\n```")
    write(README, "folders", f"```text\n{folder_tree()}\n```")
    with shipped_models() as url:
        if url is not None:
            write(README, "response", f"```json\n{compact(response(url))}\n```")


def write(page: Path, name: str, content: str) -> None:
    """Replace the part `name` of the page."""
    found = re.compile(marks(name), re.DOTALL)
    text, count = found.subn(lambda m: f"{m[1]}{content}\n{m[3]}", page.read_text())
    assert count == 1, f"{page.name} has {count} parts {name}"
    page.write_text(text)


if __name__ == "__main__":
    main()
