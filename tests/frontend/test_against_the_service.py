"""The page and its client against the real service, over a real socket, with tiny models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from frontend.client import Refused, ServiceClient, open_session
from tests.bundles import colour_picture, png
from tests.frontend.servers import serve_models
from tests.frontend.test_page import charts, messages, page


@pytest.fixture(scope="module")
def client(both_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceClient]:
    with (
        serve_models(both_root, tmp_path_factory.mktemp("logs")) as url,
        open_session(url) as session,
    ):
        yield ServiceClient(session, url)


def opened(client: ServiceClient) -> AppTest:
    return AppTest.from_function(page, args=(client,), default_timeout=90).run()


def test_both_models_are_ready_and_the_default_is_first(client: ServiceClient) -> None:
    model_list = client.models()

    assert client.readiness().status == "ready"
    assert [model.framework for model in model_list.ready] == ["pytorch", "tensorflow"]
    assert all(model.classes == 3 and model.accuracy == 1.0 for model in model_list.ready)


@pytest.mark.parametrize("label", ["blue", "green", "red"])
def test_an_uploaded_image_gets_its_label(client: ServiceClient, label: str) -> None:
    app = opened(client)

    app.file_uploader[0].upload(f"{label}.png", png(colour_picture(label)), "image/png").run()

    assert not app.exception
    assert messages(app) == ""
    assert f"1. {label}, " in charts(app)[0]
    assert any("PNG · 40 by 48 pixels · RGB" in caption.value for caption in app.caption)


def test_both_frameworks_agree_about_an_image(client: ServiceClient) -> None:
    app = opened(client)
    app.file_uploader[0].upload("green.png", png(colour_picture("green")), "image/png").run()

    app.session_state["view"] = "Compare models"
    app.run()

    assert not app.exception
    assert len(charts(app)) == 2
    assert any("Both models say green" in element.value for element in app.markdown)
    assert {metric.label: metric.value for metric in app.metric}["Shared of the first 3"] == "100 %"


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"%PDF-1.7 not a picture", 415, "unsupported_image_type"),
        (png(colour_picture("red"))[:300], 422, "unreadable_image"),
        (png(colour_picture("red")) + bytes(20_000_000), 413, "request_too_large"),
    ],
    ids=["not-an-image", "truncated", "too-large"],
)
def test_the_error_text_of_the_service_reaches_the_visitor(
    client: ServiceClient, data: bytes, status: int, code: str
) -> None:
    app = opened(client)

    app.file_uploader[0].upload("bad.png", data, "image/png").run()

    assert not app.exception
    assert code in messages(app)
    with pytest.raises(Refused) as refused:
        client.predict(data, model="tiny-torch", version=1, top_k=3)
    assert refused.value.problem.status == status
    assert str(refused.value).replace("\n", " ") in messages(app)


def test_an_unknown_model_is_a_404_that_names_the_existing_ones(client: ServiceClient) -> None:
    with pytest.raises(Refused, match="tiny-torch") as refused:
        client.predict(png(colour_picture("red")), model="unknown", version=1, top_k=3)

    assert refused.value.problem.status == 404
