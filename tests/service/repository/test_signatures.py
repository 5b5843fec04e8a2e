"""A service that requires signatures: what is not signed by someone trusted is never opened."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from bundle.signing.sign import sign
from tests.bundle.signing.keys import key_pair
from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server, refused_start, serving
from tests.service.images import coloured
from tests.service.models.disturb import edit_manifest

INVALID = "signature_invalid"


def version(server: Server, number: int) -> dict[str, Any]:
    models = server.client.get("/models").json()["models"]
    return next((each for each in models if each["version"] == number), {"state": "none"})


def count(server: Server, metric: str) -> float:
    """The value of a counter for this code."""
    lines = server.client.get("/metrics").text.splitlines()
    name = f'{metric}{{code="{INVALID}"}} '
    return float(next(line.removeprefix(name) for line in lines if line.startswith(name)))


def test_only_signed_bundles_are_loaded_and_what_serves_serves_on(
    quick_root: Path, tmp_path: Path
) -> None:
    alice, mallory = key_pair(tmp_path, "alice"), key_pair(tmp_path, "mallory")
    trusted, models = tmp_path / "trusted", tmp_path / "models"
    trusted.mkdir()
    alice.public.rename(trusted / "alice.pub")
    first = Path(shutil.copytree(quick_root / "tiny-torch", models / "tiny-torch")) / "1"
    second = Path(shutil.copytree(first, tmp_path / "second"))
    edit_manifest(second, partial(dict.update, version=2))
    sign(first, alice.private)

    with serving(models_dir=models, signers=trusted, runtime_threads=1, watch_s=0.2) as server:
        assert server.client.get("/models/tiny-torch").json()["signer"] == "alice.pub"
        assert count(server, "resnet_model_refusals_total") == 0

        second.rename(models / "tiny-torch" / "2")
        server.wait(lambda: version(server, 2)["state"] == "refused", "refused")
        answer = server.predict(coloured(), version=2)
        assert_problem(answer, 503, INVALID)
        assert "it is not signed" in answer.json()["detail"]
        assert "by one of: alice.pub (public key, secp256r1)" in version(server, 2)["reason"]
        server.wait(lambda: count(server, "resnet_model_refusals_total") == 1, "counted")
        assert count(server, "resnet_problems_total") == 1
        assert f"model tiny-torch/2 is refused ({INVALID})" in server.log()
        assert set(server.worker_pids()) == {str(first)}
        assert server.predict(coloured()).json()["model"]["version"] == 1

        sign(models / "tiny-torch" / "2", mallory.private)
        server.wait(lambda: "by another" in version(server, 2).get("reason", ""), "read again")

        sign(models / "tiny-torch" / "2", alice.private)
        server.wait(lambda: version(server, 2)["state"] == "ready", "ready")
        assert server.predict(coloured()).json()["model"]["version"] == 2

        sign(models / "tiny-torch" / "2", mallory.private)
        server.wait(lambda: INVALID in (version(server, 2)["update_error"] or ""), "noticed")
        assert server.predict(coloured()).json()["model"]["version"] == 2


def test_signers_that_cannot_be_read_stop_the_start(both_root: Path, tmp_path: Path) -> None:
    line = refused_start(models_dir=both_root, signers=tmp_path / "missing")

    assert line.startswith("The service can't start: SERVICE_SIGNERS: The trusted signers can't be")
    assert str(tmp_path / "missing") in line
