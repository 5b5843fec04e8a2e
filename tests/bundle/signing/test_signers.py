"""Which files say who is trusted, and that every other one is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bundle.errors import SignersInvalid
from bundle.signing.signers import names, read_signers
from tests.bundle.signing.keys import authority, key_pair

IDENTITY = 'identity = "alice@example.org"\nissuer = "https://example.org"\ntrust = "trust.json"\n'


def test_a_folder_has_a_signer_in_each_file(tmp_path: Path) -> None:
    trusted = tmp_path / "trusted"
    (trusted / "..data").mkdir(parents=True)
    (trusted / ".hidden").write_text("as of a ConfigMap")
    key_pair(tmp_path, "bob", ec.SECP384R1()).public.rename(trusted / "bob.pem")
    authority(tmp_path, "company").root.rename(trusted / "company.crt")
    (trusted / "alice.toml").write_text(IDENTITY)
    (trusted / "trust.json").write_text("{}")

    assert names(read_signers(trusted)) == (
        "alice.toml (alice@example.org at https://example.org), bob.pem (public key, secp384r1), "
        "company.crt (certificates of CN=company root)"
    )


def write_nothing(folder: Path) -> None: ...


def write_a_private_key(folder: Path) -> None:
    key_pair(folder, "alice").public.unlink()


def write_an_rsa_key(folder: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    (folder / "rsa.pub").write_bytes(key.public_bytes(encoding, form))


def write_text(folder: Path) -> None:
    (folder / "README").write_text("Keys of our signers.")


def write_half_a_certificate(folder: Path) -> None:
    (folder / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\nMIIB\n")


def write_an_identity_without_trust(folder: Path) -> None:
    (folder / "alice.toml").write_text(IDENTITY)


def write_another_table(folder: Path) -> None:
    (folder / "alice.toml").write_text('identity = "*"\n')


@pytest.mark.parametrize(
    ("write", "what"),
    [
        (write_nothing, "the folder has no file"),
        (write_a_private_key, "it has a private key"),
        (write_an_rsa_key, "its key is RSAPublicKey"),
        (write_text, "it is no key in PEM"),
        (write_half_a_certificate, "its certificates are not valid"),
        (write_an_identity_without_trust, "there is no file trust.json beside it"),
        (write_another_table, "expected the keys identity, issuer, trust"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_folder_that_says_nothing_or_something_else_is_refused(
    tmp_path: Path, write: Callable[[Path], None], what: str
) -> None:
    write(tmp_path)

    with pytest.raises(SignersInvalid, match=what):
        read_signers(tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SignersInvalid, match="can't be read"):
        read_signers(tmp_path / "no.pub")
