"""No response tells a client where files lie on the server; the log does."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.models.refusal import for_clients
from tests.service.conftest import serving
from tests.service.images import coloured
from tests.service.models.disturb import edit_manifest

ROOT = Path(__file__).resolve().parents[3]


def no_regular_manifest(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()
    os.mkfifo(bundle / "manifest.json")


def link_in_a_loop(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()
    (bundle / "manifest.json").symlink_to("manifest.json")


def link_out_of_the_repository(bundle: Path) -> None:
    shutil.move(bundle / "model.pt", bundle.parents[2] / "elsewhere.pt")
    (bundle / "model.pt").symlink_to(bundle.parents[2] / "elsewhere.pt")


def no_archive(bundle: Path) -> None:
    data = b"no archive"
    (bundle / "model.pt").write_bytes(data)
    record = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit_manifest(bundle, lambda manifest: manifest["files"].update({"model.pt": record}))


DAMAGES: tuple[Callable[[Path], None], ...] = (
    no_regular_manifest,
    link_in_a_loop,
    link_out_of_the_repository,
    no_archive,
)


def test_no_response_has_a_path_of_the_server(torch_bundle_root: Path, tmp_path: Path) -> None:
    repository = tmp_path / "my models"
    good = shutil.copytree(torch_bundle_root / "tiny-torch" / "1", repository / "good" / "1")
    edit_manifest(good, lambda manifest: manifest.update(name="good"))
    names = [damage.__name__.replace("_", "-") for damage in DAMAGES]
    for name, damage in zip(names, DAMAGES, strict=True):
        bundle = shutil.copytree(torch_bundle_root / "tiny-torch" / "1", repository / name / "1")
        edit_manifest(bundle, partial(dict.update, name=name))
        damage(bundle)
    (repository / "no-bundle" / "1").mkdir(parents=True)
    folders = [str(tmp_path), str(ROOT), sys.prefix, os.path.realpath(sys.prefix)]

    texts: dict[str, str] = {}
    with serving(models_dir=repository, ready=False, watch_s=0.05) as server:

        def ask(what: str, method: str, path: str, **options: Any) -> httpx.Response:
            response = server.client.request(method, path, **options)
            texts[f"{what}: {method} {path}"] = response.text
            return response

        def refused(condition: Callable[[dict[str, Any]], Any]) -> None:
            server.wait(lambda: condition(server.client.get("/models").json()), "refused", 120)

        refused(
            lambda found: all(
                model["state"] == ("ready" if model["name"] == "good" else "refused")
                for model in found["models"]
            )
        )
        assert ask("no default", "GET", "/readyz").status_code == 503
        (repository / "default").write_text("good\n")
        server.wait_ready()
        for name in names:
            assert ask("refused", "POST", f"/predict?model={name}").json()["code"] == (
                "model_refused"
            )
            ask("refused", "GET", f"/models/{name}")
            ask("refused", "GET", f"/v2/models/{name}")
        for path in ("/models", "/readyz", "/v2/models/stats", "/static-offline-docs/none.js"):
            ask("as it is", "GET", path)
        for path in ("/%2e%2e/etc/passwd", "/static-offline-docs/%2e%2e/core.py", "/models/none"):
            ask("not there", "GET", path)
        for image in (b"", b"GIF89a", coloured()[:60], b"\xff\xd8\xff\xe0" + bytes(50)):
            ask("no image", "POST", "/predict", content=image)
        ask("no form", "POST", "/predict", files={"other": ("x.png", coloured())})

        (repository / "serving.toml").write_text("[good]\nqueue_size = 0\n")
        refused(lambda found: found["repository_error"])
        ask("wrong settings", "GET", "/models")
        (repository / "serving.toml").write_text("[good")
        refused(lambda found: "TOML" in found["repository_error"])
        ask("no settings", "GET", "/models")
        (repository / "serving.toml").unlink()
        no_regular_manifest(good)
        refused(lambda found: any(model["update_error"] for model in found["models"]))
        ask("replaced", "GET", "/models")
        repository.rename(tmp_path / "away")
        refused(lambda found: found["repository_error"])
        ask("gone", "GET", "/models")
        log = server.log()

    leaks = {
        what: text for what, text in texts.items() if any(folder in text for folder in folders)
    }
    assert leaks == {}
    assert f"{repository}/no-regular-manifest/1/manifest.json" in log
    assert f"{repository}/serving.toml" in log


def test_an_empty_repository_is_not_named_by_its_path(tmp_path: Path) -> None:
    with serving(models_dir=tmp_path, ready=False) as server:
        server.wait(lambda: server.client.get("/healthz").status_code == 200, "up")
        texts = [server.client.get("/readyz").text, server.client.post("/predict").text]

        assert "SERVICE_MODELS_DIR" in texts[0]
        assert not any(str(tmp_path) in text for text in texts)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Received: '/srv/my models/a/1/manifest.json'", "Received: 'a/1/manifest.json'"),
        ("'/srv/my models' has no model", "'the model repository' has no model"),
        ("No such file: '/home/an operator/x.so'", "No such file: 'x.so'"),
        ("from 'torch' (/usr/lib/python3/torch/init.py)", "from 'torch' (init.py)"),
        ("see https://example.org/a/b or image/png, 3/4", None),
        ("/srv/my modelsother/x", "my modelsother/x"),
    ],
)
def test_paths_are_reduced_to_what_a_client_can_use(text: str, shown: str | None) -> None:
    assert for_clients(text, Path("/srv/my models")) == (shown or text)
