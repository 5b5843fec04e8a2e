"""The page as a whole, driven by Streamlit's own AppTest with the real client over a fake."""

from __future__ import annotations

import pytest

from tests.frontend.fake_service import FakeService
from tests.frontend.pages import drawn, messages, opened, panel


def test_the_first_view_answers_about_a_sample_at_once() -> None:
    app = opened(FakeService().client())

    assert not app.exception
    assert panel(app)["title"] == "airplane"
    assert drawn(app, "corner")["ready"]


def test_a_bad_url_names_the_variable_and_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_URL", "service:8000")

    app = opened(None)

    assert not app.exception
    assert "not set up" in messages(app)
    assert "SERVICE_URL must be the address of the service" in app.code[0].value
    assert not app.selectbox


def test_the_language_of_the_address_counts() -> None:
    app = opened(FakeService().client(), lang="de")

    assert drawn(app)["words"]["choose"] == "Wählen …"
    assert panel(app)["text"] == "**93,1 %** · ziemlich sicher"
    assert app.query_params["lang"] == "de"
    assert drawn(app, "corner")["language"] == "de"
