"""How far a reader of the code walks to follow one request: from file to file, as it runs."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.settings import Settings
from tests.service.access.keyring import sha256
from tests.service.images import coloured
from tests.service.tasks import until

ROOT = Path(__file__).resolve().parents[2]
OURS = (str(ROOT / "service"), str(ROOT / "bundle"))
ROUTES = str(ROOT / "service/api/routes.py")
# Two of them find out what of the image the model sees.
MAX_MOVES, MAX_VISITS = 50, 3
# The door, the keys and back, the fair queue and its rounds.
OF_KEYS = 17
REQUESTS = 100
KEY = "secret-shop"
HEADERS = {"content-type": "image/png", "x-api-key": KEY}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("settings", "moves"),
    [({}, MAX_MOVES), ({"api_keys": f"shop:{sha256(KEY)}"}, MAX_MOVES + OF_KEYS)],
    ids=["without keys", "with keys"],
)
async def test_a_warm_request_is_a_short_walk_and_passes_the_routes_once(
    quick_root: Path, settings: dict[str, Any], moves: int
) -> None:
    """A function that is entered, or goes on after it has waited, is a step; returns are not."""
    app = create_app(Settings(models_dir=quick_root, **settings))
    files: list[str] = []

    def step(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            files.append(frame.f_code.co_filename)

    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        (model,) = app.state.registry.all()
        await until(lambda: model.state == "ready")
        walks = []
        for _ in range(REQUESTS):
            files.clear()
            sys.setprofile(step)
            try:
                response = await client.post("/predict", content=coloured(), headers=HEADERS)
            finally:
                sys.setprofile(None)
            assert response.status_code == 200
            walks.append([file for file, _ in groupby(files)])

    # In the others the watch of an idle process came between.
    walk = min(walks, key=len)
    shown = "\n".join(file.removeprefix(f"{ROOT}/") for file in walk)
    assert len(walk) - 1 <= moves, shown
    assert walk.count(ROUTES) <= MAX_VISITS, shown
