from __future__ import annotations

import base64

import requests
from streamlit.testing.v1 import AppTest

from frontend.samples import SAMPLES
from tests.frontend.fake_service import KERAS, FakeService, problem
from tests.frontend.pages import drawn, opened


def batch(app: AppTest, *files: tuple[str, bytes | None]) -> AppTest:
    """Send these files, all there are, as the browser does."""
    run = app.session_state["many-run"]
    run.total, run.batch = len(files), 1
    run.waiting = [
        {"path": path, "data": None if data is None else base64.b64encode(data).decode()}
        for path, data in files
    ]
    return app.run()


def broken() -> requests.Response:
    raise requests.ConnectionError("refused")


def test_each_picture_has_its_answer_and_only_a_thumbnail_is_kept() -> None:
    fake = FakeService()
    photo = SAMPLES[0].read()

    app = batch(opened(fake.client(), "many"), ("cat/1.jpg", photo), ("airplane/2.jpg", photo))

    assert not app.exception
    run = app.session_state["many-run"]
    assert [(each.path, each.label, each.truth) for each in run.pictures] == [
        ("cat/1.jpg", "airplane", "cat"),
        ("airplane/2.jpg", "airplane", "airplane"),
    ]
    assert run.waiting == []
    assert all(len(each.thumbnail or b"") < 20_000 for each in run.pictures)
    assert [each.copies for each in run.pictures] == [1, 1]
    assert any("50.0 % right" in element.value for element in app.markdown)
    assert drawn(app, "many")["received"] == 1
    assert [tile["kind"] for tile in drawn(app, "grid")["pictures"]] == ["wrong", ""]


def test_a_folder_that_is_no_label_is_named() -> None:
    photo = SAMPLES[0].read()
    app = opened(FakeService().client(), "many")

    batch(app, ("dogs/boxer/1.jpg", photo), ("dogs/cat/2.jpg", photo))

    (caption,) = app.caption
    assert caption.value.endswith("so it says nothing about what is right: “boxer”.")
    app.session_state["many-run"].pictures = app.session_state["many-run"].pictures[1:]
    assert not app.run().caption


def test_a_file_that_is_refused_does_not_stop_the_others() -> None:
    fake = FakeService()
    fake.fail["/predict"] = lambda: problem(415, "unsupported_image_type", "No.")

    app = batch(opened(fake.client(), "many"), ("a.txt", b"text"), ("huge.jpg", None))

    tiles = drawn(app, "grid")["pictures"]
    assert [tile["kind"] for tile in tiles] == ["refused", "refused"]
    assert tiles[1]["note"] == "This picture is too large"


def test_an_outage_keeps_what_waits_and_goes_on() -> None:
    fake = FakeService()
    app = opened(fake.client(), "many")
    fake.fail["/predict"] = broken

    batch(app, ("1.jpg", SAMPLES[0].read()))

    run = app.session_state["many-run"]
    assert (run.pictures, len(run.waiting), run.received) == ([], 1, 0)
    assert run.trouble == "The service is away"
    fake.fail.clear()
    run.trouble = ""
    app.run()
    assert [each.label for each in run.pictures] == ["airplane"]


def test_a_second_model_shows_where_they_disagree() -> None:
    app = opened(FakeService().client(), "many")
    app.selectbox[1].select(f"{KERAS['name']} v1").run()

    batch(app, ("1.jpg", SAMPLES[0].read()))

    assert drawn(app, "grid")["pictures"][0]["note"] == "other model: ship"
