"""Every route keeps to its OpenAPI description, whatever requests schemathesis makes of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.service.conftest import Server

EXAMPLES = "20"  # of each route and phase; `schemathesis run URL/openapi.json` makes more
# 504 is the response to a deadline of a millisecond. Clients of other servers post to paths that
# the description has for GET.
CONFIG = """
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "504"]

[[operations]]
include-name = "GET /models/{name}"
checks.unsupported_method.enabled = false
"""


def test_schemathesis_finds_nothing(server: Server, tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "--no-color"),
        *("run", f"{server.url}/openapi.json", "--checks", "all", "--seed", "1"),
        *("--max-examples", EXAMPLES, "--phases", "examples,coverage,fuzzing"),
        *("--request-timeout", "60", "--generation-database", "none"),
    ]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "generated" in done.stdout
    assert server.process.poll() is None
