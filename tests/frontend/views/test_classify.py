from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from frontend.samples import SAMPLES
from tests.frontend import fake_service
from tests.frontend.fake_records import card
from tests.frontend.fake_service import FakeService, listed, problem, respond
from tests.frontend.pages import broken, drawn, opened, panel, sent, tiff, upload


def test_the_answer_stands_first_with_bars_for_all_and_what_its_score_means() -> None:
    app = opened(FakeService().client())

    shown = panel(app)
    assert (shown["state"], shown["title"]) == ("answer", "airplane")
    assert shown["text"] == "**93.1 %** · quite sure"
    assert [(bar["label"], bar["text"]) for bar in shown["bars"][:2]] == [
        ("airplane", "93.1 %"),
        ("ship", "5.0 %"),
    ]
    assert shown["bars"][-1]["label"] == "5 others"
    assert sum(bar["score"] for bar in shown["bars"]) == pytest.approx(1)
    assert "Of 100 test pictures with this score, about 92 are right" in shown["meaning"]
    assert "knows 10 things: airplane, automobile" in shown["knows"]
    assert "10.3 ms · cifar10-resnet20-pytorch v1" in shown["summary"]


def test_too_few_test_pictures_with_such_a_score_are_said_to_be_too_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def few(name: str) -> dict[str, Any]:
        found = card(name)
        found["evaluations"][0]["reliability"][9]["samples"] = 29
        return found

    monkeypatch.setattr(fake_service, "card", few)

    shown = panel(opened(FakeService().client()))

    assert shown["text"] == "**93.1 %**"
    assert shown["meaning"].startswith("Too few test pictures had such a score")


def test_an_older_service_gives_the_answer_without_what_it_does_not_know() -> None:
    app = opened(FakeService(older=True).client())

    shown = panel(app)
    assert not app.exception
    assert (shown["title"], shown["text"], shown["meaning"]) == ("airplane", "**93.1 %**", "")
    assert [action["id"] for action in shown["actions"]] == ["link", "code"]
    assert drawn(app)["views"] == {}


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("none_of_the_classes", "Nothing that this model knows fits well"),
        ("low_score", "Several answers fit"),
    ],
)
def test_an_answer_that_is_not_sure_says_so_first(reason: str, words: str) -> None:
    shown = panel(opened(FakeService(uncertain=reason).client()))

    assert (shown["state"], shown["title"]) == ("unsure", "Not sure")
    assert words in shown["text"]
    assert "**airplane**" in shown["text"]


def test_a_redraw_sends_no_picture_again() -> None:
    fake = FakeService()
    app = opened(fake.client())

    app.run()

    assert len(fake.requests_to("/predict")) == 1
    assert len(fake.requests_to("/models/cifar10-resnet20-pytorch/card")) == 1


def test_an_upload_is_sent_byte_by_byte_and_drawn_once_it_is_accepted() -> None:
    fake = FakeService(operations=["exif_orientation_6", "cmyk_to_rgb"])
    app = upload(opened(fake.client()), "scan.tiff", tiff())

    assert not app.exception
    assert fake.requests_to("/predict")[-1].body == tiff()
    assert drawn(app)["alt"] == "scan.tiff"
    assert drawn(app)["src"].startswith("data:image/")
    assert ["Read as", "turned upright, CMYK converted to RGB"] in panel(app)["details"]
    # A picture of the visitor can't be in a link.
    assert "sample" not in app.query_params


def test_a_picture_that_cannot_be_drawn_is_still_answered() -> None:
    app = upload(opened(FakeService().client()), "odd.png", b"only the service can read this")

    assert "can't be drawn here" in drawn(app)["undrawn"]
    assert panel(app)["title"] == "airplane"


@pytest.mark.parametrize(
    ("status", "code", "title"),
    [
        (413, "image_too_large", "This picture is too large"),
        (415, "unsupported_image_type", "This is not a picture that can be read here"),
        (422, "unreadable_image", "This picture can't be read"),
    ],
)
def test_a_refused_file_clears_the_answer_and_says_why_in_its_place(
    status: int, code: str, title: str
) -> None:
    fake = FakeService()
    app = opened(fake.client())
    fake.fail["/predict"] = lambda: problem(status, code, "Expected it. Received: 'x_y'")

    upload(app, "report.png", b"%PDF-1.7")

    assert not app.exception
    assert drawn(app)["refusal"]["title"] == title
    assert "Expected it. Received: 'x_y'" in drawn(app)["refusal"]["reference"]
    assert "request r-7" in drawn(app)["refusal"]["reference"]
    assert "src" not in drawn(app)
    assert panel(app)["state"] == "empty"
    assert "bars" not in panel(app)


def test_a_file_that_the_browser_refused_is_not_sent_and_no_old_answer_stays() -> None:
    fake = FakeService()
    app = opened(fake.client())
    app.session_state["image"] = None

    app.run()

    assert len(fake.requests_to("/predict")) == 1
    assert panel(app)["state"] == "empty"


@pytest.mark.parametrize(
    ("fail", "title"),
    [
        (broken, "The service is away"),
        (lambda: problem(429, "queue_full", "Full.", retry_after=2), "Too many pictures"),
        (lambda: problem(504, "deadline_exceeded", "Late."), "takes too long"),
        (lambda: problem(503, "draining", "Going down."), "going down"),
        (lambda: problem(503, "not_ready", "Loading."), "not ready"),
        (lambda: problem(500, "internal_error", "A defect."), "gave no answer"),
    ],
    ids=["away", "busy", "slow", "draining", "loading", "defect"],
)
def test_an_outage_keeps_the_picture_and_has_a_sentence_of_its_own(fail: Any, title: str) -> None:
    fake = FakeService()
    app = opened(fake.client())
    fake.fail["/predict"] = fail

    upload(app, "photo.tiff", tiff())

    assert not app.exception
    assert title in panel(app)["title"]
    assert panel(app)["text"].startswith("Your picture is kept. ")
    assert "again by itself" in panel(app)["text"]
    assert "make" not in panel(app)["text"].split()
    fake.fail.clear()
    app.session_state["failed"].clear()
    app.run()
    assert fake.requests_to("/predict")[-1].body == tiff()
    assert panel(app)["title"] == "airplane"


def test_a_picture_that_was_accepted_is_still_drawn_in_an_outage() -> None:
    fake = FakeService()
    app = upload(opened(fake.client()), "scan.tiff", tiff())
    fake.fail["/readyz"] = broken

    app.run()

    assert drawn(app)["src"]
    # Not another one: the service's limits protect the page too.
    upload(app, "other.tiff", b"not accepted yet")
    assert "src" not in drawn(app)
    assert "undrawn" not in drawn(app)


@pytest.mark.parametrize(
    ("fail", "title"),
    [
        (broken, "The service is away"),
        (lambda: problem(503, "not_ready", "Loading.", retry_after=3), "not ready"),
        (lambda: respond(200, b"<html>", "text/html"), "could not be understood"),
    ],
    ids=["away", "loading", "another-program"],
)
def test_without_the_service_the_sample_is_drawn_beside_the_reason(fail: Any, title: str) -> None:
    fake = FakeService(fail={"/readyz": fail})

    app = opened(fake.client())

    assert not app.exception
    assert title in panel(app)["title"]
    assert drawn(app)["src"]
    assert "Your picture" not in panel(app)["text"]
    fake.fail.clear()
    assert panel(app.run())["title"] == "airplane"


def test_without_a_ready_model_the_page_says_where_the_reason_is() -> None:
    app = opened(FakeService(models=[listed("bent", "pytorch", state="refused")]).client())

    assert panel(app)["title"] == "No model is ready"


@pytest.mark.parametrize("data", [b"\xff\xd8", b""], ids=["bytes", "empty"])
def test_what_the_browser_sends_becomes_the_picture(data: bytes) -> None:
    app = AppTest.from_function(take, args=(sent("a.jpg", data, 3),)).run()

    assert app.session_state["image"].data == data
    assert app.session_state["serial"] == 3


def test_without_data_there_is_no_picture() -> None:
    app = AppTest.from_function(take, args=(sent("a.jpg", None),)).run()

    assert app.session_state["image"] is None


def take(file: "dict[str, object]") -> None:  # noqa: UP037
    # Streamlit runs the source of this function without the imports of this file.
    from frontend.choice import take_file  # noqa: PLC0415

    take_file(file)


def test_each_sample_can_be_chosen_by_its_name() -> None:
    samples = drawn(opened(FakeService().client()))["samples"]

    assert [sample["name"] for sample in samples] == [sample.name for sample in SAMPLES]
