from __future__ import annotations

import shutil
from pathlib import Path

from typer.testing import CliRunner

from bundle.cli import app


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    return result.exit_code, result.output


def test_check_accepts_a_good_bundle(torch_bundle_root: Path) -> None:
    code, output = run("check", str(torch_bundle_root / "tiny-torch" / "1"))

    assert code == 0
    assert "golden scores within" in output


def test_check_refuses_a_damaged_bundle_with_the_reason(
    torch_bundle_root: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(torch_bundle_root / "tiny-torch" / "1", tmp_path / "tiny-torch" / "1")
    (path / "model.pt").write_bytes(b"x")

    code, output = run("check", str(path))

    assert code == 1
    assert "integrity_failed" in output
    assert "model.pt" in output


def test_check_refuses_a_bundle_in_the_folder_of_another_one(
    torch_bundle_root: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(torch_bundle_root / "tiny-torch" / "1", tmp_path / "mine" / "2")

    code, output = run("check", str(path))

    assert code == 1
    assert "manifest_invalid" in output
    assert "Expected that of the folders, mine/2" in output
    assert "Received: tiny-torch/1" in output


def test_show_prints_the_record(torch_bundle_root: Path) -> None:
    code, output = run("show", str(torch_bundle_root / "tiny-torch" / "1"))

    assert code == 0
    assert "tiny-torch 1" in output
    assert "temperature" in output


def test_show_refuses_a_folder_without_manifest(tmp_path: Path) -> None:
    code, output = run("show", str(tmp_path))

    assert code == 1
    assert "manifest_invalid" in output


def test_a_wrong_command_exits_with_2() -> None:
    assert run("chek")[0] == 2
