"""Aliases of versions, and the share of requests that a canary answers."""

from __future__ import annotations

import pytest

from service.errors import UnknownVersion
from service.repository.transitions import MISSING_LOOKS
from tests.service.repository.fakes import Repository, watched
from tests.service.tasks import until

pytestmark = pytest.mark.anyio


async def test_aliases_load_their_versions_and_say_which_one_answers(
    repository: Repository,
) -> None:
    for version in (1, 2, 3, 4):
        repository.write(version)
    table = "[tiny.traffic]\nstable = 2\ncanary = 3\ncanary_share = {}\n"
    (repository.root / "serving.toml").write_text(table.format(0.0))
    async with watched(repository) as found:
        find = found.registry.find
        assert found.states == dict.fromkeys((2, 3, 4), "ready")
        assert [find("tiny", each).version for each in (None, "stable", "canary", 4)] == [
            2,
            2,
            3,
            4,
        ]

        (repository.root / "serving.toml").write_text(table.format(1.0))
        await found.look()
        assert [find("tiny", each).version for each in (None, "stable", "canary")] == [3, 2, 3]

        repository.remove(3)
        for _ in range(MISSING_LOOKS):
            await found.look()
        assert find("tiny", None).version == 2, "the canary is gone"
        with pytest.raises(UnknownVersion, match="Received: 3"):
            find("tiny", "canary")

        (repository.root / "serving.toml").unlink()
        await found.look()
        assert found.states == {4: "ready"}
        with pytest.raises(UnknownVersion, match="Received: canary"):
            find("tiny", "canary")


async def test_until_the_stable_version_serves_the_one_that_was_answers(
    repository: Repository,
) -> None:
    for version in (1, 2, 3):
        repository.write(version, broken=version == 1)
    file = repository.root / "serving.toml"
    file.write_text("[tiny.traffic]\nstable = 2\n")
    async with watched(repository) as found:
        find = found.registry.find
        assert find("tiny", None).version == 2
        for wrong in (1, 99):  # refused, missing
            file.write_text(f"[tiny.traffic]\nstable = {wrong}\n")
            for _ in range(2 * MISSING_LOOKS):
                await found.look()
                assert [find("tiny", each).version for each in (None, "stable")] == [2, 2]

        repository.machine.may_start.clear()
        repository.write(4)
        file.write_text("[tiny.traffic]\nstable = 4\n")
        await found.look()
        assert find("tiny", None).version == 2
        repository.machine.may_start.set()
        await until(lambda: found.states == {4: "ready"})
        assert find("tiny", None).version == 4


async def test_without_a_stable_version_the_newest_other_than_the_canary_answers(
    repository: Repository,
) -> None:
    for version in (1, 2):
        repository.write(version)
    (repository.root / "serving.toml").write_text(
        '[tiny]\nversions = "all"\n[tiny.traffic]\ncanary = 2\ncanary_share = 0.5\n'
    )
    async with watched(repository) as found:
        answers = {found.registry.find("tiny", None, str(number)).version for number in range(50)}
        assert answers == {1, 2}
        assert {found.registry.find("tiny", None, "me").version for _ in range(20)} != answers
        assert found.registry.find("tiny", "stable").version == 1
