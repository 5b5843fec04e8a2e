"""What goes wrong in a repository leaves what serves as it is; over fake processes."""

from __future__ import annotations

import os

import pytest

from bundle.errors import IntegrityFailed
from service.repository import transitions
from service.repository.transitions import MISSING_LOOKS, RETRY_S
from tests.service.repository.fakes import Repository, watched
from tests.service.tasks import until

pytestmark = pytest.mark.anyio


async def test_a_version_without_its_manifest_for_a_while_serves_on(
    repository: Repository,
) -> None:
    repository.write(1)
    async with watched(repository) as found:
        (repository.root / "tiny" / "1" / "manifest.json").unlink()
        for _ in range(2 * MISSING_LOOKS):
            await found.look()
        assert found.states == {1: "ready"}


async def test_a_repository_that_cannot_be_read_for_a_while_changes_nothing(
    repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    repository.write(1)
    async with watched(repository) as found:
        away = repository.root.rename(repository.root.with_name("away"))
        for present in (False, True):
            if present:  # a drive that is not mounted
                repository.root.mkdir()
            for _ in range(2 * MISSING_LOOKS):
                await found.look()
            assert found.states == {1: "ready"}
            assert "can't be read" in (found.registry.error or "")
        assert caplog.text.count("stays as it was") == 1
        repository.root.rmdir()
        away.rename(repository.root)
        await found.look()
        assert found.registry.error is None
        assert [process.running for process in repository.processes] == [True]


async def test_with_an_error_in_the_settings_versions_go_on_under_the_old_ones(
    repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    repository.write(1)
    (repository.root / "serving.toml").write_text("[tiny]\nqueue_size = 7\n")
    async with watched(repository) as found:
        (repository.root / "serving.toml").write_text("[tiny")
        repository.write(2)
        for _ in range(2):
            await found.look()
        assert found.states == {2: "ready"}
        assert found.registry.find("tiny", None).settings.queue_size == 7
        assert "Expected TOML" in (found.registry.error or "")
        assert caplog.text.count("stays as it was") == 1


async def test_damage_to_the_files_of_a_version_that_serves_is_reported(
    repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    repository.write(1)
    caplog.set_level("INFO")
    async with watched(repository) as found:
        (repository.root / "tiny" / "1" / "extra.bin").write_bytes(b"1")
        await found.look()
        assert found.states == {1: "ready"}
        assert "integrity_failed" in (found.registry.find("tiny", 1).update_error or "")
        assert found.registry.refusals["integrity_failed"] == 1

        repository.write(1, description="another", broken=True)
        await found.look()
        assert "can be loaded again" not in caplog.text


async def test_what_was_damaged_is_tried_again_although_its_files_are_the_same(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.write(1)
    async with watched(repository) as found:
        with monkeypatch.context() as failing:
            failing.setattr(transitions, "verify_files", failed)
            os.utime(repository.root / "tiny" / "1" / "manifest.json", ns=(1, 1))
            await found.look()
            assert "integrity_failed" in (found.registry.find("tiny", 1).update_error or "")
        repository.now += RETRY_S[0]
        await found.look()
        await found.rest()
        assert found.states == {1: "ready"}
        assert found.registry.find("tiny", 1).update_error is None


def failed(*_: object) -> None:
    """A drive that fails for a moment."""
    raise IntegrityFailed("The file can't be read.")


async def test_a_model_that_is_refused_while_it_serves_comes_back(repository: Repository) -> None:
    digest = repository.write(1)
    async with watched(repository) as found:
        repository.broken.add(digest)
        repository.processes[0].kill_now()
        await until(lambda: found.states == {1: "refused"})
        await found.rest()
        repository.broken.clear()
        repository.now += RETRY_S[0]
        await found.look()
        await found.look()
        assert found.states == {1: "ready"}


async def test_the_default_model_is_read_again(repository: Repository) -> None:
    repository.write(1)
    async with watched(repository) as found:
        assert found.registry.default_name == "tiny"
        (repository.root / "default").write_text("other")
        await found.look()
        assert found.registry.default_name == "tiny"
        assert "Received: 'other'" in (found.registry.error or "")

        (repository.root / "other").symlink_to("tiny")
        await found.look()
        assert found.registry.default_name == "other"
        assert found.registry.error is None
