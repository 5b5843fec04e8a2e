from __future__ import annotations

from tests.frontend.fake_service import TORCH, FakeService, listed, problem
from tests.frontend.pages import messages, opened
from tests.frontend.views.test_models import texts


def test_a_ready_service_shows_its_models_and_its_figures() -> None:
    app = opened(FakeService().client(), "status")

    assert not app.exception
    assert "The service is ready" in messages(app)
    metrics = {metric.label: metric.value for metric in app.metric}
    assert metrics["Pictures answered"] == "40"
    assert metrics["Refused"] == "2"
    assert metrics["Restarts"] == "1"
    assert metrics["Half are faster than"] == "14.5 ms"
    assert list(app.table[0].value["Waiting now"]) == ["3"]


def test_a_refused_model_has_its_reason() -> None:
    unknown = dict.fromkeys(("runtime", "precision", "device", "classes", "accuracy"))
    bent = listed("bent", "pytorch", "refused", reason="model.pt: another SHA-256", **unknown)

    app = opened(FakeService(models=[TORCH, bent]).client(), "status")

    assert "model.pt: another SHA-256" in texts(app)


def test_figures_that_are_kept_elsewhere_are_said_to_be() -> None:
    fake = FakeService(fail={"/metrics": lambda: problem(404, "not_found", "On another port.")})

    app = opened(fake.client(), "status")

    assert not app.exception
    assert "does not show its figures" in texts(app)


def test_a_service_that_is_away_is_said_to_be() -> None:
    fake = FakeService(fail={"/readyz": lambda: problem(503, "draining", "Going down.")})

    assert "going down" in messages(opened(fake.client(), "status"))
