from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bundle.runtimes import describe
from tests.sources import ROOT

DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "failed reading /srv/models/a/1/model.pt: no\n  archive",
            "failed reading model.pt: no archive",
        ),
        ("'/opt/venv/lib/python3.12/site-packages/torch/x.py', line 3", "'x.py', line 3"),
        (
            "see https://pytorch.org/docs/stable/x.html",
            "see https://pytorch.org/docs/stable/x.html",
        ),
        ("and/or 3/4", "and/or 3/4"),
    ],
)
def test_what_a_framework_says_is_one_line_without_the_folders_of_this_machine(
    text: str, shown: str
) -> None:
    assert describe(ValueError(text)) == f"ValueError: {shown}"


def test_a_folder_that_is_known_may_have_any_name() -> None:
    folder = Path("/srv/all 'my' models/a/1")
    exc = OSError(f'can\'t parse b"{folder}/saved_model/x.pb"')
    assert describe(OSError(f"can't open {folder}"), folder) == "OSError: can't open 1"
    assert describe(exc, folder) == 'OSError: can\'t parse b"saved_model/x.pb"'


@pytest.mark.parametrize(
    ("form", "framework", "image"),
    [
        ("torchscript", "torch", "service-torch"),
        ("savedmodel", "tensorflow", "service-tensorflow"),
        ("openvino", "openvino", "service"),
    ],
)
def test_without_its_framework_a_bundle_names_the_extra_and_the_image_that_have_it(
    form: str, framework: str, image: str, tmp_path: Path
) -> None:
    code = f"""
import sys
sys.modules[{framework!r}] = None  # as if it was not installed
from pathlib import Path
from bundle.errors import RuntimeUnavailable
from bundle.format.manifest import Artifact
from bundle.runtimes import load_model
artifact = Artifact.model_construct(format={form!r}, path="model", precision="fp32")
try:
    load_model(Path({str(tmp_path)!r}), artifact, "cpu", 1)
except RuntimeUnavailable as exc:
    print(exc)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )

    assert (
        f"The framework for {form} is not installed. Install the extra {framework}, or run the "
        f"image {image}. Received: ModuleNotFoundError: "
    ) in done.stdout
    extras = re.search(
        rf"^FROM build AS build-{image}\nRUN .*install\.sh no (\S+)$", DOCKERFILE, re.MULTILINE
    )
    assert extras is not None
    assert framework in extras[1].split(",")
