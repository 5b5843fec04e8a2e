"""Verify the signature of a bundle; run in a process of its own (`bundle.worker.signature`)."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from bundle.errors import SignatureInvalid, SignersInvalid
from bundle.format.manifest import MANIFEST_FILE, unique_keys
from bundle.format.repository import SIGNATURE_FILE
from bundle.signing.sign import hashing, missing
from bundle.signing.signers import Signer, names, read_signers

MAX_BYTES = 20_000_000
# How the package begins to say which files differ.
_ALTERED = "Signature mismatch: "


class Signature(NamedTuple):
    """What has been signed, and by whom."""

    manifest_sha256: str
    signer: str


class Reason(NamedTuple):
    """Why one signer has not signed the files as they are."""

    text: str
    altered: bool  # the signature is theirs, and the files are others


def verify(bundle: Path, trusted: Path) -> Signature:
    """Verify that one of the trusted signers has signed the files of a bundle as they are.

    The signature covers the manifest, which has the sha256 of every other file: who loads the
    bundle checks its files against a manifest of this sha256, and so loads what was signed.

    Args:
        bundle: Its folder.
        trusted: See `read_signers`.

    Raises:
        SignatureInvalid: There is no signature, it is by none of them, or a file was changed, added
            or removed since.
        SignersInvalid: The signers can't be read, or the package is missing.
    """
    signers = read_signers(trusted)
    try:
        from model_signing.verifying import Config  # noqa: PLC0415 - as in `sign`
    except ImportError as exc:
        raise SignersInvalid(missing(exc)) from exc
    folder = bundle.resolve()
    data = _read(folder, signers)
    reasons = []
    for signer in signers:
        # What is verified is what is read below, whatever happens to the file.
        copy = os.memfd_create(SIGNATURE_FILE)
        try:
            os.write(copy, data)
            config = Config()  # type: ignore[no-untyped-call]
            signer.configure(config.set_hashing_config(hashing()))
            config.verify(folder, Path(f"/proc/self/fd/{copy}"))
        except Exception as exc:  # noqa: BLE001 - the package raises any type on a malformed file
            reasons.append(_reason(signer, exc))
        else:
            return Signature(_manifest_digest(data, signers), signer.name)
        finally:
            os.close(copy)
    altered = [reason for reason in reasons if reason.altered]
    what = "its files are not those that were signed" if altered else "it is signed by another"
    raise _invalid(what, signers, "; ".join(text for text, _ in altered or reasons))


def _reason(signer: Signer, exc: Exception) -> Reason:
    text = " ".join(str(exc).split()) or type(exc).__name__
    if text.startswith(_ALTERED):
        # A list as Python prints it; its items end with digests in raw bytes.
        first, _, _ = text.removeprefix(_ALTERED).partition(": Expected")
        text = first.replace("\\'", "'").lstrip("[\"'").rstrip('"]')
        return Reason(text[:300], altered=True)
    return Reason(f"{signer.name}: {text[:300]}", altered=False)


def _read(folder: Path, signers: list[Signer]) -> bytes:
    try:
        with (folder / SIGNATURE_FILE).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as exc:
        raise _invalid("it is not signed", signers, f"no file {SIGNATURE_FILE}") from exc
    except OSError as exc:
        raise _invalid("its signature can't be read", signers, str(exc.strerror)) from exc
    if len(data) > MAX_BYTES:
        raise _invalid("its signature is too large", signers, f"more than {MAX_BYTES} bytes")
    return data


def _manifest_digest(data: bytes, signers: list[Signer]) -> str:
    """The sha256 of the manifest in a signature that has been verified.

    A signature can leave out files; one without the manifest says nothing of the bundle.
    """
    payload = base64.b64decode(_parse(data)["dsseEnvelope"]["payload"], validate=True)
    resources = _parse(payload)["predicate"]["resources"]
    found = [each for each in resources if each["name"] == MANIFEST_FILE]
    if len(found) != 1 or found[0]["algorithm"] != "sha256":
        covered = f"{len(found)} digests of {MANIFEST_FILE} among {len(resources)}"
        raise _invalid("its signature does not cover the manifest by sha256", signers, covered)
    digest: str = found[0]["digest"]
    return digest


def _parse(data: bytes) -> Any:
    return json.loads(data, object_pairs_hook=unique_keys)


def _invalid(what: str, signers: list[Signer], received: str) -> SignatureInvalid:
    return SignatureInvalid(
        f"The bundle can't be trusted: {what}. Expected {SIGNATURE_FILE}, the signature of its "
        f"files as they are, by one of: {names(signers)}. Sign it with `python -m bundle sign DIR "
        f"--private-key KEY`, see docs/signing.md. Received: {received}"
    )
