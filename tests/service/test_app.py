"""The application as a value."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from service.app import create_app
from service.settings import Settings
from tests.service.api.test_problems import assert_problem


def test_a_crash_is_a_500_that_does_not_show_its_text(tmp_path: Path) -> None:
    app = create_app(Settings(models_dir=tmp_path))

    @app.get("/crash")
    def crash() -> None:
        raise RuntimeError("the secret of the house")

    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/crash")

    response = asyncio.run(request())

    assert_problem(response, 500, "internal_error")
    assert "secret" not in response.text
