"""The page of the results, from invented results."""

from __future__ import annotations

from pathlib import Path

from benchmarks import page
from benchmarks.models import ROOT, Model
from benchmarks.suite import CONNECTIONS, OURS, RATES, WITH_IR, Result
from bundle.format.repository import list_bundles

LARGE = Model("ResNet-50, 224 pixels", ROOT / "models", "cifar10-resnet20-keras", 1, (), batch=8)
SMALL = Model("ResNet-20, 32 pixels", ROOT / "models", "cifar10-resnet20-pytorch", 1, (), batch=8)
MODELS = {LARGE: ["openvino-int8", "source"], SMALL: ["openvino-int8"]}


def results(peers: list[str], refusals: dict[str, float]) -> dict[str, Result]:
    """One round, in which this project completes 100 requests per second and a peer 20."""

    def server(rate: float) -> Result:
        load = {
            "requests_per_second": rate,
            "latency_ms": {"p50": 1000 / rate, "p99": 2000 / rate},
            "cpu_seconds": 0.1,
            "seconds": 1.0,
        }
        return {
            "title": "a server",
            "start_s": 1.0,
            "memory_bytes": 5e8,
            "loads": {str(c): load for c in CONNECTIONS},
        }

    found: dict[str, Result] = {}
    for model, artifacts in MODELS.items():
        limit = {"forward": 120.0, "decode_and_forward": 110.0}
        for each in model.manifest.artifacts:
            found[f"limit/{model.name}/{each.id}/0"] = limit
        for artifact in artifacts:
            found[f"server/{model.name}/{OURS}:{artifact}/0"] = server(100)
        for peer in peers:
            found[f"server/{model.name}/{peer}/0"] = server(20)
            found[f"server/{model.name}/{peer}{WITH_IR}/0"] = server(80)
    for share in RATES:
        found[f"open/{LARGE.name}/{share:g}"] = {
            "rate": 100 * share,
            "peak": 100,
            "requests_per_second": 100 * min(share, 1),
            "latency_ms": {"p50": 10.0, "p99": 20.0, "max": 30.0},
            "refusal_ms": refusals,
            "statuses": {"200": 10},
            "cpu_seconds": 0.1,
            "seconds": 1.0,
        }
    load = {"requests_per_second": 90.0, "peak": 100.0, "statuses": {"429": 7}}
    found[f"stubborn/{LARGE.name}"] = load
    for peer in peers:
        found[f"neighbour/{peer}/0"] = {"title": peer, "requests_per_second": 9.0}
    found["start/0"] = {"first": 3.0, "cached": 1.5}
    return found


def written(folder: Path, peers: list[str], **refusals: float) -> str:
    settings = {
        "rounds": 1,
        "seconds": 1.0,
        "peers": peers,
        "processor": "some",
        "cores": 2,
        "commit": "0000000",
    }
    return page.write(settings, results(peers, refusals), MODELS, LARGE, folder).read_text()


def test_what_was_not_measured_is_neither_met_nor_missed(tmp_path: Path) -> None:
    text = written(tmp_path, [])

    assert "nan" not in text.lower().split()
    assert "nanx" not in text
    assert "nan ms" not in text
    lines = [
        line
        for line in text.splitlines()
        if "against the best peer" in line or "refusals, median | at" in line
    ]
    assert len(lines) == 7
    assert all(line.endswith("| not measured |  |") for line in lines), lines
    assert "How the peers were tuned" not in text


def test_against_a_peer_there_are_figures(tmp_path: Path) -> None:
    text = written(tmp_path, ["mosec"], p50=30.0)

    what = "ResNet-50 int8, 8 connections, against the best peer with the same IR"
    assert f"| {what} | at least 1x | 1.25x | met |" in text
    assert "refusals, median | at most 5 ms | 30.0 ms | **missed** |" in text
    assert "not measured" not in text
    assert "How the peers were tuned" in text


def test_the_accuracy_that_auto_gives_up_is_reported_for_every_shipped_model(
    tmp_path: Path,
) -> None:
    text = written(tmp_path, [])

    lines = [line for line in text.splitlines() if "gives up" in line]
    names = [reference.name for reference in list_bundles(ROOT / "models")]
    assert names
    assert all(name in line for name, line in zip(names, lines, strict=True)), lines
    assert all(line.endswith("| met |") for line in lines), lines
