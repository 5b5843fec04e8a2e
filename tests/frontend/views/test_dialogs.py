from __future__ import annotations

from streamlit.testing.v1 import AppTest

from tests.frontend.fake_records import LABELS
from tests.frontend.fake_service import FakeService
from tests.frontend.pages import opened, panel


def act(app: AppTest, action: str) -> AppTest:
    """Press a button of the panel."""
    app.session_state["dialog"] = action
    return app.run()


def test_right_is_told_to_the_service_once() -> None:
    fake = FakeService()
    app = opened(fake.client())

    act(app, "right")

    body = fake.requests_to("/feedback")[-1].body
    assert b'"right": true' in (body or b"")
    assert b'"predicted": "airplane"' in (body or b"")
    assert [action["id"] for action in panel(app)["actions"]] == ["link", "code"]


def test_wrong_asks_which_of_the_labels_is_right() -> None:
    app = act(opened(FakeService().client()), "wrong")

    assert app.selectbox[-1].options == ["Something else", *LABELS]


def test_without_feedback_nobody_is_asked() -> None:
    app = opened(FakeService(feedback=False).client())

    assert [action["id"] for action in panel(app)["actions"]] == ["link", "code"]


def test_the_code_has_the_model_and_the_file_of_the_answer() -> None:
    app = act(opened(FakeService().client(), sample="coffee"), "code")

    curl, python, javascript = (block.value for block in app.code)
    for code in (curl, python, javascript):
        assert "cifar10-resnet20-pytorch" in code
        assert "coffee.jpg" in code


def test_the_code_of_a_set_prints_the_set() -> None:
    app = act(opened(FakeService().client(), coverage="0.9"), "code")

    curl, python, javascript = (block.value for block in app.code)
    assert "coverage=0.9" in curl
    assert 'response.json()["prediction_set"]["labels"]' in python
    assert ".prediction_set.labels" in javascript
