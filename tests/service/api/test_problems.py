"""Every failure in one shape; and docs/errors.md lists every code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

import service
from bundle.errors import IMAGE_ERRORS
from service.api.openapi import problems
from service.api.problems import PROBLEMS, problem
from service.errors import RequestTimeout, ServiceError
from tests.service.conftest import Server
from tests.service.images import coloured, encode, varied

TITLES = {error.code: kind.title for error, kind in PROBLEMS.items()}
DOCS = Path(service.__file__).parent.parent / "docs" / "errors.md"


def assert_problem(response: httpx.Response, status: int, code: str) -> None:
    """The shape of every failure (RFC 9457).

    - The content type is `application/problem+json`.
    - `type` is `urn:problem:<code>`, `title` a short text for the code, `status` the HTTP status.
    - `detail` says what happened, what was expected and how to fix it; `error` is the same text.
    - `instance` is `urn:request:<request id>`, with the id in `request_id` and `X-Request-Id`.
    - `code` is stable and listed in docs/errors.md.
    - 405 has `Allow`; 429 and 503 have `Retry-After` in seconds.
    - No traceback is shown.
    """
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert set(body) == {
        "type",
        "title",
        "status",
        "detail",
        "instance",
        "code",
        "error",
        "request_id",
    }
    assert (response.status_code, body["status"], body["code"]) == (status, status, code)
    assert body["type"] == f"urn:problem:{code}"
    assert body["title"] == TITLES[code]
    assert len(body["detail"]) > 20
    assert body["error"] == body["detail"]
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["instance"] == f"urn:request:{body['request_id']}"
    assert "Traceback" not in response.text
    if status == 405:
        assert response.headers["allow"]
    if status in (429, 503):
        assert int(response.headers["retry-after"]) > 0


def form(
    server: Server, field: str = "file", path: str = "/predict", data: bytes | None = None
) -> httpx.Response:
    return server.client.post(
        path, files={field: ("photo.jpg", coloured() if data is None else data)}
    )


FAILURES: dict[str, tuple[int, str, Callable[[Server], httpx.Response]]] = {
    "no such route": (404, "not_found", lambda s: s.client.get("/nowhere")),
    "wrong method": (405, "method_not_allowed", lambda s: s.client.get("/predict")),
    "unknown model": (404, "unknown_model", lambda s: s.predict(coloured(), model="resnet9000")),
    "unknown version": (
        404,
        "unknown_version",
        lambda s: s.predict(coloured(), model="tiny-torch", version=7),
    ),
    "unknown model's record": (404, "unknown_model", lambda s: s.client.get("/models/resnet9000")),
    "name with a path": (
        422,
        "invalid_parameter",
        lambda s: s.predict(coloured(), model="../../etc"),
    ),
    "record with a path": (422, "invalid_parameter", lambda s: s.client.get("/models/..%5Cetc")),
    "version zero": (422, "invalid_parameter", lambda s: s.predict(coloured(), version=0)),
    "version text": (422, "invalid_parameter", lambda s: s.predict(coloured(), version="new")),
    "top_k zero": (422, "invalid_parameter", lambda s: s.predict(coloured(), top_k=0)),
    "top_k over the classes": (422, "invalid_parameter", lambda s: s.predict(coloured(), top_k=4)),
    "unknown parameter": (422, "unknown_parameter", lambda s: s.predict(coloured(), topk=3)),
    "unknown parameter of a batch": (
        422,
        "unknown_parameter",
        lambda s: form(s, "files", "/predict/batch?model=tiny-torch&Version=1"),
    ),
    "unknown parameter of a record": (
        422,
        "unknown_parameter",
        lambda s: s.client.get("/models/tiny-torch?verison=1"),
    ),
    "no content type and no image": (
        415,
        "unsupported_image_type",
        lambda s: s.client.post("/predict", content=b"x"),
    ),
    "text": (
        415,
        "unsupported_media_type",
        lambda s: s.client.post("/predict", content=b"x", headers={"content-type": "text/plain"}),
    ),
    "batch without a form": (
        415,
        "unsupported_media_type",
        lambda s: s.client.post(
            "/predict/batch", content=coloured(), headers={"content-type": "image/png"}
        ),
    ),
    "wrong field": (400, "malformed_request", lambda s: form(s, "image")),
    "text field": (
        400,
        "malformed_request",
        lambda s: s.client.post("/predict", files={"file": (None, "text")}),
    ),
    "empty form": (
        400,
        "malformed_request",
        lambda s: s.client.post(
            "/predict",
            content=b"--x--\r\n",
            headers={"content-type": "multipart/form-data; boundary=x"},
        ),
    ),
    "no boundary": (
        400,
        "malformed_request",
        lambda s: s.client.post(
            "/predict", content=b"x", headers={"content-type": "multipart/form-data"}
        ),
    ),
    "broken form": (
        400,
        "malformed_request",
        lambda s: s.client.post(
            "/predict",
            content=b"no boundary in here",
            headers={"content-type": "multipart/form-data; boundary=x"},
        ),
    ),
    "charset that decodes nothing": (
        400,
        "malformed_request",
        lambda s: s.client.post(
            "/predict",
            content=b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n'
            b"\r\n\r\n--x--\r\n",
            headers={"content-type": "multipart/form-data; boundary=x; charset=undefined"},
        ),
    ),
    "form cut in a file": (400, "malformed_request", lambda s: cut_form(s, b"\r\n--x", b"")),
    "form without its end": (400, "malformed_request", lambda s: cut_form(s, b"--x--\r\n", b"")),
    "form with half an end": (
        400,
        "malformed_request",
        lambda s: cut_form(s, b"--x--\r\n", b"--x"),
    ),
    "empty body": (
        400,
        "malformed_request",
        lambda s: s.client.post("/predict", content=b"", headers={"content-type": "image/png"}),
    ),
    "two files": (
        400,
        "malformed_request",
        lambda s: s.client.post("/predict", files=[("file", coloured()), ("file", coloured())]),
    ),
    "too many files": (
        400,
        "malformed_request",
        lambda s: s.client.post("/predict/batch", files=[("files", b"x")] * 65),
    ),
    "empty file": (415, "unsupported_image_type", lambda s: form(s, data=b"")),
    "a PDF": (415, "unsupported_image_type", lambda s: form(s, data=b"%PDF-1.7 ...")),
    "an SVG": (
        415,
        "unsupported_image_type",
        lambda s: form(s, data=b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    ),
    "cut image": (422, "unreadable_image", lambda s: form(s, data=encode(varied(), "JPEG")[:-200])),
    "too long an image": (
        413,
        "image_too_large",
        lambda s: form(s, data=encode(varied(17_000, 400))),
    ),
    "too large a body": (413, "request_too_large", lambda s: form(s, data=bytes(20_100_000))),
    "too large a file": (413, "image_too_large", lambda s: form(s, data=bytes(20_010_000))),
}


def cut_form(server: Server, last: bytes, instead: bytes) -> httpx.Response:
    """Two files in a form that ends before the last occurrence of `last`."""
    part = (
        b'--x\r\ncontent-disposition: form-data; name="files"; filename="a"\r\n\r\n%b\r\n'
        % coloured()
    )
    whole = part + part + b"--x--\r\n"
    return server.client.post(
        "/predict/batch",
        content=whole[: whole.rindex(last)] + instead,
        headers={"content-type": "multipart/form-data; boundary=x"},
    )


@pytest.mark.parametrize(("status", "code", "fail"), FAILURES.values(), ids=list(FAILURES))
def test_every_failure_has_the_one_shape(
    server: Server, status: int, code: str, fail: Callable[[Server], httpx.Response]
) -> None:
    assert_problem(fail(server), status, code)


def test_the_problem_of_an_unknown_model_lists_the_known_ones(server: Server) -> None:
    detail = server.predict(coloured(), model="resnet9000").json()["detail"]

    assert "tiny-keras, tiny-torch" in detail
    assert "'resnet9000'" in detail


@pytest.mark.parametrize(
    ("name", "hint"),
    [("topk", " Did you mean 'top_k'?"), ("MODEL", " Did you mean 'model'?"), ("x" * 1000, "")],
    ids=["misspelt", "capital", "long"],
)
def test_the_problem_of_an_unknown_parameter_names_the_closest_one(
    server: Server, name: str, hint: str
) -> None:
    detail = server.predict(coloured(), top_k=1, **{name: "1"}).json()["detail"]

    assert detail == (
        f"There is no query parameter of this name.{hint} Expected: model, version, top_k, "
        "coverage, crop. "
        f"Received: {name[:100]!r}"
    )


def test_a_chunked_body_is_cut_at_the_limit(server: Server) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(1_000_000)

    response = server.client.post(
        "/predict", content=chunks(), headers={"content-type": "image/png"}
    )

    assert_problem(response, 413, "request_too_large")


def test_the_page_of_errors_lists_exactly_the_codes_that_exist() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", DOCS.read_text(), flags=re.MULTILINE))

    assert rows == {error.code: str(kind.status) for error, kind in PROBLEMS.items()}


def test_every_error_of_a_request_is_in_the_table() -> None:
    assert {*ServiceError.__subclasses__(), *IMAGE_ERRORS.values()} <= set(PROBLEMS)
    assert all(
        kind.retry_after_s is not None for kind in PROBLEMS.values() if kind.status in (429, 503)
    )


def test_the_examples_of_the_api_description_are_problems() -> None:
    response = problems(408)[408]
    examples = response["content"]["application/problem+json"]["examples"]

    error = RequestTimeout("The request did not arrive in full in time; the connection is closed.")
    assert examples == {"request_timeout": {"value": problem(error, "0b9f4a1c").model_dump()}}


def test_a_wrong_version_gets_one_sentence(server: Server) -> None:
    detail = server.predict(coloured(), version="stabel").json()["detail"]

    expected = "version: expected a whole number from 1, `stable` or `canary`"
    assert detail == f'{expected}. Received: "stabel"'
