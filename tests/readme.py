"""The generated parts of the README: `python -m tests.readme` writes them, tests/test_readme.py holds them.

A part lies between `<!-- NAME -->` and `<!-- /NAME -->`: the settings table, the answer of the curl example (from the
shipped models, if they are there) and the tree. A line of the tree is the first line of the file's docstring or
comment; what has neither is described here, and so are the folders that stand for all their files.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import requests

from service.settings import settings_table
from tests.frontend.servers import serve_models

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
SAMPLE = ROOT / "frontend/samples/cat.jpg"
ASKED = 10

FOLDERS = {
    "benchmarks/peers/": "other servers that do the same work, each with its lock, and how they are started and watched",
    "docs/decisions/": "what was decided otherwise than the design had it, or needs its reason written down",
    "docs/images/": "pictures of the page",
    "frontend/samples/": "sample pictures, the program that draws them, and their origin",
    "tests/benchmarks/": "tests of what needs no environment of a peer",
    "tests/browser/": "the page in a real browser, against the real service",
    "tests/bundle/": "tests of bundle/, file by file",
    "tests/frontend/": "tests of frontend/, file by file",
    "tests/service/": "tests of service/, file by file",
    "tests/training/": "tests of training/, file by file",
    "training/reports/templates/": "pages of the reports",
}
FILES = {
    ".ci/run": "what CI runs: make check, make test",
    ".dockerignore": "what the image builds may see",
    ".gitignore": "what git leaves out",
    ".streamlit/config.toml": "settings of the page's server",
    "Makefile": "the verbs",
    "README.md": "this page",
    "benchmarks/RESULTS.md": "what make bench measured last, with every target",
    "benchmarks/page.md.jinja": "the template of RESULTS.md",
    "benchmarks/results.svg": "the plot of RESULTS.md",
    "docker-compose.yml": "both containers on one machine",
    "docker/compose.gpu.yml": "on top of it, for an NVIDIA GPU",
    "docker/cpu-excludes.txt": "what an image for CPUs leaves out",
    "docker/frontend.Dockerfile": "image of the page",
    "docker/install.sh": "what both images install",
    "docker/service.Dockerfile": "image of the service",
    "docs/tour.ipynb": "training, transfer, a bundle and the shipped models, step by step, on shapes that it draws",
    "pyproject.toml": "dependencies by extra; settings of ruff, mypy and pytest",
    "requirements.lock": "every version that is installed",
}


def tracked() -> list[str]:
    """The files git knows, added ones included; what is deleted in the work tree does not count."""
    command = ["git", "-c", "core.quotePath=false", "ls-files"]
    names = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [name for name in names if (ROOT / name).exists()]


def tree(names: list[str]) -> str:
    """The tree of these files: a line per file, or per folder of FOLDERS and per model version."""
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
    """(path, description), each folder that stands for its files once."""
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


def describe(path: Path) -> str:
    """The first line of a file's docstring, title or comment."""
    text = path.read_text()
    if path.suffix == ".py":
        first = ast.get_docstring(ast.parse(text)) or (
            "marks the folder as a package" if not text.strip() else ""
        )
    else:
        first = next(
            (
                line.lstrip("# ")
                for line in text.splitlines()
                if line.strip("#! ") and "#!" not in line
            ),
            "",
        )
    return re.sub(r":\w+:`|`", "", first.split("\n")[0]).rstrip(".")


def describe_model(path: Path) -> str:
    return str(json.loads((path / "manifest.json").read_text())["description"]).rstrip(".")


def paths_of(text: str) -> set[str]:
    """The paths that a tree names, folders that only hold further lines left out."""
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


def part(name: str, text: str | None = None) -> str:
    """What the README has between the marks of a part, without its code fence."""
    found = re.search(marks(name), README.read_text() if text is None else text, re.DOTALL)
    assert found is not None, f"README.md has no part {name}"
    return re.sub(r"^```.*$", "", found[2], flags=re.MULTILINE).strip("\n")


def marks(name: str) -> str:
    return rf"(<!-- {name} -->\n)(.*?)(\n<!-- /{name} -->)"


def answer() -> dict[str, Any] | None:
    """What the service answers to the README's request, or None without the shipped models."""
    if not any((ROOT / "models").glob("*/*/manifest.json")):
        return None
    with tempfile.TemporaryDirectory() as logs, serve_models(ROOT / "models", Path(logs)) as url:
        for _ in range(ASKED):  # the first ones find processes that have only just started
            files = {"file": (SAMPLE.name, SAMPLE.read_bytes(), "image/jpeg")}
            response = requests.post(f"{url}/predict", files=files, timeout=60)
        response.raise_for_status()
        result: dict[str, Any] = response.json()
        return result


def main() -> None:
    parts = {"settings": settings_table(), "tree": f"```text\n{tree(tracked())}\n```"}
    if result := answer():
        parts["answer"] = f"```json\n{json.dumps(result, indent=2)}\n```"
    text = README.read_text()
    for name, content in parts.items():
        text = re.sub(
            marks(name), lambda m, content=content: m[1] + content + m[3], text, flags=re.DOTALL
        )
    README.write_text(text)


if __name__ == "__main__":
    main()
