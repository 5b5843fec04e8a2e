"""How containers start, stop and come back: the checks of `make containers` that take time."""

from __future__ import annotations

import threading
import time

from container_client import (
    PAGE,
    RESTART_TIMEOUT_S,
    SERVICE,
    CheckFailed,
    predict,
    until_ready,
)
from engine import alone, compose, container, docker, inside
from waiting import NotYet, get

WITH_MODELS = "resnet-service/service:models"
CLIENTS = 8  # that send requests while the service stops


def an_image_with_models_answers_alone() -> str:
    """The image with the models predicts, without a volume or a setting, and starts fast."""
    times = []
    for compiled in ("", "/compiled"):
        options = [f"--volume={compiled}", f"--env=SERVICE_COMPILED_DIR={compiled}"]
        begin = time.monotonic()
        with alone(WITH_MODELS, *(options if compiled else ())) as (name, url):
            times.append(until_ready(url, begin))
            predict(url)
            if compiled:
                docker("stop", name)
                begin = time.monotonic()
                docker("start", name)
                address = docker("port", name, "8000/tcp").stdout.split()[0]
                times.append(until_ready(f"http://{address}", begin))
    return (
        f"ready {times[0]:.1f} s after `docker run`, {times[2]:.1f} s with the compiled networks "
        f"of an earlier start (which took {times[1]:.1f} s)"
    )


def missing_frameworks_are_named() -> str:
    """Asked for artifacts of PyTorch and TensorFlow, the service says which images run them."""
    wanted = ["service-torch", "service-tensorflow"]
    with alone(WITH_MODELS, "--env", "SERVICE_RUNTIME=source") as (name, _):
        deadline = time.monotonic() + RESTART_TIMEOUT_S
        log = ""
        while not all(f"run the image {image}." in log for image in wanted):
            if time.monotonic() > deadline:
                raise CheckFailed(f"its log: {log}")
            time.sleep(0.2)
            both = docker("logs", name)
            log = both.stdout + both.stderr
    return f"names {' and '.join(wanted)}"


def a_killed_service_restarts() -> str:
    """The page stays up while the service is down; restarted, it predicts as before."""
    before = predict(SERVICE)["predictions"]
    # Process 1 is the init, its child the service. The command may end with its container.
    crash = "import os; os.kill(int(open('/proc/1/task/1/children').read().split()[0]), 9)"
    begin = time.monotonic()
    compose("exec", "-T", "service", "python", "-c", crash, check=False)
    try:
        get(f"{SERVICE}/readyz")
    except NotYet:
        pass
    else:
        raise CheckFailed("the service still responds")
    get(PAGE)
    seconds = until_ready(SERVICE, begin)
    if predict(SERVICE)["predictions"] != before:
        raise CheckFailed("its predictions differ from those before")
    probe = (
        "import os, urllib.request as r; "
        "print(r.urlopen(os.environ['SERVICE_URL'] + '/healthz', timeout=2).status)"
    )
    inside("frontend", probe)
    return f"ready again after {seconds:.1f} s, the same predictions"


def stopping_loses_nothing() -> str:
    """`docker stop` under load: every request that was sent before is answered."""
    answers: list[tuple[float, str]] = []  # when it was sent, what was wrong
    stopped = threading.Event()

    def send() -> None:
        while not stopped.is_set():
            sent = time.monotonic()
            try:
                predict(SERVICE)
                answers.append((sent, ""))
            except (CheckFailed, OSError) as exc:
                answers.append((sent, str(exc) or type(exc).__name__))

    clients = [threading.Thread(target=send) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        deadline = time.monotonic() + 60
        while len(answers) < 5 * CLIENTS and time.monotonic() < deadline:
            time.sleep(0.05)
        begin = time.monotonic()
        compose("stop", "service")
        seconds = time.monotonic() - begin
    finally:
        stopped.set()
        for client in clients:
            client.join()
    before = [problem for sent, problem in answers if sent < begin]
    failed = [problem for problem in before if problem]
    if failed or len(before) < CLIENTS:
        raise CheckFailed(f"{len(failed)} of {len(before)} lost: {failed[:3]}")
    return f"{len(before)} requests answered, stopped after {seconds:.1f} s"


def exited_cleanly() -> str:
    """Both processes exited after SIGTERM, not by SIGKILL after the grace period."""
    codes = {
        n: docker("inspect", "-f", "{{.State.ExitCode}}", container(n)).stdout.strip()
        for n in ("service", "frontend")
    }
    if any(code not in ("0", "143") for code in codes.values()):
        raise CheckFailed(f"exit codes {codes}")
    return f"exit codes {codes}"
