"""Every route keeps to its OpenAPI description, whatever requests schemathesis makes of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.service.conftest import Server

EXAMPLES = "20"  # of each route and phase; `schemathesis run URL/openapi.json` makes more
# 504 is the response to a deadline of a millisecond. A schema can't say that bytes are an image,
# nor how many classes a model has.
CONFIG = """
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "504"]
positive_data_acceptance.expected-statuses = ["2xx", "404", "415", "422", "429", "504"]
"""


def test_schemathesis_finds_nothing(server: Server, tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "--no-color"),
        *("run", f"{server.url}/openapi.json", "--checks", "all"),
        # Clients of other servers post to paths that are described for GET.
        *("--exclude-checks", "unsupported_method", "--seed", "1"),
        *("--max-examples", EXAMPLES, "--phases", "examples,coverage,fuzzing"),
        *("--request-timeout", "60", "--generation-database", "none"),
    ]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "generated" in done.stdout
    assert server.process.poll() is None
