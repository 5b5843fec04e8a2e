"""`python -m service keys new`: what it prints makes a client."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from service.access.command import PREFIX, main
from service.access.keys import Keys
from service.settings import Settings
from tests.service.conftest import environment


def test_the_lines_for_the_file_make_a_client_with_the_key_that_was_shown(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    command = [sys.executable, "-m", "service", "keys", "new"]
    options = ["--requests-per-s", "5", "--burst-requests", "10", "--weight", "3", "--admin"]
    shown = []
    with path.open("w") as file:
        for arguments in ([*options, "shop.eu"], ["--bytes-per-s", "1e6", "mobile"]):
            done = subprocess.run(
                [*command, *arguments],
                env=environment(),
                stdout=file,
                stderr=subprocess.PIPE,
                text=True,
                check=True,
            )
            shown.append(done.stderr.strip().rpartition(" ")[2])

    keys = Keys(Settings(api_keys_file=path))

    shop, mobile = [keys.check(f"Bearer {key}", None) for key in shown]
    assert (shop.name, shop.weight, shop.admin) == ("shop.eu", 3, True)
    assert (mobile.name, mobile.weight, mobile.admin) == ("mobile", 1, False)
    assert all(key.startswith(PREFIX) and len(key) >= 40 for key in shown)
    assert shown[0] not in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["new", "Shop"], "'Shop'"),
        (["new", "shop", "--weight", "0"], "--weight"),
        (["new", "shop", "--burst-bytes", "5"], "set bytes_per_s, too"),
        (["new"], "name"),
        ([], "new"),
    ],
)
def test_what_the_file_could_not_have_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)

    written = capsys.readouterr()
    assert named in written.err
    assert (PREFIX not in written.err, written.out) == (True, "")
