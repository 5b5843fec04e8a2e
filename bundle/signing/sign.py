"""Sign a bundle: write `model.sig`, which covers every other file of the folder."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bundle.errors import SigningFailed
from bundle.format.manifest import read_manifest
from bundle.format.repository import SIGNATURE_FILE, check_folder, verify_files

if TYPE_CHECKING:
    from model_signing.hashing import Config


def sign(
    bundle: Path, private_key: Path, certificate: Path | None = None, chain: Sequence[Path] = ()
) -> Path:
    """Write the signature of a bundle, in the place of an earlier one, and return its path.

    Args:
        bundle: Its folder.
        private_key: Of an elliptic curve, in PEM and not encrypted.
        certificate: That of the key; None: the verifier has the public key.
        chain: Certificates between that and the authority that is trusted.

    Raises:
        BundleError: The bundle is not valid; a signature would not help it.
        SigningFailed: The package is missing, or the key or a certificate can't be used.
        OSError: The signature can't be written.
    """
    manifest = read_manifest(bundle)
    check_folder(bundle, manifest)
    verify_files(bundle, manifest)
    try:
        # It takes 55 MB and seconds to import.
        from model_signing.signing import Config  # noqa: PLC0415
    except ImportError as exc:
        raise SigningFailed(missing(exc)) from exc
    config = Config()  # type: ignore[no-untyped-call]
    try:
        if certificate is None:
            config.use_elliptic_key_signer(private_key=private_key)
        else:
            config.use_certificate_signer(
                private_key=private_key, signing_certificate=certificate, certificate_chain=chain
            )
    except (OSError, TypeError, ValueError) as exc:
        raise SigningFailed(
            "The bundle can't be signed with this key. Expected a private key of an elliptic curve "
            "(P-256, P-384, P-521) in PEM, not encrypted, and the certificate of the same key. "
            f"Received: {exc}"
        ) from exc
    folder = bundle.resolve()
    config.set_hashing_config(hashing())
    # Beside the folder, which is hashed as it is and may be watched by a service.
    with tempfile.TemporaryDirectory(prefix=".signing-", dir=folder.parent) as beside:
        config.sign(folder, Path(beside, SIGNATURE_FILE))
        return Path(beside, SIGNATURE_FILE).replace(folder / SIGNATURE_FILE)


def hashing() -> Config:
    """What a signature covers: all files but itself, and those that links lead to."""
    from model_signing.hashing import Config  # noqa: PLC0415 - as in `sign`

    config = Config()  # type: ignore[no-untyped-call]
    config.set_ignored_paths(paths=[SIGNATURE_FILE], ignore_git_paths=False)
    return config.set_allow_symlinks(True)


def missing(exc: ImportError) -> str:
    """What to do without the package."""
    return (
        "Signatures need the package model-signing, with pyOpenSSL. Install the extra `signing` of "
        f"this project. Received: {exc}"
    )
