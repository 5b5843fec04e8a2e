from __future__ import annotations

import pytest

from service.repository.versions import wanted_versions


@pytest.mark.parametrize(
    ("policy", "available", "refused", "wanted"),
    [
        ("latest", [1, 2, 10], [], {10}),
        ("latest", [1, 2, 10], [10], {2, 10}),
        ("latest", [1, 2, 10], [1, 2, 10], {1, 2, 10}),
        ("latest", [], [], set()),
        ("latest:2", [1, 2, 10], [], {2, 10}),
        ("latest:2", [1, 2, 10], [2], {1, 2, 10}),
        ("latest:9", [1, 2, 10], [], {1, 2, 10}),
        ("all", [1, 2, 10], [2], {1, 2, 10}),
        ("1,2,7", [1, 2, 10], [2], {1, 2}),
    ],
)
def test_which_versions_are_loaded(
    policy: str, available: list[int], refused: list[int], wanted: set[int]
) -> None:
    assert wanted_versions(policy, available, refused) == wanted
