"""Code to copy that gives the answer on the screen: the same file, model and options."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode


def snippets(
    address: str, path: str, query: Mapping[str, str | int], file: str, *, needs_key: bool
) -> dict[str, tuple[str, str]]:
    """Snippets by the name of their language, each with its name for highlighting.

    Args:
        address: of the service, as visitors reach it.
        path: of the route.
        query: its parameters.
        file: name of the picture.
        needs_key: the service wants an API key, which the code takes from the environment.
    """
    url = f"{address}{path}?{urlencode(query)}"
    labels = ("prediction_set", "labels") if "coverage" in query else ("predictions",)
    return {
        "curl": ("bash", _curl(url, file, needs_key=needs_key)),
        "Python": ("python", _python(address + path, query, file, labels, needs_key=needs_key)),
        "JavaScript": ("javascript", _javascript(url, file, labels, needs_key=needs_key)),
    }


def _curl(url: str, file: str, *, needs_key: bool) -> str:
    key = '-H "Authorization: Bearer $API_KEY" ' if needs_key else ""
    return f"curl {key}--data-binary {shlex.quote('@' + file)} \\\n  {shlex.quote(url)}"


def _python(
    url: str,
    query: Mapping[str, str | int],
    file: str,
    labels: Sequence[str],
    *,
    needs_key: bool,
) -> str:
    key = (
        '    headers={"Authorization": f"Bearer {os.environ[\'API_KEY\']}"},\n' if needs_key else ""
    )
    return (
        f"{'import os' + chr(10) if needs_key else ''}"
        "from pathlib import Path\n\n"
        "import requests\n\n"
        "response = requests.post(\n"
        f"    {url!r},\n"
        f"    params={dict(query)!r},\n"
        f"    data=Path({file!r}).read_bytes(),\n"
        f"{key}"
        "    timeout=60,\n"
        ")\n"
        "response.raise_for_status()\n"
        f"for best in response.json(){''.join(f'[{_quoted(name)}]' for name in labels)}:\n"
        '    print(best["label"], best["score"])'
    )


def _javascript(url: str, file: str, labels: Sequence[str], *, needs_key: bool) -> str:
    key = "\n  headers: { Authorization: `Bearer ${process.env.API_KEY}` }," if needs_key else ""
    return (
        'import { readFile } from "node:fs/promises";\n\n'
        f"const response = await fetch({_quoted(url)}, {{\n"
        f'  method: "POST",{key}\n'
        f"  body: await readFile({_quoted(file)}),\n"
        "});\n"
        f"console.log((await response.json()).{'.'.join(labels)});"
    )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
