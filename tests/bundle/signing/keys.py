"""Keys and certificates for tests, made when they are needed."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class KeyPair(NamedTuple):
    private: Path
    public: Path


class Authority(NamedTuple):
    """A root, and a key with its certificate from an intermediate authority."""

    root: Path
    intermediate: Path
    certificate: Path
    private: Path


def key_pair(folder: Path, name: str, curve: ec.EllipticCurve | None = None) -> KeyPair:
    key = ec.generate_private_key(curve or ec.SECP256R1())
    pair = KeyPair(folder / f"{name}.pem", folder / f"{name}.pub")
    pair.private.write_bytes(pem(key))
    pair.public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return pair


def authority(folder: Path, name: str) -> Authority:
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
    names = [f"{name} root", f"{name} intermediate", f"{name} signer"]
    certificates: list[Path] = []
    for index, (key, subject) in enumerate(zip(keys, names, strict=True)):
        issuer = max(0, index - 1)
        is_authority = index < 2
        certificate = (
            x509.CertificateBuilder()
            .subject_name(common_name(subject))
            .issuer_name(common_name(names[issuer]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
            .not_valid_after(datetime.datetime(2036, 1, 1, tzinfo=datetime.UTC))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(usage(is_authority=is_authority), critical=True)
            .sign(keys[issuer], hashes.SHA256())
        )
        path = folder / f"{subject.replace(' ', '-')}.crt"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        certificates.append(path)
    private = folder / f"{name}-signer.pem"
    private.write_bytes(pem(keys[2]))
    root, intermediate, certificate_of_signer = certificates
    return Authority(root, intermediate, certificate_of_signer, private)


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
