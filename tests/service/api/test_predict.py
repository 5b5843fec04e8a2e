"""POST /predict and /predict/batch over a real socket, on both frameworks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from tests.service.conftest import Server
from tests.service.images import COLOURS, coloured, encode, varied


@pytest.mark.parametrize("model", ["tiny-torch", "tiny-keras"])
@pytest.mark.parametrize("label", COLOURS)
def test_a_photo_gets_its_label(server: Server, model: str, label: str) -> None:
    response = server.predict(coloured(label, kind="JPEG"), model=model)

    assert response.status_code == 200, response.text
    body = response.json()
    predictions = body["predictions"]
    assert predictions[0]["label"] == label
    assert [p["rank"] for p in predictions] == [1, 2, 3]
    assert sum(p["score"] for p in predictions) == pytest.approx(1, abs=1e-6)
    assert [p["score"] for p in predictions] == sorted(
        (p["score"] for p in predictions), reverse=True
    )
    assert body["model"]["name"] == model
    assert (
        body["model"]["framework"] == {"tiny-torch": "pytorch", "tiny-keras": "tensorflow"}[model]
    )
    assert body["image"] == {
        "format": "JPEG",
        "width": 48,
        "height": 40,
        "mode": "RGB",
        "operations": [],
    }
    assert set(body["timing_ms"]) == {"decode", "queue", "inference", "total"}
    assert body["timing_ms"]["total"] >= body["timing_ms"]["inference"] > 0
    assert response.headers["x-request-id"] == body["request_id"]


def test_a_raw_body_gives_the_same_predictions_as_a_form(server: Server) -> None:
    data = coloured("green")

    responses = [
        server.predict(data),
        server.client.post("/predict", content=data, headers={"content-type": "image/png"}),
        server.client.post(
            "/predict", content=data, headers={"content-type": "application/octet-stream"}
        ),
    ]

    assert [response.status_code for response in responses] == [200, 200, 200]
    assert len({str(response.json()["predictions"]) for response in responses}) == 1


def test_the_default_model_is_the_one_of_the_repository(server: Server) -> None:
    assert server.predict(coloured()).json()["model"]["name"] == "tiny-torch"


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_top_k_is_the_number_of_predictions(server: Server, top_k: int) -> None:
    assert len(server.predict(coloured(), top_k=top_k).json()["predictions"]) == top_k


def test_a_client_may_send_its_own_request_id(server: Server) -> None:
    files = {"file": coloured()}

    named = server.client.post("/predict", files=files, headers={"X-Request-Id": "order-66.a_b"})
    forged = server.client.post("/predict", files=files, headers={"X-Request-Id": "a b\tc"})

    assert named.json()["request_id"] == named.headers["x-request-id"] == "order-66.a_b"
    assert forged.json()["request_id"] != "a b\tc"


def scores(server: Server, data: bytes, model: str) -> np.ndarray:
    response = server.predict(data, model=model, top_k=3)
    assert response.status_code == 200, response.text
    by_index = sorted(response.json()["predictions"], key=lambda p: p["index"])
    return np.array([p["score"] for p in by_index])


@pytest.mark.parametrize("model", ["tiny-torch", "tiny-keras"])
def test_the_same_pixels_get_the_same_scores_in_every_lossless_format(
    server: Server, model: str
) -> None:
    image = varied()
    expected = scores(server, encode(image, "PNG"), model)

    for kind, options in (("WEBP", {"lossless": True}), ("BMP", {}), ("TIFF", {})):
        assert (
            np.abs(scores(server, encode(image, kind, **options), model) - expected).max() < 1e-4
        ), kind


def test_the_same_image_gets_the_same_scores_in_all_eight_orientations(server: Server) -> None:
    image = varied()
    expected = scores(server, encode(image), "tiny-torch")
    # How the pixels are stored so that the orientation tag brings them back (EXIF 2.3, tag 0x0112).
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }

    for orientation, operation in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        turned = image if operation is None else image.transpose(operation)
        data = encode(turned, "PNG", exif=exif.tobytes())
        assert np.abs(scores(server, data, "tiny-torch") - expected).max() < 1e-4, orientation
        if orientation > 1:
            operations = server.predict(data).json()["image"]["operations"]
            assert f"exif_orientation_{orientation}" in operations


@pytest.mark.parametrize("model", ["tiny-torch", "tiny-keras"])
def test_an_image_gets_the_same_scores_alone_and_among_64_others(
    server: Server, model: str
) -> None:
    images = [encode(varied(seed=seed)) for seed in range(65)]
    alone = scores(server, images[32], model)

    with ThreadPoolExecutor(65) as pool:
        among = list(pool.map(lambda data: scores(server, data, model), images))

    assert np.abs(among[32] - alone).max() < 1e-3
    assert len({tuple(row.round(6)) for row in among}) > 60, "each image has its own scores"


def test_batch_results_are_in_order_and_a_bad_image_affects_no_other(server: Server) -> None:
    files = [
        ("files", ("a.png", coloured("blue"))),
        ("files", ("b.png", b"no image at all")),
        ("files", ("c.png", coloured("red"))),
        ("files", ("d.png", coloured("green")[:-40])),
    ]

    response = server.client.post("/predict/batch", files=files)

    assert response.status_code == 200, response.text
    results = response.json()["results"]
    assert [result["filename"] for result in results] == ["a.png", "b.png", "c.png", "d.png"]
    assert [results[i]["predictions"][0]["label"] for i in (0, 2)] == ["blue", "red"]
    assert [results[i]["error"]["code"] for i in (1, 3)] == [
        "unsupported_image_type",
        "unreadable_image",
    ]


def test_models_are_listed_with_their_runtimes(server: Server) -> None:
    body = server.client.get("/models").json()

    assert body["default"] == "tiny-torch"
    assert [(m["name"], m["state"], m["runtime"], m["classes"]) for m in body["models"]] == [
        ("tiny-keras", "ready", "tensorflow", 3),
        ("tiny-torch", "ready", "torchscript", 3),
    ]


def test_the_record_of_a_model_is_its_manifest(server: Server) -> None:
    body = server.client.get("/models/tiny-torch").json()

    assert body["labels"] == ["blue", "green", "red"]
    assert body["input"]["layout"] == "NHWC"
    assert body["calibration"]["temperature"] == 1.5
    assert body["files"]["model.pt"]["size"] > 0


def test_health_and_readiness(server: Server) -> None:
    assert server.client.get("/healthz").json() == {"status": "alive"}
    ready = server.client.get("/readyz").json()
    assert ready["status"] == "ready"
    assert {m["name"] for m in ready["models"]} == {"tiny-torch", "tiny-keras"}
    assert ready["refused"] == []


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/readyz",
        "/models",
        "/models/tiny-torch",
        "/models/nobody",
        "/docs",
        "/openapi.json",
    ],
)
def test_the_response_to_head_is_that_to_get_without_its_body(server: Server, path: str) -> None:
    head, get = server.client.head(path), server.client.get(path)

    assert (head.status_code, head.content) == (get.status_code, b"")
    own = ("date", "x-request-id")
    assert [field for field in head.headers.items() if field[0] not in own] == [
        field for field in get.headers.items() if field[0] not in own
    ]


def test_head_is_counted_as_head_and_allowed_wherever_get_is(server: Server) -> None:
    server.client.head("/models")

    assert (
        'http_requests_total{method="HEAD",route="/models",status="200"}'
        in server.client.get("/metrics").text
    )
    assert server.client.post("/models").headers["allow"] == "GET, HEAD"
    assert server.client.head("/predict").status_code == 405
    operations = server.client.get("/openapi.json").json()["paths"].values()
    assert {method for operation in operations for method in operation} == {"get", "post"}


def test_the_documentation_comes_from_the_service_itself(server: Server) -> None:
    page = server.client.get("/docs").text

    assert "https://" not in page
    for address in (
        part.split('"')[0] for part in page.split('src="')[1:] + page.split('href="')[1:]
    ):
        assert server.client.get(address).status_code == 200, address
    schema = server.client.get("/openapi.json").json()
    body = schema["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert body["multipart/form-data"]["schema"]["properties"]["file"]["format"] == "binary"
    assert "application/octet-stream" in body
    parameters = schema["paths"]["/predict"]["post"]["parameters"]
    names = next(p for p in parameters if p["name"] == "model")["examples"]
    assert set(names) == {"tiny-torch", "tiny-keras"}


@pytest.mark.parametrize("query", ["", "?top_k=2&model=tiny-torch", "?version=1"])
def test_the_fast_path_and_the_framework_give_the_same_response(server: Server, query: str) -> None:
    fast, usual = (
        server.client.post(
            f"/predict{way}", content=coloured(), headers={"Content-Type": "image/png"}
        )
        for way in (query, f"{query or '?'}&")  # an empty field is left to the framework
    )

    assert fast.status_code == usual.status_code == 200
    assert dict(fast.headers).keys() == dict(usual.headers).keys()
    own = {"timing_ms", "request_id"}
    assert list(fast.json()) == list(usual.json())
    assert {k: v for k, v in fast.json().items() if k not in own} == {
        k: v for k, v in usual.json().items() if k not in own
    }


def test_the_header_server_timing_has_the_times_of_the_body(server: Server) -> None:
    one = server.predict(coloured())
    several = server.client.post("/predict/batch", files=[("files", ("a", coloured()))])

    for response in (one, several):
        times = response.json()["timing_ms"]
        assert response.headers["server-timing"] == (
            f"decode;dur={times['decode']}, queue;dur={times['queue']}, "
            f"inference;dur={times['inference']}, total;dur={times['total']}"
        )
    assert "server-timing" not in server.predict(b"no image").headers
