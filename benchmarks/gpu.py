"""The service on a GPU against itself on the CPU: the tables of docs/gpu.md.

    .venv/bin/python -m benchmarks.gpu                 # prints them; needs the environment alone
    .venv/bin/python -m benchmarks.gpu --write         # puts them into the page
    .venv/bin/python -m benchmarks.gpu --device cpu    # the CPU against itself, to try the program

The shipped ResNet-50 gets its artifacts in half precision, measured on both devices. Its source
artifact answers photos on the CPU; each artifact that runs on the device answers the same photos,
and then a load. Exit status 1: there is no GPU, or too many photos get another class.
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import requests
import typer
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from benchmarks.load import Load
from benchmarks.models import BUILD, ROOT, Model, resnet50
from benchmarks.ours import Service, serving
from benchmarks.peers.running import NotRunning
from benchmarks.rows import lines
from benchmarks.suite import WARMUP_S
from bundle.acceleration.accelerate import accelerate
from bundle.acceleration.measure import Acceleration, hardware_name, measured_devices
from bundle.errors import BundleError
from bundle.format.manifest import read_manifest

PAGE = ROOT / "docs/gpu.md"
# The photos among the page's samples that show a class of ImageNet.
SAMPLES = [
    ROOT / f"frontend/samples/{name}.jpg"
    for name in ("coffee", "flower", "palace", "rocket", "tabby-cat")
]
CONNECTIONS = (1, 8, 32, 128)
EQUAL = 0.995  # share of photos with the same best class
CLIENTS = 8  # that post the photos, so that batches form
TIMEOUT_S = 300.0
AGREEMENT = ("artifact", "photos", "same best class", "largest difference of a score", "served as")
SPEED = (
    *("artifact", "connections", "images/s", "median, ms", "99 % within, ms", "refused (429)"),
    *("images per batch", "decoding, share of decoding and inference"),
)

Answer = Mapping[str, float]  # scores by label, the best first
console = Console(highlight=False, width=200)


@dataclass(frozen=True)
class Found:
    """What one artifact did on the device."""

    artifact: str
    choice: str  # why it is served, and what runs otherwise than it should
    answers: Sequence[Answer]
    loads: Mapping[int, Mapping[str, float]]  # by connections: see `load`


def main(
    device: Annotated[Literal["cuda", "cpu"], typer.Option(help="What runs the model.")] = "cuda",
    photos: Annotated[
        Path | None, typer.Option(help="A folder of photos; default: parts of five samples.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Photos to compare.")] = 400,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of each load.")] = 10.0,
    instances: Annotated[int, typer.Option(min=1, help="Processes of the model.")] = 1,
    write: Annotated[bool, typer.Option("--write", help="Write the tables into the page.")] = False,
) -> None:
    """Compare the answers with those of the CPU, and measure images/s end to end."""
    if device not in measured_devices():
        typer.echo(
            "There is no CUDA device. Expected an NVIDIA GPU with its driver, or --device cpu to "
            f"try the program. Received: --device {device}",
            err=True,
        )
        raise typer.Exit(1)
    posted = list(files(photos, count))
    try:
        model = halved()
        with serving(model, "source", TIMEOUT_S, device="cpu") as service:
            expected = answers(service, posted)
        results = [
            found(model, artifact.id, device, posted, seconds, instances)
            for artifact in model.manifest.artifacts
            if artifact.format == "torchscript" and artifact.speed(device)
        ]
    except (BundleError, NotRunning) as exc:
        typer.echo(str(exc), err=True)
        raise typer.Exit(1) from exc
    tables = {"agreement": agreement(expected, results), "speed": speed(results)}
    for name, table in tables.items():
        console.print(f"{name}, {hardware_name(device)}\n{table}\n", markup=False)
    if write:
        PAGE.write_text(written(PAGE.read_text(), device, hardware_name(device), tables))
    if not results or min(equal(expected, each.answers) for each in results) < EQUAL:
        typer.echo(f"Expected the same best class for {EQUAL:.1%} of the photos.", err=True)
        raise typer.Exit(1)


def files(folder: Path | None, count: int) -> Iterator[bytes]:
    """At most `count` photos of a folder, or parts of the samples, drawn with a fixed seed."""
    if folder is not None:
        found = sorted(
            path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg")
        )
        yield from (path.read_bytes() for path in found[:count])
        return
    random = np.random.default_rng(0)
    samples = [Image.open(path).convert("RGB") for path in SAMPLES]
    for number in range(count):
        sample = samples[number % len(samples)]
        width, height = (int(side * random.uniform(0.6, 1)) for side in sample.size)
        left, top = (
            int(random.integers(0, whole - part + 1))
            for whole, part in zip(sample.size, (width, height), strict=True)
        )
        part = sample.crop((left, top, left + width, top + height))
        content = io.BytesIO()
        part.save(content, "JPEG", quality=90)
        yield content.getvalue()


def halved() -> Model:
    """The shipped ResNet-50 with its artifacts in half precision, measured on this machine."""
    model = resnet50()
    repository = BUILD / "gpu"
    shutil.rmtree(repository, ignore_errors=True)
    options = Acceleration(precisions=("bf16", "fp16"))
    with console.status("measuring") as status:
        done = accelerate(model.bundle, repository, options, progress=status.update)
    for reason in done.left_out:
        console.print(f"left out: {reason}", markup=False)
    version = read_manifest(done.path).version
    return dataclasses.replace(model, repository=repository, version=version)


def found(
    model: Model,
    artifact: str,
    device: str,
    photos: Sequence[bytes],
    seconds: float,
    instances: int,
) -> Found:
    """Serve an artifact on the device, post the photos, and then each load."""
    with serving(model, artifact, TIMEOUT_S, device=device, instances=str(instances)) as service:
        about = requests.get(f"http://{service.address}/models/{model.name}", timeout=60).json()
        return Found(
            artifact,
            about["choice"],
            answers(service, photos),
            {number: load(service, model, number, seconds) for number in CONNECTIONS},
        )


def answers(service: Service, photos: Sequence[bytes]) -> list[Answer]:
    """The scores of each photo."""

    def post(photo: bytes) -> Answer:
        response = requests.post(
            service.url,
            photo,
            headers={"Content-Type": "image/jpeg"},
            timeout=TIMEOUT_S,
        )
        response.raise_for_status()
        return {each["label"]: each["score"] for each in response.json()["predictions"]}

    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(post, photos))


def load(service: Service, model: Model, connections: int, seconds: float) -> dict[str, float]:
    """A closed loop, and from the metrics what the model's process did during it."""
    wanted = Load(
        service.url, [*map(str, model.images)], connections, seconds=seconds, warmup_s=WARMUP_S
    )
    before = sums(service)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", json.dumps(dataclasses.asdict(wanted))],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    if "200" not in report["statuses"]:
        raise NotRunning(
            f"No request over {connections} connections was answered in {seconds:g} s. "
            "Expected a longer load: --seconds."
        )
    passed = {name: value - before.get(name, 0.0) for name, value in sums(service).items()}
    return {
        "rate": report["requests_per_second"],
        "p50": report["latency_ms"]["p50"],
        "p99": report["latency_ms"]["p99"],
        "refused": report["statuses"].get("429", 0) / sum(report["statuses"].values()),
        "batch": passed["images"] / passed["batches"],
        "decoding": passed["decode"] / (passed["decode"] + passed["inference"]),
    }


def sums(service: Service) -> dict[str, float]:
    """Images, batches, and seconds of decoding and inference so far."""
    text = requests.get(f"http://{service.address}/metrics", timeout=60).text
    samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
    names = {"resnet_batch_images_sum": "images", "resnet_batch_images_count": "batches"}
    return {
        each.labels.get("stage", names.get(each.name, "")): each.value
        for each in samples
        if each.name in {*names, "resnet_stage_duration_seconds_sum"}
    }


def equal(expected: Sequence[Answer], received: Sequence[Answer]) -> float:
    """The share of photos with the same best class."""
    pairs = [*zip(expected, received, strict=True)]
    return sum(next(iter(one)) == next(iter(other)) for one, other in pairs) / len(pairs)


def difference(expected: Sequence[Answer], received: Sequence[Answer]) -> float:
    """The largest difference of the score of a class that is in both answers."""
    return max(
        abs(one[label] - other[label])
        for one, other in zip(expected, received, strict=True)
        for label in one.keys() & other.keys()
    )


def agreement(expected: Sequence[Answer], results: Sequence[Found]) -> str:
    """How far the answers agree with those of the source artifact on the CPU."""
    return lines(
        AGREEMENT,
        [
            [
                each.artifact,
                str(len(expected)),
                f"{equal(expected, each.answers):.1%}",
                f"{difference(expected, each.answers):.1e}",
                each.choice,
            ]
            for each in results
        ],
    )


def speed(results: Sequence[Found]) -> str:
    """Images per second and latency, end to end."""
    return lines(
        SPEED,
        [
            [
                each.artifact,
                str(connections),
                f"{found['rate']:,.0f}",
                f"{found['p50']:.1f}",
                f"{found['p99']:.1f}",
                f"{found['refused']:.0%}",
                f"{found['batch']:.1f}",
                f"{found['decoding']:.0%}",
            ]
            for each in results
            for connections, found in each.loads.items()
        ],
    )


def written(page: str, device: str, hardware: str, tables: Mapping[str, str]) -> str:
    """The page with the tables of a device; once it was CUDA, its first line says on which."""
    parts = {f"{device} {name}": table for name, table in tables.items()}
    parts[f"{device} hardware"] = f"Measured on: {hardware}."
    if device == "cuda":
        parts["first line"] = f"Run on one GPU: {hardware} ([the figures](#on-cuda))."
    for name, text in parts.items():
        mark = rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)"
        page, replaced = re.subn(mark, rf"\g<1>{text}\g<2>", page, flags=re.DOTALL)
        if replaced != 1:
            raise ValueError(f"The page has {replaced} parts {name!r}. Expected one.")
    return page


if __name__ == "__main__":
    typer.run(main)
