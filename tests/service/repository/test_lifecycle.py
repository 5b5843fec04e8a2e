"""Versions come, go and change while others serve; over fake processes and a real folder."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from service.errors import ModelRefused, UnknownVersion
from service.repository.transitions import MISSING_LOOKS, RETRY_S
from tests.service.models.fakes import IMAGE
from tests.service.repository.fakes import Repository, watched
from tests.service.tasks import settle, until

pytestmark = pytest.mark.anyio


async def test_a_new_version_takes_over_when_it_is_ready_and_the_old_one_ends(
    repository: Repository,
) -> None:
    first = repository.write(1)
    async with watched(repository) as found:
        assert found.states == {1: "ready"}
        repository.machine.may_start.clear()
        second = repository.write(2)
        await found.look()
        assert found.states == {1: "ready", 2: "loading"}
        assert found.serves == 1
        assert repository.running == [first]
        found.registry.check_ready()

        repository.machine.may_start.set()
        await until(lambda: repository.running == [second])
        assert found.states == {2: "ready"}
        with pytest.raises(UnknownVersion, match="Expected one of: 2"):
            found.registry.find("tiny", 1)


async def test_a_version_that_is_replaced_ends_after_the_requests_that_it_has(
    repository: Repository,
) -> None:
    first = repository.write(1)
    async with watched(repository) as found:
        old = found.registry.find("tiny", None)
        with old.target():
            second = repository.write(2)
            await found.look()
            assert found.serves == 2
            assert sorted(repository.running) == sorted([first, second])
            with old.queue.admit(1):
                assert await old.queue.submit(IMAGE, first)
        await until(lambda: repository.running == [second])


@pytest.mark.parametrize("versions", ["latest", "all", "1,2"])
async def test_a_new_version_that_is_refused_leaves_the_old_one_in_place(
    repository: Repository, versions: str
) -> None:
    repository.write(1)
    async with watched(repository, versions=versions) as found:
        repository.write(2, broken=True)
        await found.look()

        assert found.states == {1: "ready", 2: "refused"}
        assert found.serves == 1
        with pytest.raises(ModelRefused, match="broken for the 1"):
            found.registry.find("tiny", 2).target()
        found.registry.check_ready()


async def test_if_the_newest_version_is_refused_at_the_start_an_older_one_is_loaded(
    repository: Repository,
) -> None:
    for version, broken in ((1, False), (2, False), (3, True)):
        repository.write(version, broken=broken)
    async with watched(repository) as found:
        assert found.states == {2: "ready", 3: "refused"}
        found.registry.check_ready()


async def test_another_bundle_in_the_place_of_one_is_loaded_beside_it(
    repository: Repository,
) -> None:
    first = repository.write(1)
    async with watched(repository) as found:
        repository.machine.may_start.clear()
        second = repository.write(1, description="another")
        await found.look()
        assert repository.running == [first]
        assert found.states == {1: "ready"}

        repository.machine.may_start.set()
        await until(lambda: repository.running == [second])
        manifest = found.registry.find("tiny", 1).manifest
        assert manifest is not None
        assert manifest.digest == second


async def test_a_replacement_that_is_refused_is_reported_and_the_old_bundle_serves_on(
    repository: Repository,
) -> None:
    first = repository.write(1)
    async with watched(repository) as found:
        second = repository.write(1, description="another", broken=True)
        await found.look()
        await found.look()
        assert repository.running == [first]
        assert repository.count(second) == 1, "its files have not changed"
        assert "broken" in (found.registry.find("tiny", 1).update_error or "")

        third = repository.write(1, description="a third one")
        await found.look()
        await until(lambda: repository.running == [third])
        assert found.registry.find("tiny", 1).update_error is None


async def test_files_that_are_written_again_with_the_same_content_change_nothing(
    repository: Repository,
) -> None:
    first = repository.write(1)
    async with watched(repository) as found:
        repository.write(1)
        await found.look()
        assert repository.count(first) == 1


async def test_a_refused_bundle_is_tried_again_after_growing_intervals(
    repository: Repository,
) -> None:
    digest = repository.write(1, broken=True)
    async with watched(repository) as found:
        for tries, delay_s in enumerate([*RETRY_S, RETRY_S[-1]], 1):
            repository.now += delay_s - 1
            await found.look()
            assert repository.count(digest) == tries
            assert found.states == {1: "refused"}
            repository.now += 1
            await found.look()
            assert repository.count(digest) == tries + 1

        repository.broken.clear()
        repository.now += RETRY_S[-1]
        await found.look()
        assert found.states == {1: "ready"}


async def test_a_refused_bundle_is_tried_again_at_once_when_its_files_change(
    repository: Repository,
) -> None:
    repository.write(1, broken=True)
    async with watched(repository) as found:
        assert found.states == {1: "refused"}
        repository.write(1, description="repaired")
        await found.look()
        assert found.states == {1: "ready"}


async def test_a_version_whose_folder_is_gone_is_unloaded_after_a_second_look(
    repository: Repository,
) -> None:
    repository.write(1)
    second = repository.write(2)
    async with watched(repository) as found:
        repository.remove(2)
        for _ in range(MISSING_LOOKS - 1):
            await found.look()
            assert found.serves == 2
            assert second in repository.running
        await found.look()
        assert found.states == {1: "ready"}


async def test_a_version_that_is_removed_serves_until_an_older_one_is_ready(
    repository: Repository,
) -> None:
    first = repository.write(1)
    repository.write(2)
    async with watched(repository) as found:
        repository.machine.may_start.clear()
        repository.remove(2)
        for _ in range(2 * MISSING_LOOKS):
            await found.look()
            assert found.serves == 2
        repository.machine.may_start.set()
        await until(lambda: repository.running == [first])


async def test_settings_of_one_model_apply_without_a_restart(repository: Repository) -> None:
    first = repository.write(1)
    repository.write(2)
    async with watched(repository) as found:
        (repository.root / "serving.toml").write_text('[tiny]\nversions = "1"\nqueue_size = 7\n')
        await found.look()
        await until(lambda: repository.running == [first])
        assert found.registry.find("tiny", None).settings.queue_size == 7

        (repository.root / "serving.toml").write_text('[tiny]\nversions = "1"\nqueue_size = 8\n')
        await found.look()
        await until(lambda: found.registry.find("tiny", None).settings.queue_size == 8)
        await until(lambda: repository.running == [first])


async def test_it_looks_by_itself_when_it_is_time(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "models")
    repository.write(1)
    async with watched(repository, watch_s=0.01) as found:
        repository.write(2)
        await until(lambda: found.states == {2: "ready"})


async def test_nothing_is_left_when_it_stops_in_the_middle(repository: Repository) -> None:
    repository.write(1)
    before = asyncio.all_tasks()
    async with watched(repository) as found:
        repository.machine.may_start.clear()
        repository.write(1, description="another")
        repository.write(2)
        with found.registry.find("tiny", None).target():
            await found.look()
    await settle()
    assert asyncio.all_tasks() == before
