"""Links, models without heat maps, and options of Classify."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from frontend.samples import SAMPLES
from tests.frontend.fake_service import KERAS, TORCH, FakeService, listed, problem
from tests.frontend.pages import broken, drawn, messages, opened, panel, tiff, upload


def test_a_link_restores_model_sample_and_view() -> None:
    link = {"model": KERAS["name"], "version": "1", "sample": "rocket", "view": "heat"}
    fake = FakeService()

    app = opened(fake.client(), **link)

    assert panel(app)["title"] == "ship"
    assert drawn(app)["alt"] == "A rocket on its launch pad at dusk"
    assert drawn(app)["view"] == "heat"
    assert drawn(app)["heat"]["values"][0][0] == 1
    assert dict(app.query_params.items()) == link


def test_a_link_to_what_is_gone_gives_the_default_and_says_so() -> None:
    app = opened(FakeService().client(), model="gone", version="2", sample="no_such", view="gone")

    assert panel(app)["title"] == "airplane"
    assert drawn(app)["samples"][0]["chosen"]
    assert "a model that is not ready here: gone v2." in messages(app)
    assert "a sample that does not exist: no_such." in messages(app)
    assert dict(app.query_params.items()) == {
        "model": TORCH["name"],
        "version": "1",
        "sample": SAMPLES[0].name,
    }
    # Until something else is chosen.
    app.selectbox[0].select(f"{KERAS['name']} v1").run()
    assert "model" not in messages(app)
    upload(app, "mine.tiff", tiff())
    assert "model" not in messages(app)


def test_a_link_without_a_version_has_its_model() -> None:
    app = opened(FakeService().client(), model=KERAS["name"])

    assert panel(app)["title"] == "ship"
    assert messages(app) == ""
    assert app.query_params["version"] == "1"


def test_a_model_without_a_heat_map_does_not_offer_one() -> None:
    fake = FakeService(fail={"/explain": lambda: problem(422, "no_heatmap", "None.")})

    app = opened(fake.client(), view="heat")

    assert list(drawn(app)["views"]) == ["picture", "seen"]
    assert drawn(app)["view"] == "picture"


def test_an_outage_of_the_heat_map_keeps_the_answer_and_the_switch() -> None:
    fake = FakeService(fail={"/explain": broken})

    app = opened(fake.client(), view="heat")

    assert not app.exception
    assert panel(app)["title"] == "airplane"
    assert "heat" in drawn(app)["views"]
    fake.fail.clear()
    assert drawn(app.run())["view"] == "heat"


def test_of_a_model_with_three_classes_three_labels_are_asked_for() -> None:
    fake = FakeService(models=[listed("tiny", "pytorch", classes=3)])

    app = opened(fake.client())

    assert app.number_input[0].value == 3
    query = parse_qs(urlsplit(str(fake.requests_to("/predict")[0].url)).query)
    assert query["top_k"] == ["3"]


def test_the_whole_picture_is_asked_for_where_that_was_measured() -> None:
    service = FakeService()
    app = opened(service.client())
    assert "crop" not in str(service.requests_to("/predict")[-1].url)
    assert "right for 50.0 % of them so, and for 75.0 % with the middle" in app.toggle[0].help

    app.toggle[0].set_value(True).run()

    assert "crop=whole" in str(service.requests_to("/predict")[-1].url)
    assert list(drawn(app)["views"]) == ["picture", "seen"]
    assert app.query_params["crop"] == "whole"
    again = opened(service.client(), crop="whole")
    assert again.toggle[0].value is True
    assert not opened(FakeService(older=True).client()).toggle


def test_a_set_of_labels_is_asked_for_where_it_was_measured() -> None:
    service = FakeService()
    app = opened(service.client())
    sets = app.selectbox[1]
    assert sets.options == ["off", "80 %", "90 %", "99 %"]
    assert "coverage" not in str(service.requests_to("/predict")[-1].url)
    assert panel(app)["set"] == ""

    sets.select("0.9").run()

    assert "coverage=0.9" in str(service.requests_to("/predict")[-1].url)
    assert panel(app)["set"] == (
        "In 90 % of the cases the right label is one of these 2: airplane, ship. "
        "For 10,000 test pictures it was so in 90.0 %."
    )
    assert app.query_params["coverage"] == "0.9"
    assert opened(service.client(), coverage="0.9").selectbox[1].value == "0.9"
    unknown = opened(service.client(), coverage="0.85")
    assert unknown.selectbox[1].value == ""
    assert "coverage" not in unknown.query_params


@pytest.mark.parametrize(
    ("size", "sentence"),
    [(0, "Für 99 % ist keine Klasse wahrscheinlich genug."), (1, "Klasse diese: airplane.")],
    ids=["empty", "one"],
)
def test_a_set_may_have_one_label_or_none(size: int, sentence: str) -> None:
    app = opened(FakeService(in_set=size).client(), coverage="0.99", lang="de")

    assert sentence in panel(app)["set"]


def test_a_model_without_measured_sets_offers_none() -> None:
    assert len(opened(FakeService(older=True).client(), coverage="0.9").selectbox) == 1


def test_an_outage_of_the_card_keeps_the_answer() -> None:
    fake = FakeService(fail={f"/models/{TORCH['name']}/card": broken})

    app = opened(fake.client())

    assert not app.exception
    assert panel(app)["title"] == "airplane"
    fake.fail.clear()
    assert len(app.run().selectbox) == 2
