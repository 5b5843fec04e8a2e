"""The page, driven by Streamlit's own AppTest with the real client over a fake transport."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
import requests
from PIL import Image
from streamlit.testing.v1 import AppTest

from frontend.client import ServiceClient
from tests.frontend.fake_service import KERAS, TORCH, FakeService, listed, problem, respond


def page(client: "ServiceClient | None") -> None:  # noqa: UP037 - see below
    # Streamlit runs the source of this function as a script without the imports of this file.
    from frontend.app import main  # noqa: PLC0415

    main(client)


def opened(fake: FakeService) -> AppTest:
    return AppTest.from_function(page, args=(fake.client(),), default_timeout=90).run()


def messages(app: AppTest) -> str:
    """All messages of the page, without the backslashes that escape Markdown."""
    texts = [element.value for element in [*app.error, *app.warning, *app.info]]
    return "\n".join(texts).replace("\\", "")


def charts(app: AppTest) -> list[str]:
    return [chart.proto.alt for chart in app.get("vega_lite_chart")] or [
        chart.proto.alt for chart in app.get("arrow_vega_lite_chart")
    ]


def tiff() -> bytes:
    out = BytesIO()
    Image.new("CMYK", (64, 48)).save(out, "TIFF")
    return out.getvalue()


def broken() -> requests.Response:
    raise requests.ConnectionError("refused")


def test_the_default_model_classifies_a_sample_at_once() -> None:
    fake = FakeService()

    app = opened(fake)

    assert not app.exception
    assert messages(app) == ""
    assert app.selectbox[0].value == "cifar10-resnet20-pytorch v1"
    assert any("airplane · 93.1 %" in element.value for element in app.markdown)
    (chart,) = charts(app)
    assert "1. airplane, 93.1 %; 2. ship, 5.0 %; 3. bird, 1.0 %" in chart
    assert "5. deer, 0.2 %" in chart
    assert {metric.label: metric.value for metric in app.metric}["Inference"] == "7.4 ms"


def test_a_redraw_sends_no_request() -> None:
    fake = FakeService()
    app = opened(fake)

    app.run()

    assert len(fake.requests_to("/predict")) == 1


def test_the_number_of_labels_is_bounded_by_the_classes() -> None:
    fake = FakeService()
    app = opened(fake)

    assert (app.number_input[0].min, app.number_input[0].max) == (1, 10)
    app.number_input[0].set_value(2).run()

    assert len(app.table[0].value) == 2


def test_of_a_model_with_three_classes_three_labels_are_requested() -> None:
    fake = FakeService(models=[listed("tiny", "pytorch", classes=3)])

    app = opened(fake)

    assert app.number_input[0].value == 3
    assert "top_k=3" in str(fake.requests_to("/predict")[0].url)


def test_another_model_is_used_when_chosen() -> None:
    app = opened(FakeService())

    app.selectbox[0].select("cifar10-resnet20-keras v1").run()

    assert "1. ship, 49.1 %" in charts(app)[0]
    assert any("91.42 % test accuracy" in caption.value for caption in app.caption)


@pytest.mark.parametrize("name", ["photo.jpg", "scan.tiff"])
def test_an_upload_is_sent_byte_by_byte_and_shown(name: str) -> None:
    fake = FakeService(operations=["exif_orientation_6", "cmyk_to_rgb"])
    app = opened(fake)

    app.file_uploader[0].upload(name, tiff(), "image/x").run()

    assert not app.exception
    assert fake.requests_to("/predict")[-1].body == tiff()
    captions = "\n".join(caption.value for caption in app.caption)
    assert "turned upright (EXIF orientation 6), CMYK converted to RGB" in captions
    assert f"**{name}**" in captions


def test_an_image_that_the_page_cannot_draw_is_still_classified() -> None:
    app = opened(FakeService())

    app.file_uploader[0].upload(
        "odd.png", b"\x89PNG that only the service can read", "image/png"
    ).run()

    assert "cannot be drawn here" in messages(app)
    assert len(charts(app)) == 1


def test_a_sample_chosen_after_an_upload_counts() -> None:
    app = opened(FakeService())
    app.file_uploader[0].upload("scan.tiff", tiff(), "image/tiff").run()

    app.button(key="sample-Frog").click().run()

    assert any("frog.jpg" in caption.value for caption in app.caption)
    assert app.file_uploader[0].value is None


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (413, "image_too_large"),
        (415, "unsupported_image_type"),
        (422, "unreadable_image"),
        (429, "queue_full"),
        (503, "worker_died"),
    ],
)
def test_a_refused_image_shows_detail_and_code_and_no_traceback(status: int, code: str) -> None:
    fake = FakeService(
        fail={
            "/predict": lambda: problem(status, code, "Expected it. Received: 'x_y'", retry_after=2)
        }
    )
    app = opened(fake)

    app.file_uploader[0].upload("report.png", b"%PDF-1.7", "image/png").run()

    assert not app.exception
    assert "Expected it. Received: 'x_y'" in messages(app)
    assert code in messages(app)
    assert "request r-7" in messages(app)
    assert any("once the service has accepted it" in caption.value for caption in app.caption)


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        (broken, "The service is away"),
        (
            lambda: problem(503, "not_ready", "Two models are loading.", retry_after=3),
            "Two models are loading.",
        ),
        (lambda: problem(503, "draining", "Going down."), "shutting down"),
        (lambda: respond(200, b"<html>", "text/html"), "not one of the service"),
    ],
    ids=["away", "loading", "draining", "another-program"],
)
def test_without_the_service_the_page_says_why_and_checks_again(fail: Any, words: str) -> None:
    fake = FakeService(fail={"/readyz": fail})

    app = opened(fake)

    assert not app.exception
    assert words in messages(app)
    assert app.button[0].label == "Check again now"
    fake.fail.clear()
    app.button[0].click().run()
    assert len(charts(app)) == 1


def test_without_a_ready_model_the_reasons_are_listed() -> None:
    refused = dict.fromkeys(
        ("runtime", "precision", "device", "classes", "accuracy", "architecture")
    )
    model = listed(
        "bent",
        "pytorch",
        state="refused",
        **refused,
        reason="model.pt: another SHA-256. Received: 'ab_c'",
    )

    app = opened(FakeService(models=[model]))

    assert not app.exception
    assert "No model is ready" in messages(app)
    assert any("another SHA-256" in caption.value for caption in app.caption)


def test_a_bad_url_names_the_variable_and_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_URL", "service:8000")

    app = AppTest.from_function(page, args=(None,), default_timeout=90).run()

    assert not app.exception
    assert "SERVICE_URL must be the address of the service" in messages(app)
    assert not app.selectbox


def compared(fake: FakeService) -> AppTest:
    app = opened(fake)
    app.session_state["view"] = "Compare models"
    return app.run()


def test_the_compare_view_uses_every_ready_model_and_shows_how_far_they_agree() -> None:
    fake = FakeService(models=[TORCH, KERAS, listed("late", "pytorch", state="loading")])

    app = compared(fake)

    assert not app.exception
    assert len(charts(app)) == 2
    assert any("The models disagree: airplane or ship" in element.value for element in app.markdown)
    metrics = {metric.label: metric.value for metric in app.metric}
    assert metrics == {
        "Same first label": "no",
        "Shared of the first 5": "100 %",
        "Largest difference (airplane)": "44.4 points",
    }
    assert sum("7.4 ms inference" in caption.value for caption in app.caption) == 2


def test_a_model_that_fails_does_not_hide_the_others() -> None:
    third = listed("third", "pytorch")
    fake = FakeService(
        models=[TORCH, KERAS, third],
        fail={KERAS["name"]: lambda: problem(503, "worker_died", "The worker ended.")},
    )

    app = compared(fake)

    assert not app.exception
    assert "The worker ended." in messages(app)
    assert len(charts(app)) == 2
    assert any("Both models say airplane" in element.value for element in app.markdown)
    assert any("2 of 3 models answered" in caption.value for caption in app.caption)


def test_one_model_cannot_be_compared_and_the_page_says_so() -> None:
    assert "comparing takes two" in messages(compared(FakeService(models=[TORCH])))


def test_a_file_name_of_markdown_stays_text() -> None:
    app = opened(FakeService())

    app.file_uploader[0].upload("![x](http://e.invalid)_a_:red[b].tif", tiff(), "image/tiff").run()

    assert not app.exception
    assert any(r"!\[x\](http\://e" in c.value or r"\!\[x\]" in c.value for c in app.caption)
