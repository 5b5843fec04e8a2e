"""Bundles that are not in order, served by real processes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.service.api.test_problems import assert_problem
from tests.service.conftest import serving
from tests.service.images import coloured
from tests.service.models.disturb import edit_manifest


def flip_a_byte(bundle: Path) -> None:
    data = bytearray((bundle / "model.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "model.pt").write_bytes(data)


def remove_a_file(bundle: Path) -> None:
    (bundle / "model.pt").unlink()


def add_a_file(bundle: Path) -> None:
    (bundle / "extra.py").write_text("print('hello')")


def rename_in_manifest(new: str) -> Callable[[Path], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["files"][new] = manifest["files"].pop("model.pt")
        manifest["artifacts"][0]["path"] = new

    return lambda bundle: edit_manifest(bundle, change)


def wrong_golden_answer(bundle: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["golden"]["samples"][0]["top"][0]["score"] -= 0.05

    edit_manifest(bundle, change)


def other_name(bundle: Path) -> None:
    edit_manifest(bundle, lambda manifest: manifest.update(name="another"))


def no_json(bundle: Path) -> None:
    (bundle / "manifest.json").write_text("{")


DAMAGES = {
    "flipped": (flip_a_byte, "integrity_failed", "sha256"),
    "missing": (remove_a_file, "integrity_failed", "missing"),
    "extra": (add_a_file, "integrity_failed", "not listed"),
    "absolute": (rename_in_manifest("/etc/passwd"), "manifest_invalid", "relative"),
    "parent": (rename_in_manifest("../1/model.pt"), "manifest_invalid", ".."),
    "golden": (wrong_golden_answer, "golden_mismatch", "golden"),
    "renamed": (other_name, "manifest_invalid", "another"),
    "nojson": (no_json, "manifest_invalid", "JSON"),
}


def test_broken_bundles_are_refused_with_the_reason_and_the_rest_serves(
    quick_root: Path, tmp_path: Path
) -> None:
    shutil.copytree(quick_root / "tiny-torch", tmp_path / "good")
    edit_manifest(tmp_path / "good" / "1", lambda manifest: manifest.update(name="good"))
    for name, (damage, _, _) in DAMAGES.items():
        bundle = tmp_path / name / "1"
        shutil.copytree(quick_root / "tiny-torch" / "1", bundle)
        if name not in ("renamed", "nojson"):
            edit_manifest(bundle, partial(dict.update, name=name))
        damage(bundle)

    (tmp_path / "default").write_text("good")

    with serving(models_dir=tmp_path, runtime_threads=1) as server:
        ready = server.client.get("/readyz").json()
        refused = {entry["name"]: entry for entry in ready["refused"]}
        assert set(refused) == set(DAMAGES)
        for name, (_, code, text) in DAMAGES.items():
            assert refused[name]["code"] == code, refused[name]
            assert text in refused[name]["reason"], refused[name]
        states = {
            model["name"]: model["state"] for model in server.client.get("/models").json()["models"]
        }
        assert states == {**dict.fromkeys(DAMAGES, "refused"), "good": "ready"}
        assert server.predict(coloured()).json()["model"]["name"] == "good"
        answer = server.predict(coloured(), model="flipped")
        assert_problem(answer, 503, "model_refused")
        assert "sha256" in answer.json()["detail"]


def test_where_every_model_is_refused_a_request_without_a_name_is_told_why(
    quick_root: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(quick_root / "tiny-torch" / "1", tmp_path / "tiny-torch" / "1")
    flip_a_byte(bundle)

    with serving(models_dir=tmp_path, ready=False) as server:
        server.wait(
            lambda: server.client.get("/models").json()["models"][0]["state"] == "refused",
            "refused",
            60,
        )
        answer = server.predict(coloured())
        not_ready = server.client.get("/readyz").json()

    assert_problem(answer, 503, "model_refused")
    assert "sha256" in answer.json()["detail"]
    assert "Every model is refused. tiny-torch/1: " in not_ready["detail"]
