from __future__ import annotations

import shutil
from pathlib import Path

from tests.bundle.signing.keys import key_pair
from tests.bundle.test_cli import run


def test_a_bundle_is_signed_and_its_signature_checked(
    torch_bundle_root: Path, tmp_path: Path
) -> None:
    alice, mallory = key_pair(tmp_path, "alice"), key_pair(tmp_path, "mallory")
    path = Path(shutil.copytree(torch_bundle_root, tmp_path / "models")) / "tiny-torch" / "1"

    assert run("sign", str(path), "--private-key", str(alice.private)) == (
        0,
        f"Signed: {path}/model.sig\n",
    )

    code, output = run("check", str(path), "--signers", str(alice.public))
    assert code == 0
    assert "by alice.pub" in output
    assert "golden scores within" in output

    code, output = run("check", str(path), "--signers", str(mallory.public))
    assert code == 1
    assert "signature_invalid" in output
    assert "golden scores" not in output


def test_what_can_not_be_signed_is_refused_with_the_reason(
    torch_bundle_root: Path, tmp_path: Path
) -> None:
    alice = key_pair(tmp_path, "alice")
    path = Path(shutil.copytree(torch_bundle_root, tmp_path / "models")) / "tiny-torch" / "1"

    code, output = run("sign", str(path), "--private-key", str(alice.public))
    assert (code, "signing_failed" in output) == (1, True)

    (path / "model.pt").write_bytes(b"x")
    code, output = run("sign", str(path), "--private-key", str(alice.private))
    assert (code, "integrity_failed" in output) == (1, True)
