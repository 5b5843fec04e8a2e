"""`make containers`: build both images, start them with compose, check them, stop them.

    MODELS_DIR=./models   the model repository that is mounted
    SERVICE_PORT, FRONTEND_PORT, BIND_HOST and the other variables of docker-compose.yml

Needs a Docker engine with compose. Each line of the report is one check; the exit code is 1 if one
fails. The containers are removed at the end, the images stay; ARGS=--no-build uses existing images.
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
SAMPLE = ROOT / "frontend/samples/coffee.jpg"
SERVICE = f"http://127.0.0.1:{os.environ.get('SERVICE_PORT') or 8000}"
PAGE = f"http://127.0.0.1:{os.environ.get('FRONTEND_PORT') or 8501}"
RESTART_TIMEOUT_S = 600.0

out = Console(highlight=False, soft_wrap=True)


class CheckFailed(Exception):
    """A container does not behave as required; the text says how."""


def main() -> int:
    """Run all checks. Returns 0, 1 if a check fails, 2 without an engine or a model."""
    os.chdir(ROOT)
    if docker("version", check=False).returncode:
        out.print("make containers: no Docker engine responds; start one, or see `docker version`")
        return 2
    if not any(Path(os.environ.get("MODELS_DIR", "models")).glob("*/*/manifest.json")):
        out.print(
            "make containers: there is no model to serve; set MODELS_DIR to a model repository"
        )
        return 2
    if "--no-build" not in sys.argv:
        timed("build", lambda: compose("build", quiet=False))
    failed = 0
    try:
        timed("start until healthy", lambda: compose("up", "--wait", "--no-build"))
        for check in (
            models_predict,
            page_responds,
            not_root,
            root_is_read_only,
            models_are_read_only,
            no_tools_included,
            only_own_extras_installed,
            a_killed_service_restarts,
        ):
            failed += not passed(check)
        seconds = timed("stop", lambda: compose("stop"))
        failed += seconds > 15
        failed += not passed(exited_cleanly)
    except subprocess.CalledProcessError as exc:
        out.print(f"[red]failed[/]  {escape(' '.join(exc.cmd))}\n{escape(exc.stderr or '')}")
        compose("logs", "--tail", "40", quiet=False)
        failed += 1
    finally:
        compose("down")
    for name in ("service", "frontend"):
        size = int(docker("image", "inspect", "-f", "{{.Size}}", f"resnet-service/{name}").stdout)
        out.print(f"  image resnet-service/{name}: {size / 1e6:,.0f} MB")
    return 1 if failed else 0


def models_predict() -> str:
    """Every listed model classifies a sample image."""
    found = []
    for model in json.loads(get(f"{SERVICE}/models"))["models"]:
        best = predict(model["name"])["predictions"][0]
        found.append(f"{model['name']}: {best['label']} {best['score']:.3f}")
    if not found:
        raise CheckFailed("no model is listed")
    return ", ".join(found)


def page_responds() -> str:
    """The page is healthy and is served."""
    if b"<title>" not in get(PAGE) or get(f"{PAGE}/_stcore/health") != b"ok":
        raise CheckFailed("no page")
    return PAGE


def not_root() -> str:
    """No process in either container runs as root or can become root."""
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
                raise CheckFailed(
                    f"{name}: {fields['Name']} runs as {fields['Uid']}, CapEff {fields['CapEff']}"
                )
    return "uid 10001, no capabilities, no new privileges"


def root_is_read_only() -> str:
    """Only /tmp is writable."""
    for name in ("service", "frontend"):
        inside(name, "python", "-c", "open('/tmp/x', 'w').close()")
        for path in ("/x", "/app/x", "/app/.venv/x", "/usr/local/x", "/etc/x"):
            refuses(name, path)
    return "writes outside /tmp are refused"


def models_are_read_only() -> str:
    """The mounted repository is read-only."""
    refuses("service", "/models/x")
    return "a write to /models is refused"


def refuses(name: str, path: str) -> None:
    """Writing `path` fails because the file system is read-only, not for lack of permission."""
    program = (
        f"import errno, sys\ntry: open({path!r}, 'w')\n"
        "except OSError as e: sys.exit(0 if e.errno == errno.EROFS else 3)\nsys.exit(4)"
    )
    if compose("exec", "-T", name, "python", "-c", program, check=False).returncode:
        raise CheckFailed(f"{name}: {path} is not on a read-only file system")


def no_tools_included() -> str:
    """No compiler, test runner, linter or installer is in the images."""
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
            raise CheckFailed(f"{name} has {', '.join(sorted(unwanted)) or 'a compiler'}")
    return "no uv, compiler, pytest, ruff, mypy, training code"


def only_own_extras_installed() -> str:
    """Each image has its own extras only."""
    probe = "import importlib.util as u, sys; sys.exit(any(u.find_spec(n) for n in sys.argv[1:]))"
    inside("service", "python", "-c", probe, "streamlit", "pandas", "frontend")
    inside("frontend", "python", "-c", probe, "torch", "tensorflow", "fastapi", "bundle", "service")
    return "no streamlit in the service, no framework in the page"


def a_killed_service_restarts() -> str:
    """The page stays up while the service is down; restarted, it predicts as before."""
    before = predict()["predictions"]
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
    while True:
        try:
            get(f"{SERVICE}/readyz")
            break
        except NotYet as exc:
            if time.monotonic() - begin > RESTART_TIMEOUT_S:
                raise CheckFailed(
                    f"not ready again within {RESTART_TIMEOUT_S:.0f} s: {exc}"
                ) from exc
            time.sleep(0.2)
    seconds = time.monotonic() - begin
    if predict()["predictions"] != before:
        raise CheckFailed("its predictions differ from those before")
    probe = (
        "import os, urllib.request as r; "
        "print(r.urlopen(os.environ['SERVICE_URL'] + '/healthz', timeout=2).status)"
    )
    inside("frontend", "python", "-c", probe)
    return f"ready again after {seconds:.1f} s, the same predictions"


def exited_cleanly() -> str:
    """Both processes exited after SIGTERM, not by SIGKILL after the grace period."""
    codes = {
        n: docker("inspect", "-f", "{{.State.ExitCode}}", container(n)).stdout.strip()
        for n in ("service", "frontend")
    }
    if any(code not in ("0", "143") for code in codes.values()):
        raise CheckFailed(f"exit codes {codes}")
    return f"exit codes {codes}"


def predict(model: str = "") -> dict[str, Any]:
    """The response for the sample image, sent as a form."""
    boundary = uuid.uuid4().hex
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{SAMPLE.name}"'
        "\r\nContent-Type: image/jpeg\r\n\r\n"
    )
    body = head.encode() + SAMPLE.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    request = urllib.request.Request(  # noqa: S310 - http, to this machine
        f"{SERVICE}/predict" + (f"?model={model}" if model else ""),
        data=body,
        headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            result: dict[str, Any] = json.loads(response.read())
    except urllib.error.HTTPError as exc:
        raise CheckFailed(
            f"{model}: {exc.code} {exc.read().decode(errors='replace')[:300]}"
        ) from exc
    return result


def passed(check: Callable[[], str]) -> bool:
    """Run one check and print its line. Returns whether it passed."""
    title = (check.__doc__ or "").strip()
    try:
        out.print(f"[green]passed[/]  {title} [dim]{escape(check())}[/]")
    except (CheckFailed, NotYet, subprocess.CalledProcessError) as exc:
        out.print(f"[red]FAILED[/]  {title} {escape(str(exc))}")
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
    """Run `docker`; its output is captured if `quiet`, else shown."""
    command = ["docker", *arguments]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=quiet, text=True, check=check
    )


if __name__ == "__main__":
    sys.exit(main())
