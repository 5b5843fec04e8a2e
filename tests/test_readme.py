"""The README says what is there: the tree, the settings, the verbs, the files it points to, the example's answer.

`python -m tests.readme` writes the generated parts anew.
"""

from __future__ import annotations

import json
import re
import shutil
import tomllib

import pytest

from bundle.format.manifest import read_manifest
from bundle.machine import processor
from service.settings import PREFIX, Settings
from tests.readme import (
    FILES,
    FOLDERS,
    README,
    ROOT,
    answer,
    entries,
    part,
    paths_of,
    tracked,
    tree,
)

in_git = pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(),
    reason="the list of files comes from git",
)


@in_git
def test_the_tree_names_every_file_and_no_other() -> None:
    listed = paths_of(part("tree"))
    folders = {path for path in listed if path.endswith("/")}

    missing = {
        n
        for n in tracked()
        if n not in listed and not any(n.startswith(folder) for folder in folders)
    }
    gone = {path for path in listed if not (ROOT / path).exists()}

    assert not missing, "python -m tests.readme"
    assert not gone, "python -m tests.readme"


@in_git
def test_only_folders_chosen_for_it_stand_for_their_files() -> None:
    folders = {
        path
        for path in paths_of(part("tree"))
        if path.endswith("/") and not path.startswith("models/")
    }

    assert folders <= set(FOLDERS)


@in_git
def test_descriptions_are_of_files_that_exist() -> None:
    assert not [name for name in FILES if not (ROOT / name).exists()]


def test_every_line_of_the_tree_says_what_the_file_is() -> None:
    lines = part("tree").splitlines()

    files = [line for line in lines if not line.rstrip().endswith("/")]
    assert [line for line in files if len(line.split()) < 2] == []


@in_git
def test_a_tree_is_read_as_it_is_written() -> None:
    names = tracked()

    assert paths_of(tree(names)) == {path for path, _ in entries(names)}


def test_the_table_holds_every_setting_with_its_default_and_no_other() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", part("settings"), re.MULTILINE)

    expected = [
        (
            PREFIX + name.upper(),
            "" if field.default is None else f"`{field.default}`",
            field.description,
        )
        for name, field in Settings.model_fields.items()
    ]
    assert rows == expected, "python -m tests.readme"


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


def test_the_python_versions_of_the_readme_are_those_of_the_project() -> None:
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]

    assert required == ">=3.11"
    assert "Python 3.11, 3.12 or 3.13" in README.read_text()


def test_the_answer_in_the_readme_is_the_answer_of_the_shipped_model() -> None:
    real = answer()
    if real is None:
        pytest.skip("models/ holds no model yet")
    shown = json.loads(part("answer"))

    assert shown.keys() == real.keys()
    assert shown["model"] == real["model"] or shown["model"]["device"] != real["model"]["device"]
    assert shown["image"] == real["image"]
    manifest = read_manifest(
        ROOT / "models" / real["model"]["name"] / str(real["model"]["version"])
    )
    measured_on = {speed.hardware for artifact in manifest.artifacts for speed in artifact.speeds}
    pairs = list(zip(shown["predictions"], real["predictions"], strict=True))
    if measured_on == {processor()}:
        assert [one["label"] for one, _ in pairs] == [other["label"] for _, other in pairs]
        tolerance = 1e-3
    else:  # it comes from the int8 artifact, which another processor may round otherwise
        pairs, tolerance = pairs[:1], 0.05
        assert pairs[0][0]["label"] == pairs[0][1]["label"]
    for one, other in pairs:
        assert one["score"] == pytest.approx(other["score"], abs=tolerance)
