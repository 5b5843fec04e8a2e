"""The source files of the packages and what they import, read from their syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


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
