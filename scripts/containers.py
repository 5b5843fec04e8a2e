"""`make containers`: build both images, start them with compose, hold them to their promises, stop them.

    MODELS_DIR=./models   the model repository that is mounted
    SERVICE_PORT, FRONTEND_PORT, BIND_HOST and what else docker-compose.yml reads

Needs a Docker engine with compose. Each line of the report is one promise; the exit code is 1 when one is broken.
The containers are stopped at the end, the images stay; ARGS=--no-build takes the images that are there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from waiting import NotYet, get

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "frontend/samples/cat.jpg"
SERVICE = f"http://127.0.0.1:{os.environ.get('SERVICE_PORT') or 8000}"
PAGE = f"http://127.0.0.1:{os.environ.get('FRONTEND_PORT') or 8501}"
HEAL_S = 600.0

out = Console(highlight=False, soft_wrap=True)


class BrokenPromise(Exception):
    """What a container does although it must not, or the other way round."""


def main() -> int:
    """Run everything. Returns 0, 1 when a promise is broken, 2 without an engine."""
    os.chdir(ROOT)
    if docker("version", check=False).returncode:
        out.print("make containers: no Docker engine answers; start one, or see `docker version`")
        return 2
    if not any(Path(os.environ.get("MODELS_DIR", "models")).glob("*/*/manifest.json")):
        out.print(
            "make containers: there is no model to serve; name a repository that holds one with MODELS_DIR"
        )
        return 2
    if "--no-build" not in sys.argv:
        timed("build", lambda: compose("build", quiet=False))
    broken = 0
    try:
        timed("start until healthy", lambda: compose("up", "--wait", "--no-build"))
        for check in (
            models_predict,
            page_answers,
            not_root,
            root_is_read_only,
            models_are_read_only,
            no_tools_inside,
            nothing_of_the_other_inside,
            a_killed_service_comes_back,
        ):
            broken += not kept(check)
        seconds = timed("stop", lambda: compose("stop"))
        broken += seconds > 15
        broken += not kept(ended_cleanly)
    except subprocess.CalledProcessError as exc:
        out.print(f"[red]failed[/]  {escape(' '.join(exc.cmd))}\n{escape(exc.stderr or '')}")
        compose("logs", "--tail", "40", quiet=False)
        broken += 1
    finally:
        compose("down")
    for name in ("service", "frontend"):
        size = int(docker("image", "inspect", "-f", "{{.Size}}", f"resnet-service/{name}").stdout)
        out.print(f"  image resnet-service/{name}: {size / 1e6:,.0f} MB")
    return 1 if broken else 0


def models_predict() -> str:
    """Every model that is listed answers for a sample picture."""
    answers = []
    for model in json.loads(get(f"{SERVICE}/models"))["models"]:
        answer = predict(model["name"])
        best = answer["predictions"][0]
        answers.append(f"{model['name']}: {best['label']} {best['score']:.3f}")
    if not answers:
        raise BrokenPromise("no model is listed")
    return ", ".join(answers)


def page_answers() -> str:
    """The page's server is healthy and sends the page."""
    if b"<title>" not in get(PAGE) or get(f"{PAGE}/_stcore/health") != b"ok":
        raise BrokenPromise("no page")
    return PAGE


def not_root() -> str:
    """No process in either container belongs to root, and none can become it."""
    for name in ("service", "frontend"):
        for status in (
            inside(name, "cat", "/proc/1/status"),
            inside(name, "cat", "/proc/self/status"),
        ):
            fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            if (
                fields["Uid"].split()[0] != "10001"
                or int(fields["CapEff"], 16)
                or fields["NoNewPrivs"] != "1"
            ):
                raise BrokenPromise(
                    f"{name}: {fields['Name']} runs as {fields['Uid']}, CapEff {fields['CapEff']}"
                )
    return "uid 10001, no capabilities, no new privileges"


def root_is_read_only() -> str:
    """Nothing can be written but /tmp."""
    for name in ("service", "frontend"):
        inside(name, "python", "-c", "open('/tmp/x', 'w').close()")
        for path in ("/x", "/app/x", "/app/.venv/x", "/usr/local/x", "/etc/x"):
            refuses(name, path)
    return "only /tmp takes a file"


def models_are_read_only() -> str:
    """The mounted repository can't be written."""
    refuses("service", "/models/x")
    return "a file in /models is refused"


def refuses(name: str, path: str) -> None:
    """Writing `path` fails because the file system is read-only, not only because of the user's rights."""
    program = f"import errno, sys\ntry: open({path!r}, 'w')\nexcept OSError as e: sys.exit(0 if e.errno == errno.EROFS else 3)\nsys.exit(4)"
    if compose("exec", "-T", name, "python", "-c", program, check=False).returncode:
        raise BrokenPromise(f"{name}: {path} is not on a read-only file system")


def no_tools_inside() -> str:
    """No compiler, test runner, linter or installer of ours."""
    for name in ("service", "frontend"):
        found = inside(
            name,
            "sh",
            "-c",
            "command -v uv gcc pytest ruff mypy git || true; ls /app /app/.venv/bin",
        )
        unwanted = {"uv", "pytest", "ruff", "mypy", "training", "tests", "playwright"} & set(
            found.split()
        )
        if unwanted or "/gcc" in found:
            raise BrokenPromise(f"{name} holds {', '.join(sorted(unwanted)) or 'a compiler'}")
    return "no uv, compiler, pytest, ruff, mypy, training code"


def nothing_of_the_other_inside() -> str:
    """Each image holds its own extras only."""
    probe = "import importlib.util as u, sys; sys.exit(any(u.find_spec(n) for n in sys.argv[1:]))"
    inside("service", "python", "-c", probe, "streamlit", "pandas", "frontend")
    inside("frontend", "python", "-c", probe, "torch", "tensorflow", "fastapi", "bundle", "service")
    return "no streamlit in the service, no framework in the page"


def a_killed_service_comes_back() -> str:
    """The page stays up while the service is gone, compose starts it again, and it predicts as before."""
    before = predict()["predictions"]
    crash = "import os; os.kill(int(open('/proc/1/task/1/children').read().split()[0]), 9)"  # 1 is the init
    begin = time.monotonic()
    compose(
        "exec", "-T", "service", "python", "-c", crash, check=False
    )  # it may end with its container
    try:
        get(f"{SERVICE}/readyz")
    except NotYet:
        pass
    else:
        raise BrokenPromise("the service still answers")
    get(PAGE)
    asked = "import os, urllib.request as r; print(r.urlopen(os.environ['SERVICE_URL'] + '/healthz', timeout=2).status)"
    if compose("exec", "-T", "frontend", "python", "-c", asked, check=False).returncode == 0:
        raise BrokenPromise("the page's container still reaches the service")
    while True:
        try:
            get(f"{SERVICE}/readyz")
            break
        except NotYet as exc:
            if time.monotonic() - begin > HEAL_S:
                raise BrokenPromise(f"not ready again within {HEAL_S:.0f} s: {exc}") from exc
            time.sleep(0.2)
    seconds = time.monotonic() - begin
    if predict()["predictions"] != before:
        raise BrokenPromise("it answers otherwise than before")
    inside("frontend", "python", "-c", asked)
    return f"ready again after {seconds:.1f} s, the same answer"


def ended_cleanly() -> str:
    """Both processes ended by themselves after SIGTERM, not by SIGKILL after the grace period."""
    codes = {
        n: docker("inspect", "-f", "{{.State.ExitCode}}", container(n)).stdout.strip()
        for n in ("service", "frontend")
    }
    if any(code not in ("0", "143") for code in codes.values()):
        raise BrokenPromise(f"exit codes {codes}")
    return f"exit codes {codes}"


def predict(model: str = "") -> dict[str, Any]:
    """The service's answer for the sample picture, sent as a form."""
    edge = uuid.uuid4().hex
    head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{SAMPLE.name}"\r\nContent-Type: image/jpeg\r\n\r\n'
    body = head.encode() + SAMPLE.read_bytes() + f"\r\n--{edge}--\r\n".encode()
    request = urllib.request.Request(  # noqa: S310 - http, to this machine
        f"{SERVICE}/predict" + (f"?model={model}" if model else ""),
        data=body,
        headers={"Content-Type": f"multipart/form-data; boundary={edge}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            result: dict[str, Any] = json.loads(answer.read())
    except urllib.error.HTTPError as exc:
        raise BrokenPromise(
            f"{model}: {exc.code} {exc.read().decode(errors='replace')[:300]}"
        ) from exc
    return result


def kept(check: Callable[[], str]) -> bool:
    """Run one check and print its line. Returns whether the promise is kept."""
    promise = (check.__doc__ or "").strip()
    try:
        out.print(f"[green]kept[/]    {promise} [dim]{escape(check())}[/]")
    except (BrokenPromise, NotYet, subprocess.CalledProcessError) as exc:
        out.print(f"[red]BROKEN[/]  {promise} {escape(str(exc))}")
        return False
    return True


def timed(what: str, step: Callable[[], object]) -> float:
    """Run a step and print how many seconds it took."""
    begin = time.monotonic()
    step()
    seconds = time.monotonic() - begin
    out.print(f"  {what}: {seconds:.1f} s")
    return seconds


def inside(name: str, *command: str) -> str:
    """The output of a command in the running container of a compose service."""
    return compose("exec", "-T", name, *command).stdout


def container(name: str) -> str:
    """The id of the container of a compose service, running or not."""
    return compose("ps", "--all", "--quiet", name).stdout.strip()


def compose(
    *arguments: str, check: bool = True, quiet: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run `docker compose`."""
    return docker("compose", *arguments, check=check, quiet=quiet)


def docker(
    *arguments: str, check: bool = True, quiet: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run `docker`, its output kept or shown."""
    command = ["docker", *arguments]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=quiet, text=True, check=check
    )


if __name__ == "__main__":
    sys.exit(main())
