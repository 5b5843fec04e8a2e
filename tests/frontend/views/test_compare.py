from __future__ import annotations

import pytest

from tests.frontend.fake_service import KERAS, TORCH, FakeService, listed, problem
from tests.frontend.pages import drawn, messages, opened, panel


def test_labels_are_rows_models_are_columns_and_disagreement_is_said_first() -> None:
    shown = panel(opened(FakeService().client(), "compare"))

    assert (shown["state"], shown["title"]) == ("unsure", "They disagree")
    assert "cifar10-resnet20-pytorch v1 says **airplane**" in shown["text"]
    assert "the first is right in 41 % of the test pictures and the second in 43 %" in shown["text"]
    assert [model["accuracy"] for model in shown["models"]] == [
        "right for 88.7 % (88.0 to 89.3)"
    ] * 2
    first = shown["rows"][0]
    assert first["label"] == "airplane"
    assert [cell["text"] for cell in first["cells"]] == ["93.1 %", "48.7 %"]
    assert shown["foot"][0]["cells"] == ["7.4 ms", "7.4 ms"]
    assert any("do not differ beyond chance" in note for note in shown["notes"])
    assert any("0.21 apart" in note for note in shown["notes"])


def test_one_request_asks_all_models_and_a_redraw_none() -> None:
    fake = FakeService()
    app = opened(fake.client(), "compare")

    app.run()

    assert len(fake.requests_to("/compare")) == 1
    assert fake.requests_to("/predict") == []


def test_models_that_agree_are_said_to() -> None:
    models = [TORCH, listed("other", "pytorch"), listed("third", "pytorch")]

    shown = panel(opened(FakeService(models=models).client(), "compare"))

    assert (shown["state"], shown["title"]) == ("answer", "All 3 say airplane")


def test_a_model_that_is_not_sure_says_so_in_its_column_even_where_they_disagree() -> None:
    models = [TORCH, KERAS, listed("third", "pytorch")]
    shown = panel(opened(FakeService(models=models, uncertain="low_score").client(), "compare"))

    assert [model["doubt"] for model in shown["models"]] == ["not sure"] * 3
    assert shown["title"] == "They disagree"
    # Two of them say the same, so the verbs are in the plural.
    assert "cifar10-resnet20-pytorch v1 and third v1 say **airplane**, " in shown["text"]
    assert "cifar10-resnet20-keras v1 says **ship**." in shown["text"]
    assert "cifar10-resnet20-keras v1 and third v1 are not sure." in shown["text"]
    sure = panel(opened(FakeService().client(), "compare"))
    assert [model["doubt"] for model in sure["models"]] == ["", ""]
    assert "not sure" not in sure["text"]


def test_a_model_that_fails_is_named_and_does_not_hide_the_others() -> None:
    fake = FakeService(
        models=[TORCH, KERAS, listed("third", "pytorch")],
        fail={KERAS["name"]: lambda: problem(503, "worker_died", "The worker ended.")},
    )

    shown = panel(opened(fake.client(), "compare"))

    assert shown["title"] == "Both say airplane"
    assert f"{KERAS['name']} gave no answer." in shown["notes"]


def test_one_model_cannot_be_compared_and_the_page_says_so() -> None:
    fake = FakeService(models=[TORCH])

    assert panel(opened(fake.client(), "compare"))["title"] == "Pick two models or more"
    assert fake.requests_to("/compare") == []


def test_a_link_restores_the_models_and_the_sample() -> None:
    models = f"{KERAS['name']}@1,{TORCH['name']}@1"
    app = opened(FakeService().client(), "compare", models=models, sample="coffee")

    assert drawn(app)["alt"] == "A cup of coffee on a saucer with a spoon"
    assert len(panel(app)["models"]) == 2


def test_a_link_with_a_model_that_is_gone_says_so_and_the_address_is_of_the_others() -> None:
    models = f"gone@1,{KERAS['name']}@1,{TORCH['name']}@1"
    app = opened(FakeService().client(), "compare", models=models)

    assert "a model that is not ready here: gone v1." in messages(app)
    assert app.query_params["models"] == f"{TORCH['name']}@1,{KERAS['name']}@1"
    app.run()
    assert "gone" in messages(app)
    app.button_group[0].set_value([f"{KERAS['name']} v1"]).run()
    assert messages(app) == ""
    assert app.query_params["models"] == f"{KERAS['name']}@1"


def test_heat_maps_stand_side_by_side_when_wanted() -> None:
    fake = FakeService()
    app = opened(fake.client(), "compare")
    assert "heatmaps" not in panel(app)

    app.toggle[0].set_value(True).run()

    assert [each["name"] for each in panel(app)["heatmaps"]] == [
        "cifar10-resnet20-pytorch v1: airplane",
        "cifar10-resnet20-keras v1: ship",
    ]


@pytest.mark.parametrize("older", [True, False], ids=["older", "refused"])
def test_what_cannot_be_compared_has_a_sentence(older: bool) -> None:
    fake = FakeService(
        older=older,
        fail={} if older else {"/compare": lambda: problem(415, "unsupported_image_type", "No.")},
    )

    app = opened(fake.client(), "compare")

    assert not app.exception
    if older:
        assert panel(app)["title"] == "This service can't do that"
    else:
        assert "can be read here" in drawn(app)["refusal"]["title"]


def test_an_outage_keeps_the_picture() -> None:
    fake = FakeService(fail={"/readyz": lambda: problem(503, "not_ready", "Loading.")})

    app = opened(fake.client(), "compare")

    assert drawn(app)["src"]
    assert "not ready" in panel(app)["title"]
