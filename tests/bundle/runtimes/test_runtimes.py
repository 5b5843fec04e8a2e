from __future__ import annotations

from pathlib import Path

import pytest

from bundle.runtimes import describe


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "failed reading /srv/models/a/1/model.pt: no\n  archive",
            "failed reading model.pt: no archive",
        ),
        ("'/opt/venv/lib/python3.12/site-packages/torch/x.py', line 3", "'x.py', line 3"),
        (
            "see https://pytorch.org/docs/stable/x.html",
            "see https://pytorch.org/docs/stable/x.html",
        ),
        ("and/or 3/4", "and/or 3/4"),
    ],
)
def test_what_a_framework_says_is_one_line_without_the_folders_of_this_machine(
    text: str, shown: str
) -> None:
    assert describe(ValueError(text)) == f"ValueError: {shown}"


def test_a_folder_that_is_known_may_have_any_name() -> None:
    folder = Path("/srv/all 'my' models/a/1")
    exc = OSError(f'can\'t parse b"{folder}/saved_model/x.pb"')
    assert describe(OSError(f"can't open {folder}"), folder) == "OSError: can't open 1"
    assert describe(exc, folder) == 'OSError: can\'t parse b"saved_model/x.pb"'
