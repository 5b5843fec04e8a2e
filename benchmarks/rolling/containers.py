"""Three containers behind HAProxy get a new model version and a new image under load.

    .venv/bin/python -m benchmarks.rolling.containers                    # 5,000 requests

It needs a Docker engine with compose and the images of `make containers`; BIND_HOST, SERVICE_PORT
and the other variables of docker-compose.yml apply. Clients send requests all the time. First the
version 2 of the model appears in the repository, then three containers of an image with another
label take the place of the first three, and so on. The exit code is 1 if any response is not 200
with the right label.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import requests
import typer
from rich.console import Console

from benchmarks.models import ROOT, resnet20
from benchmarks.rolling.instances import Clients

CONTAINERS = 3
CLIENTS = 4
COMPOSE = ("compose", "-f", "docker-compose.yml", "-f", "docker/compose.proxy.yml")
UP = ("up", "--detach", "--wait", "--no-build", "--no-recreate")
URL = f"http://127.0.0.1:{os.environ.get('SERVICE_PORT') or 8000}"

console = Console(highlight=False)


def main(
    wanted: Annotated[int, typer.Option("--requests", help="Requests to send.", min=1)] = 5000,
) -> None:
    """Run, and print what the clients saw."""
    model = resnet20()
    # Docker's daemon reads it as another user.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        os.environ |= {"MODELS_DIR": folder, "SERVICE_WATCH_S": "1"}
        add_version(model.bundle, Path(folder), 1)
        try:
            compose(*UP, "--scale", f"service={CONTAINERS}", "proxy")
            clients = Clients(f"{URL}/predict", wanted)
            with ThreadPoolExecutor(CLIENTS) as pool:
                running = [pool.submit(clients.ask) for _ in range(CLIENTS)]
                changer = threading.Thread(target=change, args=(clients, model.bundle, folder))
                changer.start()
                changer.join()
                for client in running:
                    client.result()
        finally:
            compose("down")
    for what, count in clients.seen.most_common():
        console.print(f"{count:8} {what}", markup=False)
    sys.exit(set(clients.seen) != {"right"})


def change(clients: Clients, bundle: Path, folder: str) -> None:
    """Bring new versions and images until there have been enough requests; at least one each."""
    number = 1
    while number == 1 or not clients.finished.is_set():
        number += 1
        add_version(bundle, Path(folder), number)
        while served_version() != number:
            time.sleep(0.5)
        console.print(f"version {number} after {clients.seen.total()} requests")
        replace_containers(number)
        console.print(f"image {number} after {clients.seen.total()} requests")


def add_version(bundle: Path, repository: Path, number: int) -> None:
    """A copy of the bundle as another version, which appears as a whole."""
    folder = repository / bundle.parent.name
    folder.mkdir(exist_ok=True)
    new = repository / f".{number}"
    shutil.copytree(bundle, new)
    manifest = json.loads((new / "manifest.json").read_text())
    (new / "manifest.json").write_text(json.dumps(manifest | {"version": number}))
    new.rename(folder / str(number))


def served_version() -> int:
    """The version that answers."""
    image = resnet20().images[0].read_bytes()
    headers = {"Content-Type": "image/jpeg"}
    answer = requests.post(f"{URL}/predict", image, headers=headers, timeout=120)
    return int(answer.json()["model"]["version"])


def replace_containers(number: int) -> None:
    """Twice as many with a new image; when they are healthy, the old ones stop."""
    old = compose("ps", "--quiet", "service").split()
    tag = "resnet-service/service"
    recipe = f"FROM {tag}\nLABEL org.opencontainers.image.revision={number}\n"
    docker("build", "--quiet", "--tag", tag, "-", text=recipe)
    compose(*UP, "--scale", f"service={2 * CONTAINERS}", "proxy")
    for each in old:
        docker("stop", each)
        docker("rm", each)


def compose(*arguments: str) -> str:
    """The output of `docker compose` with the proxy."""
    return docker(*COMPOSE, *arguments)


def docker(*arguments: str, text: str = "") -> str:
    """The output of `docker`, which gets `text` as input."""
    command = ["docker", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, check=False, capture_output=True, text=True, input=text
    )
    if done.returncode:
        console.print(done.stderr, style="red", markup=False)
        done.check_returncode()
    return done.stdout


if __name__ == "__main__":
    typer.run(main)
