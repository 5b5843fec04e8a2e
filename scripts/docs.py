"""`make docs`: the pages of the repository as a site in site/, without network; broken links fail.

The sources are copied to build/docs first: docs/ as it is, the pages of the root and the benchmark
results next to it, the notebook as Markdown. Links between them are rewritten to their new places;
a link to a file that is no page becomes plain text. zensical.toml has the navigation.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
SOURCES, SITE = ROOT / "build/docs", ROOT / "site"
DOCS = ROOT / "docs"
OUTSIDE_DOCS = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "vulnerabilities.md",
    "benchmarks/RESULTS.md": "results.md",
    "benchmarks/results.svg": "results.svg",
}
RENAMED = {"docs/tour.ipynb": "tour.md", "docs/decisions/README.md": "decisions/index.md"}
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)]*)?\)")

# The OpenAPI document is part of the page: a page opened as a file may not fetch another file. The
# same Swagger UI as the service's /docs, without its button to try a request: there is no service.
REFERENCE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>HTTP API: reference</title>
<link rel="stylesheet" href="swagger-ui.css">
<body style="margin: 0; background: #fff">
<div id="reference"></div>
<script src="swagger-ui-bundle.js"></script>
<script>
SwaggerUIBundle({{
  dom_id: "#reference", spec: {document}, supportedSubmitMethods: [], validatorUrl: null
}})
</script>
</body>
</html>
"""
ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css")
FRAME = """
<iframe src="reference.html" title="Reference" style="width: 100%; height: 85vh; border: 0">
</iframe>

[The reference on a page of its own](reference.html)
"""


def main() -> int:
    """Build the site. Returns the exit code of the generator."""
    collect()
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    result = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL)
    return result.returncode


def collect() -> None:
    """Fill build/docs with every page, image and asset of the site."""
    shutil.rmtree(SOURCES, ignore_errors=True)
    shutil.rmtree(SITE, ignore_errors=True)
    places = {path: target(path) for path in sources()}
    for path, place in places.items():
        to = SOURCES / place
        to.parent.mkdir(parents=True, exist_ok=True)
        if place.endswith(".md"):
            text = notebook(path) if path.endswith(".ipynb") else (ROOT / path).read_text()
            to.write_text(relinked(text, path, places))
        else:
            shutil.copy(ROOT / path, to)
    with (SOURCES / "api.md").open("a") as page:
        page.write(FRAME)
    document = json.dumps(json.loads((DOCS / "openapi.json").read_text())).replace("</", "<\\/")
    (SOURCES / "reference.html").write_text(REFERENCE.format(document=document))
    for name in ASSETS:
        shutil.copy(assets() / name, SOURCES)


def sources() -> list[str]:
    """The files of the site, as paths in the repository."""
    found = [path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*") if path.is_file()]
    kept = [name for name in found if not name.endswith("-executed.ipynb")]
    return sorted([*kept, *OUTSIDE_DOCS])


def target(path: str) -> str:
    """Where a file of the repository lies in the site's sources."""
    return OUTSIDE_DOCS.get(path) or RENAMED.get(path) or path.removeprefix("docs/")


def relinked(text: str, path: str, places: dict[str, str]) -> str:
    """The text of the page at `path`, its links to files rewritten for the site.

    A link to nothing stays as it is, which fails the build.
    """
    here = PurePosixPath(path).parent
    place = PurePosixPath(places[path]).parent

    def rewritten(link: re.Match[str]) -> str:
        label, name, anchor = link[1], link[2], link[3] or ""
        linked = os.path.normpath(here / name)
        if "://" in name or not (ROOT / linked).exists():
            return link[0]
        if linked not in places:
            return label
        return f"[{label}]({os.path.relpath(places[linked], place)}{anchor})"

    return LINK.sub(rewritten, text)


def notebook(path: str) -> str:
    """A notebook as Markdown, without outputs."""
    cells = json.loads((ROOT / path).read_text())["cells"]
    texts = [("".join(cell["source"]), cell["cell_type"]) for cell in cells]
    return "\n\n".join(
        text if kind == "markdown" else f"```python\n{text}\n```" for text, kind in texts
    )


def assets() -> Path:
    """Swagger UI, from a package that the service installs."""
    found = importlib.util.find_spec("fastapi_offline")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("docs: fastapi-offline is not installed; `make` installs it")
    return Path(found.submodule_search_locations[0]) / "static"


if __name__ == "__main__":
    sys.exit(main())
