"""What browsers are told with every response, and the documentation page with its own policy."""

from __future__ import annotations

import base64
import hashlib
import re

from fastapi import Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse

# Where fastapi-offline mounts the files of Swagger UI.
STATIC = "/static-offline-docs"


def security_headers(hsts_s: int = 0) -> list[tuple[str, str]]:
    """The headers of every response.

    Args:
        hsts_s: How long browsers shall use HTTPS alone, in seconds; 0: they are not told.
    """
    headers = [
        # A response is what its content type says, and nothing that a browser guesses.
        ("X-Content-Type-Options", "nosniff"),
        # No page of another origin shows a response in a frame, to have it clicked on.
        ("Content-Security-Policy", "frame-ancestors 'none'"),
        ("Referrer-Policy", "no-referrer"),
        # Images and what they show are private; nothing on the way keeps a response.
        ("Cache-Control", "no-store"),
    ]
    if hsts_s:
        headers.append(("Strict-Transport-Security", f"max-age={hsts_s}"))
    return headers


async def documentation(request: Request) -> HTMLResponse:
    """Swagger UI, which may run its own scripts and ask this service, and nothing else."""
    root = request.scope.get("root_path", "")
    page = get_swagger_ui_html(
        openapi_url=f"{root}{request.app.openapi_url}",
        title=request.app.title,
        oauth2_redirect_url=None,
        swagger_js_url=f"{root}{STATIC}/swagger-ui-bundle.js",
        swagger_css_url=f"{root}{STATIC}/swagger-ui.css",
        swagger_favicon_url=f"{root}{STATIC}/favicon.png",
    )
    # In addition to that of `security_headers`; a browser holds a page to both.
    page.headers["Content-Security-Policy"] = _policy(bytes(page.body))
    return page


def _policy(page: bytes) -> str:
    """The Content-Security-Policy of a page with these inline scripts."""
    scripts = re.findall(rb"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in scripts]
    allowed = " ".join(["'self'", *(f"'sha256-{each}'" for each in hashes)])
    # Swagger UI has inline styles, and images in data: URLs.
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'"
    )
