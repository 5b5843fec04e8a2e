from __future__ import annotations

from streamlit.testing.v1 import AppTest

from tests.frontend.fake_service import KERAS, FakeService, problem
from tests.frontend.pages import messages, opened


def texts(app: AppTest) -> str:
    found = [*app.title, *app.header, *app.subheader, *app.markdown, *app.caption]
    return "\n".join(element.value for element in found).replace("\\", "")


def test_the_card_has_accuracy_errors_reliability_speed_and_limits() -> None:
    app = opened(FakeService().client(), "models")

    assert not app.exception
    assert app.title[0].value == "cifar10-resnet20-pytorch v1"
    metrics = {metric.label: metric.value for metric in app.metric}
    assert metrics["Right on test pictures"] == "88.7 %"
    assert metrics["One picture takes"] == "0.9 ms"
    assert "88.0 % to 89.3 %" in texts(app)
    assert "photos from elsewhere do worse" in texts(app)
    assert "Licence: Apache-2.0" in texts(app)
    alts = [chart.proto.alt for chart in app.get("vega_lite_chart")]
    assert len([alt for alt in alts if alt]) == 2
    assert [next(iter(table.value["label"])) for table in app.table if "label" in table.value] == [
        "airplane"
    ]


def test_the_model_of_the_address_is_shown() -> None:
    app = opened(FakeService().client(), "models", model=KERAS["name"], version="1")

    assert app.title[0].value == "cifar10-resnet20-keras v1"


def test_a_bundle_without_a_card_is_described_as_far_as_it_can_be() -> None:
    app = opened(FakeService(older=True).client(), "models")

    assert not app.exception
    assert "No evaluation of this model is recorded" in messages(app)
    assert "right for 91.6 % of its test pictures" in texts(app)


def test_without_the_service_the_view_says_why() -> None:
    fake = FakeService(fail={"/readyz": lambda: problem(503, "not_ready", "Loading.")})

    assert "not ready" in messages(opened(fake.client(), "models"))
