"""The environment in which a worker runs."""

from __future__ import annotations

import pytest

from bundle.worker.process import OpenMPWait, environment


@pytest.mark.parametrize("policy", ["passive", "active"])
def test_a_worker_gets_the_openmp_wait_policy_that_is_set(
    monkeypatch: pytest.MonkeyPatch, policy: OpenMPWait
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)

    assert environment("cpu", 1, policy)["OMP_WAIT_POLICY"] == policy


def test_the_threads_of_a_worker_sleep_at_barriers_by_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)

    assert environment("auto", None)["OMP_WAIT_POLICY"] == "passive"


def test_the_wait_policy_of_the_operator_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")

    assert environment("cpu", 1, "passive")["OMP_WAIT_POLICY"] == "ACTIVE"


def test_credentials_of_stores_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_CONNECTION_STRING", "HF_TOKEN", "FSSPEC_S3")
    for name in (*names, "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.setenv(name, "secret")

    assert "secret" not in environment("cpu", 1).values()
