"""What this room refuses, and the keys, deadlines and counts that it shares with /predict."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.settings import Settings
from tests.service.access.keyring import sha256
from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server
from tests.service.images import coloured
from tests.service.tasks import until

ROUTES = ["/explain", "/embed", "/compare"]
KEY = "secret-shop"


@pytest.fixture(scope="module")
def without_heatmaps(quick_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose bundle has no heat maps."""
    root = shutil.copytree(quick_root, tmp_path_factory.mktemp("plain") / "models")
    manifest = root / "tiny-torch" / "1" / "manifest.json"
    record = json.loads(manifest.read_text()) | {"heatmap": {"method": "none"}}
    manifest.write_text(json.dumps(record))
    return root


@pytest.mark.anyio
async def test_a_model_without_heat_maps_or_embeddings_says_so(without_heatmaps: Path) -> None:
    keys: dict[str, Any] = {"api_keys": f"shop:{sha256(KEY)}"}
    app = create_app(Settings(models_dir=without_heatmaps, **keys))
    headers = {"x-api-key": KEY}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client,
    ):
        (model,) = app.state.registry.all()
        await until(lambda: model.state == "ready")
        # The body is not an image, and is not looked at.
        unexplained = await client.post("/explain", content=b"text", headers=headers)
        embedded = await client.post("/embed", content=coloured(), headers=headers)
        # As a network whose graph ends without a linear layer.
        model.info = {**model.info, "embedding": None}
        unembedded = await client.post("/embed", content=b"text", headers=headers)
        strangers = [await client.post(route, content=coloured()) for route in ROUTES]

    assert_problem(unexplained, 422, "no_heatmap")
    assert embedded.status_code == 200
    assert_problem(unembedded, 422, "no_embedding")
    for refused in strangers:
        assert_problem(refused, 401, "unauthorized")


@pytest.mark.parametrize("route", ROUTES)
def test_the_deadline_of_the_client_holds(server: Server, route: str) -> None:
    ways = ({"X-Request-Timeout-Ms": "1"}, {"X-Request-Timeout-Ms": "soon"})

    late, wrong = (
        server.client.post(route, content=coloured(size=(3000, 2000)), headers=headers)
        for headers in ways
    )

    assert_problem(late, 504, "deadline_exceeded")
    assert_problem(wrong, 422, "invalid_parameter")


@pytest.mark.parametrize("route", ROUTES)
def test_a_form_a_body_and_json_are_taken_and_others_refused(server: Server, route: str) -> None:
    image = {"files": {"file": ("a.png", coloured("blue"))}}, {"content": coloured("blue")}

    by_form, raw = (server.client.post(route, **way) for way in image)
    refused = server.client.post(route, content=b"<a/>", headers={"content-type": "text/xml"})
    empty = server.client.post(route)
    large = server.client.post(route, content=bytes(20_100_000))

    own = {"timing_ms", "request_id", "results"}
    assert by_form.status_code == raw.status_code == 200
    assert {k: v for k, v in by_form.json().items() if k not in own} == {
        k: v for k, v in raw.json().items() if k not in own
    }
    assert_problem(refused, 415, "unsupported_media_type")
    assert_problem(empty, 400, "malformed_request")
    assert_problem(large, 413, "request_too_large")


def test_stages_are_counted_and_predictions_are_not(server: Server) -> None:
    scores, stages = "resnet_top1_score_count", "resnet_stage_duration_seconds_count"
    before = server.metric(scores), server.metric(stages)

    for route in ROUTES:
        server.client.post(route, content=coloured()).raise_for_status()

    assert server.metric(scores) == before[0]
    # Three stages of explain, embed, and both models that are compared.
    assert server.metric(stages) == before[1] + 3 * 4


def test_the_images_of_a_batch_say_what_was_seen(server: Server) -> None:
    sizes = [(48, 40), (90, 30)]
    files = [("files", ("a.png", coloured(size=size))) for size in sizes]

    found = server.client.post("/predict/batch", files=files).json()

    for result, size in zip(found["results"], sizes, strict=True):
        assert result["seen"] == server.predict(coloured(size=size)).json()["seen"]
        assert (result["seen"]["image_width"], result["seen"]["image_height"]) == size
        assert result["seen"]["width"] == pytest.approx(result["seen"]["height"], rel=0.02)
