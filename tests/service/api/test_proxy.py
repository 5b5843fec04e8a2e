"""Behind a proxy: the prefix of the paths, and whose headers about the client are believed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.conftest import Server, serving
from tests.service.images import coloured

PREFIX = "/ml/classifier"


@pytest.fixture(scope="module")
def proxied(quick_root: Path) -> Iterator[Server]:
    settings: dict[str, Any] = {
        "root_path": PREFIX,
        "admin_key": "a-key-of-administrators",  # with its routes, which have no path of their own
        "trusted_proxies": "127.0.0.1, 10.0.0.0/8",
        "log_client": 1,
    }
    with serving(models_dir=quick_root, **settings) as running:
        yield running


@pytest.mark.parametrize("sent", ["", PREFIX], ids=["removed by the proxy", "kept by the proxy"])
def test_routes_docs_and_openapi_work_behind_a_prefix(proxied: Server, sent: str) -> None:
    client = proxied.client

    root = client.get(f"{sent}/")
    docs = client.get(f"{sent}/docs")
    document = client.get(f"{sent}/openapi.json").json()
    script = client.get(f"{sent}/static-offline-docs/swagger-ui-bundle.js")
    predicted = client.post(f"{sent}/predict", files={"file": ("a", coloured())})
    missing = client.get(f"{sent}/nowhere")

    assert (root.status_code, root.headers["location"]) == (307, f"{PREFIX}/docs")
    assert f"{PREFIX}/openapi.json" in docs.text
    assert f"{PREFIX}/static-offline-docs/swagger-ui-bundle.js" in docs.text
    assert document["servers"] == [{"url": PREFIX}]
    assert script.status_code == predicted.status_code == 200
    assert missing.status_code == 404
    assert f"{PREFIX}/docs" in missing.json()["detail"]


def test_the_prefix_alone_leads_to_the_docs(proxied: Server) -> None:
    assert proxied.client.get(PREFIX).headers["location"] == f"{PREFIX}/docs"


def test_without_a_prefix_the_root_leads_to_the_docs(server: Server) -> None:
    for method in ("GET", "HEAD"):
        response = server.client.request(method, "/")
        assert (response.status_code, response.headers["location"]) == (307, "/docs")

    assert server.client.get("/", follow_redirects=True).status_code == 200


def logged(server: Server, identity: str, *forwarded: str) -> str:
    headers = [("x-request-id", identity), *(("x-forwarded-for", each) for each in forwarded)]
    assert server.client.get("/models", headers=headers).status_code == 200
    server.wait_logged(identity)
    (line,) = [line for line in server.log().splitlines() if identity in line]
    return line.partition(identity)[2].strip()


def test_the_log_has_the_client_that_the_last_trusted_proxy_saw(proxied: Server) -> None:
    assert logged(proxied, "direct") == "127.0.0.1"
    assert logged(proxied, "one-proxy", "192.0.2.7") == "192.0.2.7"
    assert logged(proxied, "forged", "198.51.100.1, 192.0.2.7, 10.1.1.1") == "192.0.2.7"
    assert logged(proxied, "of-ipv6", "2001:db8::7") == "2001:db8::7"
    assert logged(proxied, "no-address", 'x" ERROR' + 100 * "y") == "x%22%20ERROR" + 56 * "y"


def test_no_client_is_logged_and_no_header_believed_unless_set(
    server: Server, quick_root: Path
) -> None:
    assert logged(server, "by-default", "192.0.2.7") == ""
    with serving(models_dir=quick_root, log_client=True) as listening:
        assert logged(listening, "untrusted", "192.0.2.7") == "127.0.0.1"


def test_probes_are_logged_at_debug_level_only(server: Server, quick_root: Path) -> None:
    probes = ("/healthz", "/readyz", "/metrics")
    for path in probes:
        assert server.client.get(path).status_code == 200
    logged(server, "after-the-probes")
    assert not [path for path in probes if f" {path} " in server.log()]

    with serving(models_dir=quick_root, log_level="debug") as verbose:
        for path in probes:
            verbose.client.get(path)
            verbose.wait_logged(f"DEBUG service.access GET {path} 200")


def test_a_path_that_only_begins_like_the_prefix_is_a_problem(proxied: Server) -> None:
    response = httpx.get(f"{proxied.url}{PREFIX}x/docs")

    assert (response.status_code, response.json()["code"]) == (404, "not_found")
