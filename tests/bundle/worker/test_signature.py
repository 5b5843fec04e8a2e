"""The process that verifies signatures, and what the process of a model makes of its answer."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from pathlib import Path

import psutil
import pytest

from bundle.errors import SignatureInvalid, SignersInvalid, WorkerDied
from bundle.format.manifest import MANIFEST_FILE
from bundle.signing.sign import sign
from bundle.worker.client import FramedProcess, raise_error
from bundle.worker.model_process import ModelProcess
from bundle.worker.process import environment
from bundle.worker.signature import check_signature, describe_signers
from tests.bundle.signing.keys import KeyPair, key_pair

TIMEOUT_S = 240.0


@pytest.fixture
def alice(tmp_path: Path) -> KeyPair:
    return key_pair(tmp_path, "alice")


@pytest.fixture
def bundle(torch_bundle_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(torch_bundle_root, tmp_path / "models")) / "tiny-torch" / "1"


def test_who_has_signed_is_found_out_by_a_process_that_ends(bundle: Path, alice: KeyPair) -> None:
    sign(bundle, alice.private)

    before = psutil.Process().children()
    found = asyncio.run(check_signature(bundle, alice.public, TIMEOUT_S))

    sha256 = hashlib.sha256((bundle / MANIFEST_FILE).read_bytes()).hexdigest()
    assert found == (sha256, "alice.pub")
    assert set(psutil.Process().children()) <= set(before)


def test_an_unsigned_bundle_is_refused_before_its_process_is_started(
    bundle: Path, alice: KeyPair
) -> None:
    process = ModelProcess(bundle, signers=alice.public)

    with pytest.raises(SignatureInvalid, match="it is not signed"):
        asyncio.run(process.start(TIMEOUT_S))

    assert process.pid is None


def test_signers_are_described_and_unusable_ones_refused(alice: KeyPair, tmp_path: Path) -> None:
    found = asyncio.run(describe_signers(alice.public, TIMEOUT_S))

    assert found == "alice.pub (public key, secp256r1)"
    with pytest.raises(SignersInvalid, match="it has a private key"):
        asyncio.run(describe_signers(tmp_path, TIMEOUT_S))


def test_a_model_s_process_loads_no_other_manifest_than_the_signed_one(bundle: Path) -> None:
    arguments = {
        "bundle": str(bundle),
        "artifact": "source",
        "device": "cpu",
        "threads": 1,
        "compiled": None,
        "limits": {},
        "manifest_sha256": "0" * 64,
    }

    async def start() -> None:
        process = FramedProcess("bundle.worker", arguments, environment("cpu", 1))
        try:
            raise_error(await process.start(TIMEOUT_S))
        finally:
            await process.kill()

    with pytest.raises(WorkerDied, match="replaced after its signature was checked"):
        asyncio.run(start())
