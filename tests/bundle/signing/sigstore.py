"""A Sigstore instance for tests: an authority, a log of certificates and a log of signatures.

Signing by an identity needs the network, so what the instance would return is built here, as
RFC 6962 and the formats of Fulcio and Rekor have it. `model-signing` verifies it.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from bundle.format.repository import SIGNATURE_FILE
from bundle.signing.sign import sign
from tests.bundle.signing.keys import common_name, pem, usage

BEGIN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
SIGNED_AT = int(BEGIN.timestamp()) + 60
ISSUER_EXTENSION = ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
MEDIA = "application/vnd.dev.sigstore"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def der(key: ec.EllipticCurvePrivateKey) -> bytes:
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(encoding, form)


class Instance:
    """The instance; `trust` writes what clients have to know of it."""

    def __init__(self) -> None:
        self._root, self._certificates, self._log = (
            ec.generate_private_key(ec.SECP256R1()) for _ in range(3)
        )
        self._authority = (
            builder("authority", "authority", self._root, self._root, days=3650)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage(is_authority=True), critical=True)
            .sign(self._root, hashes.SHA256())
        )

    def trust(self, file: Path) -> None:
        """Write the trust configuration of clients."""
        chain = [{"rawBytes": b64(self._authority.public_bytes(serialization.Encoding.DER))}]
        root = {
            "mediaType": f"{MEDIA}.trustedroot+json;version=0.1",
            "tlogs": [log(self._log)],
            "ctlogs": [log(self._certificates)],
            "timestampAuthorities": [],
            "certificateAuthorities": [
                {
                    "subject": {"organization": "tests", "commonName": "authority"},
                    "uri": "https://authority.example",
                    "certChain": {"certificates": chain},
                    "validFor": {"start": BEGIN.isoformat()},
                }
            ],
        }
        signing = {
            "mediaType": f"{MEDIA}.signingconfig.v0.2+json",
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaConfig": {"selector": "ANY"},
        }
        found = {
            "mediaType": f"{MEDIA}.clienttrustconfig.v0.1+json",
            "trustedRoot": root,
            "signingConfig": signing,
        }
        file.write_text(json.dumps(found))

    def sign(self, bundle: Path, identity: str, issuer: str) -> None:
        """Sign a bundle as `identity`, whom `issuer` has recognised."""
        key = ec.generate_private_key(ec.SECP256R1())
        private = bundle.parent / "key.pem"
        private.write_bytes(pem(key))
        sign(bundle, private)
        private.unlink()
        found = json.loads((bundle / SIGNATURE_FILE).read_text())
        certificate = self._certificate(key, identity, issuer)
        found["verificationMaterial"] = {
            "certificate": {"rawBytes": b64(certificate.public_bytes(serialization.Encoding.DER))},
            "tlogEntries": [self._entry(found["dsseEnvelope"], certificate)],
        }
        (bundle / SIGNATURE_FILE).write_text(json.dumps(found))

    def _certificate(
        self, key: ec.EllipticCurvePrivateKey, identity: str, issuer: str
    ) -> x509.Certificate:
        unlogged = (
            builder("", "authority", key, self._root, days=1)
            .add_extension(usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(identity)]), critical=True)
            .add_extension(x509.UnrecognizedExtension(ISSUER_EXTENSION, issuer.encode()), False)
        )
        body = unlogged.sign(self._root, hashes.SHA256()).tbs_certificate_bytes
        time_ms = SIGNED_AT * 1000
        signed = struct.pack(">BBQH", 0, 0, time_ms, 1) + hashlib.sha256(der(self._root)).digest()
        signed += len(body).to_bytes(3, "big") + body + bytes(2)
        signature = self._certificates.sign(signed, ec.ECDSA(hashes.SHA256()))
        entry = b"\0" + hashlib.sha256(der(self._certificates)).digest()
        entry += struct.pack(">QHBBH", time_ms, 0, 4, 3, len(signature)) + signature
        listed = struct.pack(">HH", len(entry) + 2, len(entry)) + entry
        octets = b"\x04" + (
            bytes([len(listed)]) if len(listed) < 128 else b"\x81" + bytes([len(listed)])
        )
        oid = x509.oid.ExtensionOID.PRECERT_SIGNED_CERTIFICATE_TIMESTAMPS
        logged = unlogged.add_extension(x509.UnrecognizedExtension(oid, octets + listed), False)
        return logged.sign(self._root, hashes.SHA256())

    def _entry(self, envelope: dict[str, Any], certificate: x509.Certificate) -> dict[str, Any]:
        payload = base64.b64decode(envelope["payload"])
        body = {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": digest(json.dumps(envelope).encode()),
                "payloadHash": digest(payload),
                "signatures": [
                    {
                        "signature": envelope["signatures"][0]["sig"],
                        "verifier": b64(certificate.public_bytes(serialization.Encoding.PEM)),
                    }
                ],
            },
        }
        canonical = json.dumps(body, separators=(",", ":")).encode()
        # A log of one entry: its hash is the root.
        root = hashlib.sha256(b"\0" + canonical).digest()
        key_id = hashlib.sha256(der(self._log)).digest()
        promise = {
            "body": b64(canonical),
            "integratedTime": SIGNED_AT,
            "logID": key_id.hex(),
            "logIndex": 0,
        }
        note = f"log.example\n1\n{b64(root)}\n"
        sealed = b64(key_id[:4] + self._seal(note.encode()))
        return {
            "logIndex": "0",
            "logId": {"keyId": b64(key_id)},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(SIGNED_AT),
            "inclusionPromise": {
                "signedEntryTimestamp": b64(
                    self._seal(json.dumps(promise, separators=(",", ":")).encode())
                )
            },
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": b64(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": f"{note}\n\u2014 log.example {sealed}\n"},
            },
            "canonicalizedBody": b64(canonical),
        }

    def _seal(self, data: bytes) -> bytes:
        return self._log.sign(data, ec.ECDSA(hashes.SHA256()))


def digest(data: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}


def log(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    return {
        "baseUrl": "https://log.example",
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": b64(der(key)),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": {"start": BEGIN.isoformat()},
        },
        "logId": {"keyId": b64(hashlib.sha256(der(key)).digest())},
    }


def builder(
    subject: str,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    *,
    days: int,
) -> x509.CertificateBuilder:
    of_signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(common_name(subject) if subject else x509.Name([]))
        .issuer_name(common_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(BEGIN)
        .not_valid_after(BEGIN + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(of_signer, critical=False)
    )
