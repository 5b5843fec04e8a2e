"""The page and its client against the real service, over a real socket, with tiny models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from frontend.client import ServiceClient, open_session
from frontend.errors import Refused
from tests.bundles import colour_picture, png
from tests.frontend.pages import drawn, messages, opened, panel, upload
from tests.frontend.servers import serve_models


@pytest.fixture(scope="module")
def client(both_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceClient]:
    with (
        serve_models(both_root, tmp_path_factory.mktemp("logs")) as url,
        open_session(url) as session,
    ):
        yield ServiceClient(session, url)


def test_both_models_are_ready_and_the_default_is_first(client: ServiceClient) -> None:
    model_list = client.models()

    assert client.readiness().status == "ready"
    assert [model.framework for model in model_list.ready] == ["pytorch", "tensorflow"]
    assert all(model.classes == 3 and model.accuracy == 1.0 for model in model_list.ready)


@pytest.mark.parametrize("label", ["blue", "green", "red"])
def test_an_uploaded_image_gets_its_label(client: ServiceClient, label: str) -> None:
    app = upload(opened(client), f"{label}.png", png(colour_picture(label)))

    assert not app.exception
    assert panel(app)["bars"][0]["label"] == label
    assert ["Picture", panel(app)["details"][0][1]] == panel(app)["details"][0]
    assert "PNG · 40 by 48 pixels · RGB" in panel(app)["details"][0][1]
    assert "knows 3 things" in panel(app)["knows"]


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"%PDF-1.7 not a picture", 415, "unsupported_image_type"),
        (png(colour_picture("red"))[:300], 422, "unreadable_image"),
        (png(colour_picture("red")) + bytes(20_000_000), 413, "request_too_large"),
        (b"", 400, "malformed_request"),
    ],
    ids=["not-an-image", "truncated", "too-large", "empty"],
)
def test_the_error_text_of_the_service_reaches_the_visitor(
    client: ServiceClient, data: bytes, status: int, code: str
) -> None:
    app = upload(opened(client), "bad.png", data)

    assert not app.exception
    assert code in drawn(app)["refusal"]["reference"]
    with pytest.raises(Refused) as refused:
        client.predict(data, model="tiny-torch", version=1, top_k=3)
    assert refused.value.problem.status == status
    assert str(refused.value) in drawn(app)["refusal"]["reference"]


def test_an_unknown_model_is_a_404_that_names_the_existing_ones(client: ServiceClient) -> None:
    with pytest.raises(Refused, match="tiny-torch") as refused:
        client.predict(png(colour_picture("red")), model="unknown", version=1, top_k=3)

    assert refused.value.problem.status == 404


def test_the_status_view_reads_the_metrics_of_the_service(client: ServiceClient) -> None:
    client.predict(png(colour_picture("red")), model="tiny-torch", version=1, top_k=3)

    app = opened(client, "status")

    assert "The service is ready" in messages(app)
    metrics = {metric.label: metric.value for metric in app.metric}
    assert int(metrics["Pictures answered"]) >= 1
    assert "ms" in metrics["Half are faster than"]
