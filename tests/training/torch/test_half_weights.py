"""Weights stored in fp16 give the scores of those in fp32, and take half of the space."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from tests.training.conftest import WarmOf

ROOT = Path(__file__).resolve().parents[3]

CODE = """
import json, sys
from pathlib import Path
import numpy as np, torch
from bundle.runtimes.torchscript import load
from training.config import make_config
from training.torch.trainer import Trainer
folder = Path(sys.argv[1])
config = make_config(arch="resnet18", image_size=64, threads=1, precision="fp32")
trainer = Trainer(config, 10, np.full(3, 100, "f4"), np.full(3, 50, "f4"))
# As in a published ResNet-50, and more than fp16 can hold.
trainer.model.bn1.running_var.fill_(83_614.0)
trainer.model.bn1.weight.data.fill_(100.0)
pixels = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
before = trainer.predict(pixels)
(folder / "whole").mkdir()
trainer.export(folder / "whole")
trainer.round_to_half()
rounded = trainer.predict(pixels)
(folder / "half").mkdir()
trainer.export(folder / "half")
again = trainer.predict(pixels)
served = load(folder / "half" / "model.pt", "cpu", 1, "fp32", None).run(pixels).logits
print(json.dumps({
    "spread": float(np.ptp(before)),
    "rounded": float(np.abs(rounded - before).max()),
    "served": float(np.abs(served - rounded).max()),
    "again": float(np.abs(again - rounded).max()),
    "convolutions": torch.backends.cudnn.conv.fp32_precision,
}))
"""


def test_half_weights_are_served_in_fp32(warm: WarmOf, tmp_path: Path) -> None:
    done = warm("torch").start(CODE, tmp_path).end()

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    sizes = [(tmp_path / name / "model.pt").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.55 * sizes[0]
    assert 0 < found["rounded"] < 0.01 * found["spread"]
    assert found["served"] < 1e-3 * found["spread"]
    assert found["convolutions"] == "ieee", "on a GPU too, where PyTorch's default is TF32"
    assert found["again"] == 0, "the export leaves the network as it was"
    with zipfile.ZipFile(tmp_path / "half" / "model.pt") as file:
        content = b"".join(map(file.read, file.namelist()))
    assert str(ROOT).encode() not in content, "a bundle names no folder of the machine"
