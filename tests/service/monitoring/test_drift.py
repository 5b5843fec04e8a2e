"""What a model predicts, and what it predicted on validation images: both are metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundle.format.baseline import SCORE_BOUNDS
from service.monitoring.scrape import of_predictions
from tests.service.conftest import Server
from tests.service.images import encode, varied
from tests.service.models.fakes import Machine, running
from tests.service.monitoring.test_metrics import MODEL, Scrape, scrape


def classes(now: Scrape) -> dict[str, float]:
    found: dict[str, float] = {
        label: now("resnet_predicted_class_total", **MODEL, **{"class": label})
        for label in ("blue", "green", "red")
    }
    return found


def test_every_image_that_is_answered_counts_with_its_best_class_and_score(
    caching_server: Server,
) -> None:
    client, before = caching_server.client, scrape(caching_server)
    one, two, three = (encode(varied(seed=seed)) for seed in (300, 301, 302))

    first = caching_server.predict(one).json()["predictions"][0]
    cached = caching_server.predict(one).json()["predictions"][0]
    files = [("files", ("a", two)), ("files", ("b", b"no image"))]
    batch = client.post("/predict/batch", files=files).json()["results"][0]["predictions"][0]
    other = client.post("/invocations", content=three, headers={"content-type": "image/png"})
    (best, *_) = other.json()

    after = scrape(caching_server)
    expected = [(each["label"], each["score"]) for each in (first, cached, batch, best)]
    counted = {label: after_ - classes(before)[label] for label, after_ in classes(after).items()}
    assert sum(counted.values()) == 4
    assert all(counted[label] == [each for each, _ in expected].count(label) for label in counted)
    name = "resnet_top1_score"
    total = after(f"{name}_sum", **MODEL) - before(f"{name}_sum", **MODEL)
    assert total == pytest.approx(sum(score for _, score in expected), abs=1e-4)
    assert after(f"{name}_count", **MODEL) - before(f"{name}_count", **MODEL) == 4


def test_the_baseline_of_the_bundle_has_the_bounds_of_the_scores(caching_server: Server) -> None:
    now = scrape(caching_server)

    shares = [now("resnet_baseline_score_ratio", **MODEL, le=str(le)) for le in SCORE_BOUNDS]
    assert shares == [*[0.0] * 8, 0.25, 1.0, 1.0, 1.0]
    bounds = {
        dict(labels)["le"] for name, labels in now.samples if name == "resnet_top1_score_bucket"
    }
    assert bounds == {*map(str, SCORE_BOUNDS), "+Inf"}
    of_blue = now("resnet_baseline_class_ratio", **MODEL, **{"class": "blue"})
    assert of_blue == 0.75


@pytest.mark.anyio
@pytest.mark.parametrize(("max_classes", "names"), [(3, 3), (2, 1)])
async def test_only_models_of_few_classes_are_counted_by_class(
    tmp_path: Path, max_classes: int, names: int
) -> None:
    async with running(Machine(1, tmp_path)) as (model, _):
        metrics = list(of_predictions([model], {}, max_classes))

    assert len([metric for metric in metrics if metric.samples]) == names


@pytest.mark.anyio
async def test_a_bundle_without_a_baseline_has_none_in_the_metrics(tmp_path: Path) -> None:
    machine = Machine(1, tmp_path)
    machine.write_bundle(baseline=None)
    async with running(machine) as (model, _):
        metrics = {metric.name: metric.samples for metric in of_predictions([model], {}, 3)}

    assert [name for name, samples in metrics.items() if samples] == ["resnet_predicted_class"]
    assert [sample.value for sample in metrics["resnet_predicted_class"]] == [0, 0, 0]
