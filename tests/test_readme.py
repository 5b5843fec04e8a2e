"""README.md and the generated parts of docs/ agree with the code, the files and the shipped models.

`python -m tests.readme` regenerates the parts.
"""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from bundle.format.manifest import read_manifest
from bundle.machine import processor
from service.settings import PREFIX, Settings
from tests.readme import (
    FILES,
    FOLDERS,
    OPENAPI,
    README,
    ROOT,
    entries,
    folder_tree,
    openapi,
    part,
    paths_of,
    response,
    routes_table,
    shipped_models,
    tracked,
    tree,
)

SETTINGS, TREE, API = (ROOT / "docs" / name for name in ("settings.md", "tree.md", "api.md"))
REGENERATE = "python -m tests.readme"

in_git = pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(),
    reason="the list of files comes from git",
)


@in_git
def test_the_tree_names_every_file_and_no_other() -> None:
    listed = paths_of(part("tree", TREE))
    folders = {path for path in listed if path.endswith("/")}

    missing = {
        n
        for n in tracked()
        if n not in listed and not any(n.startswith(folder) for folder in folders)
    }
    gone = {path for path in listed if not (ROOT / path).exists()}

    assert not missing, REGENERATE
    assert not gone, REGENERATE


@in_git
def test_only_folders_chosen_for_it_stand_for_their_files() -> None:
    folders = {
        path
        for path in paths_of(part("tree", TREE))
        if path.endswith("/") and not path.startswith("models/")
    }

    assert folders <= set(FOLDERS)


@in_git
def test_descriptions_are_of_files_that_exist() -> None:
    assert not [name for name in FILES if not (ROOT / name).exists()]


def test_every_line_of_the_tree_says_what_the_file_is() -> None:
    lines = part("tree", TREE).splitlines()

    files = [line for line in lines if not line.rstrip().endswith("/")]
    assert [line for line in files if len(line.split()) < 2] == []


@in_git
def test_a_tree_is_read_as_it_is_written() -> None:
    names = tracked()

    assert paths_of(tree(names)) == {path for path, _ in entries(names)}


def test_the_table_holds_every_setting_with_its_default_and_no_other() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", part("settings", SETTINGS), re.MULTILINE
    )

    expected = [
        (
            PREFIX + name.upper(),
            "" if field.default is None else f"`{field.default}`",
            field.description,
        )
        for name, field in Settings.model_fields.items()
    ]
    assert rows == expected, REGENERATE


def test_the_folders_of_the_readme_are_those_of_the_packages() -> None:
    assert part("folders") == folder_tree(), REGENERATE


def test_every_folder_of_the_readme_exists_and_has_a_description() -> None:
    lines = part("folders").splitlines()

    tops = {line.split("/")[0] for line in lines if not line.startswith(" ")}
    folders = {name.split("/")[0] for name in tracked() if "/" in name and name[0] != "."}
    assert tops == folders
    assert [line for line in lines if len(line.split()) < 2] == []


def test_the_openapi_document_and_its_routes_are_those_of_the_service() -> None:
    document = openapi()

    assert json.loads(OPENAPI.read_text()) == document, REGENERATE
    assert part("routes", API) == routes_table(document), REGENERATE


def test_the_readme_is_short_enough_to_read() -> None:
    assert len(README.read_text().splitlines()) <= 160


def test_the_verbs_of_the_readme_exist() -> None:
    in_code = r"(?:^    |`)(?:[A-Z_]+=\S+ )*make ([a-z]+)"
    verbs = set(re.findall(in_code, README.read_text(), re.MULTILINE))

    makefile = (ROOT / "Makefile").read_text()
    assert {"serve", "test"} <= verbs
    assert [
        verb for verb in sorted(verbs) if not re.search(rf"^{verb}:", makefile, re.MULTILINE)
    ] == []


def test_links_and_commands_point_to_files_that_exist() -> None:
    text = README.read_text()
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    scripts = re.findall(r"(?:python |file=@|-f |cp )([\w./-]+\.(?:py|jpg|yml))", text)

    assert links
    assert [name for name in [*links, *scripts] if not (ROOT / name).exists()] == []


def test_the_accuracies_of_the_readme_are_those_of_the_shipped_models() -> None:
    manifests = [read_manifest(path.parent) for path in ROOT.glob("models/*/1/manifest.json")]
    measured = {
        f"{metric.value:.2%}".replace("%", " %")
        for manifest in manifests
        for metric in manifest.metrics
        if metric.name == "accuracy" and metric.precision in ("fp32", "int8")
    }

    if not measured:
        pytest.skip("models/ holds no model yet")
    assert [figure for figure in measured if figure not in README.read_text()] == []


def test_the_python_versions_of_the_readme_are_those_of_the_project() -> None:
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]

    assert required == ">=3.11"
    assert "Python 3.11, 3.12 or 3.13" in README.read_text()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with shipped_models() as found:
        if found is None:
            pytest.skip("models/ holds no model yet")
        yield found


def test_the_python_example_prints_what_its_comment_says(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    expected = [line.split("# ")[1] for line in blocks[0].splitlines() if "# " in line]
    monkeypatch.chdir(ROOT)

    exec(blocks[0].replace("http://127.0.0.1:8000", url), {})  # noqa: S102

    assert len(blocks) == 1
    assert capsys.readouterr().out.splitlines() == expected


def test_the_response_in_the_readme_is_that_of_the_shipped_model(url: str) -> None:
    real: dict[str, Any] = response(url)
    shown = json.loads(part("response"))

    assert shown.keys() == real.keys()
    assert shown["model"] == real["model"] or shown["model"]["device"] != real["model"]["device"]
    assert shown["image"] == real["image"]
    model = real["model"]
    manifest = read_manifest(ROOT / "models" / model["name"] / str(model["version"]))
    measured_on = {speed.hardware for artifact in manifest.artifacts for speed in artifact.speeds}
    pairs = list(zip(shown["predictions"], real["predictions"], strict=True))
    if measured_on == {processor()}:
        assert [one["label"] for one, _ in pairs] == [other["label"] for _, other in pairs]
        tolerance = 1e-3
    else:
        # The scores come from the int8 artifact, which another processor may round differently.
        pairs, tolerance = pairs[:1], 0.05
        assert pairs[0][0]["label"] == pairs[0][1]["label"]
    for one, other in pairs:
        assert one["score"] == pytest.approx(other["score"], abs=tolerance)
