"""The documentation site: no broken link, no page left out, nothing loaded from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.readme import ROOT

# One build for all of them: it writes into folders of the repository.

SITE, SOURCES = ROOT / "site", ROOT / "build/docs"
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))]
FOLDERS = "bundle|service|training|frontend|tests|scripts|docker|docs|benchmarks"


@pytest.fixture(scope="module")
def built() -> str:
    """What the build prints; it is strict, so a broken link or anchor fails it."""
    command = [sys.executable, "scripts/docs.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def navigation() -> set[str]:
    """The pages that the navigation leads to."""

    def leaves(item: Any) -> list[str]:
        if isinstance(item, str):
            return [item]
        inner = item.values() if isinstance(item, dict) else item
        return [leaf for each in inner for leaf in leaves(each)]

    return set(leaves(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))


def test_the_site_builds_and_every_page_is_in_its_navigation(built: str) -> None:
    pages = {path.relative_to(SOURCES).as_posix() for path in SOURCES.rglob("*.md")}

    assert "Build finished" in built
    assert navigation() == pages
    assert [name for name in pages if not (SITE / name).with_suffix(".html").exists()] == []


def test_the_site_loads_nothing_from_elsewhere(built: str) -> None:
    assert built
    loading = r"<(?:script|img|iframe|source|link)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//[^>]*>"
    found = {
        element
        for path in SITE.rglob("*.html")
        for element in re.findall(loading, path.read_text())
        if 'rel="canonical"' not in element
    }

    assert found == set()


def test_the_site_has_the_openapi_document_and_what_renders_it(built: str) -> None:
    assert built
    reference = (SITE / "reference.html").read_text()

    assert (SITE / "openapi.json").read_text() == (ROOT / "docs/openapi.json").read_text()
    assert '"/predict/batch"' in reference
    assert all((SITE / name).exists() for name in re.findall(r'src="([^"]+)"', reference))
    assert 'src="reference.html"' in (SITE / "api.html").read_text()


def test_a_broken_link_is_left_for_the_build_to_find() -> None:
    program = "import docs; print(docs.relinked({!r}, 'docs/api.md', {{'docs/api.md': 'api.md'}}))"
    text = "[gone](gone.md) [code](../service/app.py) [here](api.md#x)"

    done = subprocess.run(
        [sys.executable, "-c", program.format(text)],
        cwd=ROOT / "scripts",
        capture_output=True,
        text=True,
    )

    assert done.stdout.strip() == "[gone](gone.md) code [here](api.md#x)", done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(rf"`((?:{FOLDERS})/[\w./-]+)`", page.read_text())

    assert [name for name in named if not (ROOT / name).exists() and "NAME" not in name] == []
