"""The policy of the documentation page allows what is in it, and nothing else."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from pathlib import Path

import httpx

from service.app import create_app
from service.network.browsers import security_headers
from service.settings import Settings


def test_the_documentation_may_run_its_own_scripts_alone(tmp_path: Path) -> None:
    app = create_app(Settings(models_dir=tmp_path, root_path="/classifier"))

    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/classifier/docs")

    page = asyncio.run(request())

    policy = page.headers["content-security-policy"]
    (inline,) = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}';" in policy
    assert "'/classifier/openapi.json'" in inline
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 3
    assert all(path.startswith("/classifier/static-offline-docs/") for path in loaded)


def test_browsers_are_told_of_https_only_where_that_is_set() -> None:
    assert "Strict-Transport-Security" not in dict(security_headers())
    assert dict(security_headers(60))["Strict-Transport-Security"] == "max-age=60"
