"""A repository with folders that the user of the service cannot read."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.service.api.test_problems import assert_problem
from tests.service.conftest import serving
from tests.service.images import coloured
from tests.service.models.disturb import edit_manifest

# Permissions do not bind root unless it lacks these capabilities.
CAPABILITIES = "-dac_override,-dac_read_search"
BOUND: list[str] = (
    ["setpriv", f"--bounding-set={CAPABILITIES}", f"--inh-caps={CAPABILITIES}"]
    if os.geteuid() == 0
    else []
)


@contextmanager
def unreadable(*folders: Path) -> Iterator[None]:
    """Without any permission, which must bind a process started with the prefix `BOUND`."""
    for folder in folders:
        folder.chmod(0)
    try:
        try:
            listing = subprocess.run([*BOUND, "ls", folders[0]], capture_output=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no setpriv, and permissions do not bind root")
        if listing.returncode == 0 or b"setpriv" in listing.stderr:
            pytest.skip(f"permissions do not bind this user: {listing.stderr.decode()}")
        yield
    finally:
        for folder in folders:
            folder.chmod(0o755)


def copy(quick_root: Path, root: Path, name: str) -> Path:
    bundle = root / name / "1"
    shutil.copytree(quick_root / "tiny-torch" / "1", bundle)
    edit_manifest(bundle, lambda manifest: manifest.update(name=name))
    return bundle


def test_a_folder_that_cannot_be_read_is_a_refused_model_and_the_rest_serves(
    quick_root: Path, tmp_path: Path
) -> None:
    copy(quick_root, tmp_path, "good")
    version = copy(quick_root, tmp_path, "version")
    model = copy(quick_root, tmp_path, "model").parent
    (tmp_path / "default").write_text("good")

    with unreadable(version, model), serving(prefix=BOUND, models_dir=tmp_path) as server:
        listed = {each["name"]: each for each in server.client.get("/models").json()["models"]}
        ready = server.client.get("/readyz").json()
        good = server.predict(coloured())
        refused = [server.predict(coloured(), model=name) for name in ("version", "model")]
        log = server.log()

    assert {name: each["state"] for name, each in listed.items()} == {
        "good": "ready",
        "version": "refused",
    }
    assert "Permission denied" in listed["version"]["reason"]
    assert [(each["name"], each["code"]) for each in ready["refused"]] == [
        ("version", "manifest_invalid")
    ]
    assert good.json()["model"]["name"] == "good"
    for response in refused:
        assert_problem(response, 503, "model_refused")
        detail = response.json()["detail"]
        assert "Permission denied" in detail
        assert "Let the service's user read it; the service looks for changes" in detail
    assert f"ignored folder {model}: cannot be read: Permission denied" in log


def test_a_default_model_that_cannot_be_read_keeps_the_service_unready(
    quick_root: Path, tmp_path: Path
) -> None:
    version = copy(quick_root, tmp_path, "version")
    model = copy(quick_root, tmp_path, "model").parent
    settings: dict[str, Any] = {"models_dir": tmp_path, "default_model": "model"}

    with unreadable(model, version), serving(ready=False, prefix=BOUND, **settings) as server:
        denied = "Permission denied"
        server.wait(lambda: denied in server.client.get("/readyz").text, "unready")
        not_ready = server.client.get("/readyz")

    assert_problem(not_ready, 503, "not_ready")
    assert "cannot be read: Permission denied" in not_ready.json()["detail"]


def test_a_repository_without_a_readable_model_starts_and_says_why(
    quick_root: Path, tmp_path: Path
) -> None:
    model = copy(quick_root, tmp_path, "model").parent

    with unreadable(model), serving(ready=False, prefix=BOUND, models_dir=tmp_path) as server:
        server.wait(lambda: server.client.get("/healthz").status_code == 200, "alive")
        not_ready = server.client.get("/readyz")

    assert_problem(not_ready, 503, "not_ready")
    assert (
        f"Not models: {model.name}: cannot be read: Permission denied" in not_ready.json()["detail"]
    )


def test_a_repository_that_cannot_be_read_is_an_error_at_the_start(tmp_path: Path) -> None:
    root = tmp_path / "models"
    root.mkdir()

    with unreadable(root), serving(ready=False, prefix=BOUND, models_dir=root) as server:
        assert server.process.wait(60) == 2
        log = server.log()

    assert "SERVICE_MODELS_DIR: the folder can't be read" in log
    assert f"Received: '{root}': Permission denied" in log
    assert "Traceback" not in log
