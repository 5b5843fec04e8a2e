"""Signatures of Sigstore: verified offline, by identity, against the instance that is trusted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bundle.errors import SignatureInvalid
from bundle.signing.verify import verify
from tests.bundle.signing.sigstore import Instance

ISSUER = "https://accounts.example"


@pytest.fixture
def instance() -> Instance:
    return Instance()


@pytest.fixture
def signed(instance: Instance, torch_bundle_root: Path, tmp_path: Path) -> Path:
    """A bundle that Alice has signed."""
    path = Path(shutil.copytree(torch_bundle_root, tmp_path / "models")) / "tiny-torch" / "1"
    instance.sign(path, "alice@example.org", ISSUER)
    return path


def trusted(folder: Path, instance: Instance, identity: str = "alice@example.org") -> Path:
    folder.mkdir()
    instance.trust(folder / "trust.json")
    fields = {"identity": identity, "issuer": ISSUER, "trust": "trust.json"}
    (folder / "who.toml").write_text("".join(f'{k} = "{v}"\n' for k, v in fields.items()))
    return folder


def test_the_signature_of_an_identity_is_verified_without_the_network(
    signed: Path, instance: Instance, tmp_path: Path
) -> None:
    assert verify(signed, trusted(tmp_path / "trusted", instance)).signer == "who.toml"


def test_another_identity_another_instance_and_other_files_are_refused(
    signed: Path, instance: Instance, tmp_path: Path
) -> None:
    with pytest.raises(SignatureInvalid, match="SANs do not match"):
        verify(signed, trusted(tmp_path / "bob", instance, "bob@example.org"))
    with pytest.raises(SignatureInvalid, match="failed to build timestamp certificate chain"):
        verify(signed, trusted(tmp_path / "elsewhere", Instance()))
    (signed / "more").write_text("")
    with pytest.raises(SignatureInvalid, match="its files are not those that were signed"):
        verify(signed, trusted(tmp_path / "alice", instance))
