"""Who is trusted to sign bundles: public keys, certificates and identities of Sigstore."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bundle.errors import SignersInvalid

if TYPE_CHECKING:
    from model_signing.verifying import Config

KEYS = {"identity", "issuer", "trust"}


class Signer(NamedTuple):
    """One file of the trusted ones."""

    name: str
    description: str
    configure: Callable[[Config], Config]


def read_signers(path: Path) -> list[Signer]:
    """Read a file, or each file of a folder; hidden ones and `.json`, which others name, are not.

    Raises:
        SignersInvalid: There is none, or one is not a public key of an elliptic curve, certificates
            in PEM, or TOML that names an identity of Sigstore.
    """
    try:
        files = [path]
        if path.is_dir():
            found = sorted(each for each in path.iterdir() if not each.name.startswith("."))
            files = [each for each in found if each.is_file() and each.suffix != ".json"]
        signers = [_read(file) for file in files]
    except OSError as exc:
        raise _invalid(path, f"it can't be read ({exc.strerror})") from exc
    if not signers:
        raise _invalid(path, "the folder has no file")
    return signers


def names(signers: list[Signer]) -> str:
    """The signers in a sentence."""
    return ", ".join(f"{signer.name} ({signer.description})" for signer in signers)


def _read(file: Path) -> Signer:
    data = file.read_bytes()
    if file.suffix == ".toml":
        return _identity(file, data)
    if b"PRIVATE KEY-----" in data:
        raise _invalid(file, "it has a private key, which belongs to the signer alone")
    if b"-----BEGIN CERTIFICATE-----" in data:
        return _authority(file, data)
    return _key(file, data)


def _key(file: Path, data: bytes) -> Signer:
    # Its extension modules take 20 MB, and are installed with the extra `signing` only.
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise _invalid(file, f"it is no key in PEM ({exc})") from exc
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise _invalid(file, f"its key is {type(key).__name__}")
    return Signer(
        file.name,
        f"public key, {key.curve.name}",
        lambda config: config.use_elliptic_key_verifier(public_key=file),
    )


def _authority(file: Path, data: bytes) -> Signer:
    from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415 - as in `_key`

    try:
        subjects = [each.subject.rfc4514_string() for each in load_pem_x509_certificates(data)]
    except ValueError as exc:
        raise _invalid(file, f"its certificates are not valid ({exc})") from exc
    return Signer(
        file.name,
        f"certificates of {' and '.join(subjects)}",
        lambda config: config.use_certificate_verifier(certificate_chain=[file]),
    )


def _identity(file: Path, data: bytes) -> Signer:
    try:
        fields: dict[str, Any] = tomllib.loads(data.decode())
    except ValueError as exc:  # not UTF-8, or not TOML
        raise _invalid(file, f"it is not TOML ({exc})") from exc
    if set(fields) != KEYS or not all(isinstance(value, str) for value in fields.values()):
        raise _invalid(file, f"expected the keys {', '.join(sorted(KEYS))}, each a text")
    trust = file.parent / fields["trust"]
    if not trust.is_file():
        raise _invalid(file, f"there is no file {fields['trust']} beside it")
    return Signer(
        file.name,
        f"{fields['identity']} at {fields['issuer']}",
        lambda config: config.use_sigstore_verifier(
            identity=fields["identity"], oidc_issuer=fields["issuer"], trust_config=trust
        ),
    )


def _invalid(path: Path, what: str) -> SignersInvalid:
    return SignersInvalid(
        f"The trusted signers can't be used: {what}. Expected files with a public key of an "
        "elliptic curve (P-256, P-384, P-521) or certificates, in PEM, or `.toml` files with an "
        f"identity of Sigstore; see docs/signing.md. Received: {str(path)!r}"
    )
