"""What a signature covers and whose it must be; real keys, real certificates, a real bundle."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import model_signing.hashing
import model_signing.signing
import pytest

from bundle.errors import IntegrityFailed, SignatureInvalid, SigningFailed
from bundle.format.manifest import MANIFEST_FILE, read_manifest
from bundle.format.repository import SIGNATURE_FILE, verify_files
from bundle.signing.sign import sign
from bundle.signing.verify import verify
from tests.bundle.signing.keys import Authority, KeyPair, authority, key_pair


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return key_pair(tmp_path_factory.mktemp("keys"), "alice")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return key_pair(tmp_path_factory.mktemp("keys"), "mallory")


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("keys"), "company")


@pytest.fixture
def bundle(torch_bundle_root: Path, tmp_path: Path) -> Path:
    """A bundle that nobody has signed."""
    return Path(shutil.copytree(torch_bundle_root, tmp_path / "models")) / "tiny-torch" / "1"


@pytest.fixture
def signed(bundle: Path, keys: KeyPair) -> Path:
    sign(bundle, keys.private)
    return bundle


def manifest_sha256(bundle: Path) -> str:
    return hashlib.sha256((bundle / MANIFEST_FILE).read_bytes()).hexdigest()


def test_a_bundle_signed_by_a_trusted_key_is_verified_and_its_manifest_named(
    signed: Path, keys: KeyPair
) -> None:
    assert verify(signed, keys.public) == (manifest_sha256(signed), "alice.pub")
    verify_files(signed, read_manifest(signed))


def test_any_of_several_signers_will_do(
    signed: Path, keys: KeyPair, other: KeyPair, company: Authority, tmp_path: Path
) -> None:
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    for file in (other.public, company.root, keys.public):
        shutil.copy(file, trusted)

    assert verify(signed, trusted).signer == "alice.pub"


def test_the_package_itself_verifies_what_we_sign(signed: Path, keys: KeyPair) -> None:
    signature = str(signed / SIGNATURE_FILE)
    command = ["verify", "key", str(signed), "--signature", signature]

    done = subprocess.run(
        [sys.executable, "-m", "model_signing", *command, "--public_key", keys.public],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert "Verification succeeded" in done.stdout


def test_what_the_package_itself_signs_is_verified(bundle: Path, keys: KeyPair) -> None:
    signature = str(bundle / SIGNATURE_FILE)
    command = ["sign", "key", str(bundle), "--signature", signature]

    done = subprocess.run(
        [sys.executable, "-m", "model_signing", *command, "--private_key", keys.private],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert verify(bundle, keys.public).signer == "alice.pub"


def test_a_certificate_is_verified_up_to_its_root(
    bundle: Path, company: Authority, tmp_path: Path
) -> None:
    sign(bundle, company.private, company.certificate, [company.intermediate])

    assert verify(bundle, company.root).signer == "company-root.crt"
    with pytest.raises(SignatureInvalid, match="it is signed by another"):
        verify(bundle, authority(tmp_path, "company").root)


def test_an_unsigned_bundle_is_refused_with_who_is_trusted_and_how_to_sign(
    bundle: Path, keys: KeyPair
) -> None:
    with pytest.raises(SignatureInvalid) as caught:
        verify(bundle, keys.public)

    assert str(caught.value) == (
        "The bundle can't be trusted: it is not signed. Expected model.sig, the signature of its "
        "files as they are, by one of: alice.pub (public key, secp256r1). Sign it with `python -m "
        "bundle sign DIR --private-key KEY`, see docs/signing.md. Received: no file model.sig"
    )


def test_a_bundle_signed_by_another_key_is_refused(signed: Path, other: KeyPair) -> None:
    with pytest.raises(SignatureInvalid, match=r"signed by another.*mallory.pub: Key mismatch"):
        verify(signed, other.public)


def change_weights(bundle: Path) -> None:
    (bundle / "model.pt").write_bytes((bundle / "model.pt").read_bytes() + b"more")


def change_manifest(bundle: Path) -> None:
    path = bundle / MANIFEST_FILE
    path.write_text(path.read_text().replace("Recognises", "Recognizes"))


def add_a_file(bundle: Path) -> None:
    (bundle / "golden" / "more.png").write_bytes(b"")


def add_a_file_that_git_reads(bundle: Path) -> None:
    (bundle / ".gitattributes").write_text("* filter=run")


def remove_a_file(bundle: Path) -> None:
    next((bundle / "golden").iterdir()).unlink()


@pytest.mark.parametrize(
    "change",
    [change_weights, change_manifest, add_a_file, add_a_file_that_git_reads, remove_a_file],
    ids=lambda change: change.__name__,
)
def test_a_bundle_that_was_changed_after_it_was_signed_is_refused(
    signed: Path, keys: KeyPair, change: Callable[[Path], None]
) -> None:
    change(signed)

    with pytest.raises(SignatureInvalid, match="its files are not those that were signed"):
        verify(signed, keys.public)


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[1]", '{"mediaType": "text/plain"}', "\x00", '{"a": ' * 2000],
    ids=["empty", "no fields", "a list", "another type", "no text", "deep"],
)
def test_a_file_that_is_no_signature_is_refused(signed: Path, keys: KeyPair, content: str) -> None:
    (signed / SIGNATURE_FILE).write_text(content)

    with pytest.raises(SignatureInvalid, match="The bundle can't be trusted"):
        verify(signed, keys.public)


def test_the_signature_of_another_bundle_is_refused(
    signed: Path, keys: KeyPair, tmp_path: Path, keras_bundle_root: Path
) -> None:
    second = Path(shutil.copytree(keras_bundle_root, tmp_path / "more")) / "tiny-keras" / "1"
    shutil.copy(signed / SIGNATURE_FILE, second)

    with pytest.raises(SignatureInvalid, match="its files are not those that were signed"):
        verify(second, keys.public)


def sign_without(bundle: Path, keys: KeyPair, *paths: str) -> None:
    """Sign as a careless signer may: some files are left out."""
    hashing = model_signing.hashing.Config()  # type: ignore[no-untyped-call]
    signing = model_signing.signing.Config()  # type: ignore[no-untyped-call]
    hashing.set_ignored_paths(paths=[SIGNATURE_FILE, *paths])
    signing.use_elliptic_key_signer(private_key=keys.private).set_hashing_config(hashing)
    signing.sign(bundle, bundle / SIGNATURE_FILE)


def test_a_signature_that_leaves_out_the_manifest_says_nothing(bundle: Path, keys: KeyPair) -> None:
    sign_without(bundle, keys, MANIFEST_FILE)

    with pytest.raises(SignatureInvalid, match="does not cover the manifest by sha256"):
        verify(bundle, keys.public)


def test_files_that_a_signature_leaves_out_are_held_by_the_manifest(
    bundle: Path, keys: KeyPair
) -> None:
    sign_without(bundle, keys, "model.pt", "more.pt")
    change_weights(bundle)

    assert verify(bundle, keys.public).manifest_sha256 == manifest_sha256(bundle)
    with pytest.raises(IntegrityFailed, match=r"model\.pt"):
        verify_files(bundle, read_manifest(bundle))


def test_a_bundle_of_links_is_signed_by_what_they_lead_to(bundle: Path, keys: KeyPair) -> None:
    stored = bundle.parent.parent / "stored"
    shutil.move(bundle / "model.pt", stored)
    (bundle / "model.pt").symlink_to(stored)
    sign(bundle, keys.private)

    assert verify(bundle, keys.public).signer == "alice.pub"
    stored.write_bytes(b"other")
    with pytest.raises(SignatureInvalid, match=r"Hash mismatch for 'model\.pt'"):
        verify(bundle, keys.public)


def test_a_bundle_is_signed_again_in_the_place_of_the_old_signature(
    signed: Path, other: KeyPair
) -> None:
    sign(signed, other.private)

    assert verify(signed, other.public).signer == "mallory.pub"
    assert {path.name for path in signed.parent.iterdir()} == {"1"}


def test_a_damaged_bundle_is_not_signed(bundle: Path, keys: KeyPair) -> None:
    change_weights(bundle)

    with pytest.raises(IntegrityFailed):
        sign(bundle, keys.private)
    assert not (bundle / SIGNATURE_FILE).exists()


@pytest.mark.parametrize("key", ["missing", "public", "of another certificate"])
def test_a_key_that_does_not_fit_is_refused(
    bundle: Path, keys: KeyPair, company: Authority, key: str
) -> None:
    private = {"missing": Path("no.pem"), "public": keys.public}.get(key, keys.private)
    certificate = company.certificate if key == "of another certificate" else None

    with pytest.raises(SigningFailed, match="can't be signed with this key"):
        sign(bundle, private, certificate)


def test_a_signature_is_json_that_names_every_file(signed: Path) -> None:
    content = json.loads((signed / SIGNATURE_FILE).read_text())

    assert content["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
