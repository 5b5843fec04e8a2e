"""What the child processes of an import share: their request, their findings, checks of numbers.

A child opens the file in its framework, writes the artifact and `findings.json` into a folder, and
`logits.npy`: what the framework itself gives for the golden images. It is killed at a time limit.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle.errors import BundleError, ImportFailed
from bundle.evaluation.golden import drawn_images, golden_pixels
from bundle.format.manifest import Input
from bundle.importing.options import Options, normalisation
from bundle.machine import address_space, available_memory
from bundle.normalisation import Normalisation
from bundle.runtimes import describe
from bundle.worker.process import end_with, environment

TIMEOUT_S = 300.0
FINDINGS, LOGITS = "findings.json", "logits.npy"

Floats = npt.NDArray[np.float32]
# The framework's own outputs, [N, C], of its own input, [N, 3, H, W] or [N, H, W, 3].
Forward = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]


@dataclass
class Findings:
    """What a child found out, as far as it is not in the artifact."""

    artifact: dict[str, Any]  # of the manifest
    framework: dict[str, Any]  # of the manifest
    architecture: str | None = None
    parameters: int | None = None
    heatmap: dict[str, Any] = field(default_factory=lambda: {"method": "none"})
    input: dict[str, Any] = field(default_factory=dict)  # of the manifest
    normalisation: str = ""
    changeable: bool = True  # whether --normalise has an effect
    outputs: str = "logits"
    classes: int = 0
    labels: list[str] | None = None
    assumed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # for the user


def run_child(module: str, kind: str, path: Path, options: Options, target: Path) -> Findings:
    """Let a child read `path` and write the artifact into `target`.

    Raises:
        ImportFailed: It refuses the file, died, or took too long.
    """
    request = {
        "kind": kind,
        "path": str(path.absolute()),
        "options": asdict(options),
        "target": str(target),
        "parent": os.getpid(),
    }
    variables = environment("cpu", None)
    # The variable keeps Keras out of TensorFlow, and here its files are read.
    variables.pop("TF_USE_LEGACY_KERAS")
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", f"bundle.importing.{module}", json.dumps(request)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=variables,
            timeout=TIMEOUT_S,
            text=True,
            errors="replace",
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise ImportFailed(
            f"Opening the model took more than {TIMEOUT_S:.0f} s and was ended. Expected a model "
            f"that runs in seconds. Received: {str(path)!r}"
        ) from exc
    findings = target / FINDINGS
    if not findings.is_file():
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        raise ImportFailed(
            f"The process that opened the model ended (exit status {done.returncode}): memory ran "
            "out, or the file is damaged. Expected a complete file. Received: "
            f"{(lines[-1] if lines else 'no output')[:300]}"
        )
    found = json.loads(findings.read_text())
    findings.unlink()
    if "error" in found:
        raise ImportFailed(found["error"])
    return Findings(**found)


def serve_request(read: Callable[[str, Path, Options, Path], Findings]) -> None:
    """The main program of a child: read the request, call `read`, write the findings."""
    request = json.loads(sys.argv[1])
    end_with(request["parent"])
    # A file that needs more memory than there is gets an error; without a limit the kernel would
    # choose a process to kill.
    limit = address_space() + available_memory()
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    target = Path(request["target"])
    options = request["options"]
    options["size"] = tuple(options["size"]) if options["size"] else None
    findings: dict[str, Any]
    try:
        found = read(request["kind"], Path(request["path"]), Options(**options), target)
        findings = asdict(found)
    except BundleError as exc:
        findings = {"error": str(exc)}
    except ImportError as exc:
        findings = {
            "error": "A package that this kind of model needs is not installed. Expected the extra "
            f"import, and torch, tensorflow or openvino. Received: {exc}"
        }
    except Exception as exc:  # noqa: BLE001 - the frameworks raise any type
        text = " ".join(describe(exc).split())
        findings = {
            "error": "The model can't be read. Expected a complete file of an image classifier, "
            f"of a version that is not newer than the packages here. Received: {text:.300}"
        }
    (target / FINDINGS).write_text(json.dumps(findings))
    # The threads of the frameworks can hang an orderly exit.
    sys.stdout.flush()
    os._exit(0)


def set_input(
    findings: Findings, options: Options, said: tuple[int, int] | None, usual: dict[str, Any]
) -> Input:
    """Decide the geometry: what the file says, else the option, else what is usual.

    Args:
        findings: Gets it, and what is assumed.
        options: Of the user.
        said: Height and width that the file states, or None.
        usual: `size`, `resize` (None: stretch) and `interpolation` where nobody says anything.

    Raises:
        ImportFailed: The option contradicts the file, or itself.
    """
    if said and options.size and said != options.size:
        raise ImportFailed(
            f"The file states an input of {said[0]}x{said[1]} pixels. Leave --size out. "
            f"Received: --size {options.size[0]}x{options.size[1]}"
        )
    size = said or options.size or (usual["size"], usual["size"])
    if not (said or options.size):
        findings.assumed.append(f"input of {size[0]}x{size[1]} pixels (--size)")
    interpolation = options.interpolation or usual["interpolation"]
    if options.interpolation is None:
        findings.assumed.append(f"{interpolation} interpolation (--interpolation)")
    resize = options.resize
    if options.stretch or (resize is None and (usual["resize"] is None or size[0] != size[1])):
        rule = {"rule": "stretch", "height": size[0], "width": size[1]}
        if not options.stretch:
            findings.assumed.append("images are stretched to that size (--resize PIXELS crops)")
    else:
        if resize is None:
            # The usual margin of an ImageNet evaluation; small images have none to lose.
            known = size[0] == usual["size"]
            resize = usual["resize"] if known else round(size[0] / 0.875)
            resize = resize if size[0] >= 100 else size[0]
            findings.assumed.append(f"shorter side resized to {resize}, centre crop (--resize)")
        if resize < max(size):
            raise ImportFailed(
                f"The resized image is smaller than the input of {size[0]}x{size[1]} pixels. "
                f"Expected --resize {max(size)} or more. Received: {resize}"
            )
        rule = {"rule": "shorter_side", "size": resize}
    findings.input = {
        "height": size[0],
        "width": size[1],
        "color_mode": "RGB",
        "dtype": "uint8",
        "layout": "NHWC",
        "resize": rule | {"interpolation": interpolation},
        "crop": {"rule": "center", "height": size[0], "width": size[1]},
    }
    return Input.model_validate(findings.input)


def set_normalisation(
    findings: Findings, options: Options, usual: tuple[str, str] | None
) -> Normalisation:
    """Decide the normalisation: the option, else what is usual.

    Args:
        findings: Gets it, and what is assumed.
        options: Of the user.
        usual: What is assumed and why; None: there is no usual one.

    Raises:
        ImportFailed: Nobody says it, and nothing is usual.
    """
    if options.normalise is not None:
        findings.normalisation = options.normalise
    elif usual is None:
        raise ImportFailed(
            "The file does not say how pixels become the model's input, and nothing is usual for "
            "its kind. Expected --normalise imagenet|0..1|-1..1|caffe|MEAN/STD as in the program "
            "that made the model, or 0..255 if it scales pixels itself. Received: no --normalise"
        )
    else:
        findings.normalisation = usual[0]
        findings.assumed.append(f"normalisation {usual[0]}: {usual[1]} (--normalise)")
    return normalisation(findings.normalisation)


def normalised(pixels: npt.NDArray[np.uint8], how: Normalisation, layout: str) -> Floats:
    """The model's own input of uint8 pixels [N, H, W, 3], in numpy: what artifacts must equal."""
    values: Floats = pixels.astype(np.float32)
    if how.order == "BGR":
        values = values[..., ::-1]
    mean, std = (np.array(v, np.float32) for v in (how.mean, how.std))
    values = (values - mean) / std
    found = values.transpose(0, 3, 1, 2) if layout == "NCHW" else values
    return np.ascontiguousarray(found, np.float32)


def set_logits(
    findings: Findings, options: Options, outputs: npt.NDArray[Any], target: Path
) -> None:
    """Check the outputs [N, C] of the golden images, and keep the logits that they are.

    Args:
        findings: Gets `outputs` and `classes`.
        options: Of the user.
        outputs: The framework's own.
        target: The folder that gets the logits.

    Raises:
        ImportFailed: They are not those of a classifier.
    """
    shape = list(outputs.shape)
    if outputs.ndim != 2:
        raise ImportFailed(
            "The model is no image classifier: its output for 4 images is "
            f"{shape}. Expected [4, classes]; detection and segmentation are not served. "
            f"Received: an output of shape {shape}"
        )
    if shape[1] < 2:
        raise ImportFailed(
            "The model has one output: it is a regression or tells two classes apart by a "
            "threshold. Expected one output for each of two or more classes, as a last layer with "
            "2 outputs gives. Received: 1 output"
        )
    if not np.isfinite(outputs).all():
        raise ImportFailed(
            "The outputs of the model are NaN or infinity. Expected trained weights, and the right "
            f"--normalise. Received: --normalise {findings.normalisation}"
        )
    probable = bool((outputs >= 0).all() and np.allclose(outputs.sum(1), 1, atol=1e-3))
    if options.outputs == "probabilities" and not probable:
        raise ImportFailed(
            "The outputs are no probabilities: they are negative or do not sum to 1. Leave "
            f"--outputs out. Received: {outputs[0, :3].tolist()}, ..."
        )
    findings.outputs = options.outputs or ("probabilities" if probable else "logits")
    if probable and not options.outputs:
        findings.notes.append("the outputs are probabilities; the artifact returns their logarithm")
    findings.classes = shape[1]
    values = outputs.astype(np.float32)
    if findings.outputs == "probabilities":
        values = np.log(np.maximum(values, TINY))
    np.save(target / LOGITS, values.astype(np.float32))


# The smallest probability; its logarithm is about -69.
TINY = np.float32(1e-30)


def sample_pixels(geometry: Input) -> npt.NDArray[np.uint8]:
    """The golden images as pixels, uint8 [4, H, W, 3]."""
    return golden_pixels(drawn_images(), geometry)
