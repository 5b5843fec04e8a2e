"""The PyTorch and the Keras file have the same face, and train the same networks."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import training

FOLDER = Path(training.__file__).parent
MODULES = {"torch": "pytorch", "keras": "tensorflow"}


def signatures(module: str) -> list[tuple[str, list[tuple[str, str | None]]]]:
    """Public methods of the classes that the loop uses, in order, with their parameters and annotations."""
    tree = ast.parse((FOLDER / f"{module}.py").read_text())
    found = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name in ("Trainer", "EventWriter"):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and (
                    method.name == "__init__" or not method.name.startswith("_")
                ):
                    arguments = [
                        (a.arg, ast.unparse(a.annotation) if a.annotation else None) for a in method.args.args
                    ]
                    found.append((f"{node.name}.{method.name}", arguments))
    return found


def test_both_files_show_the_same_face() -> None:
    assert signatures("pytorch") == signatures("tensorflow")
    assert [name for name, _ in signatures("pytorch")][:4] == [
        "Trainer.__init__",
        "Trainer.train_step",
        "Trainer.predict",
        "Trainer.save",
    ]


COUNT = {
    "torch": "from training.pytorch import CifarResNet as make\n"
    "count = lambda model: sum(p.numel() for p in model.parameters())",
    "keras": "from training.tensorflow import cifar_resnet as make\n"
    "count = lambda model: sum(int(np.prod(v.shape)) for v in model.trainable_variables)",
}
PRINT = """
import json
import numpy as np
mean = std = np.full(3, 100, "f4")
print(json.dumps([[count(make(depth, 10, mean, std, residual)) for depth in (20, 32, 44, 56)] for residual in (True, False)]))
"""


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_networks_have_the_parameters_of_the_paper(framework: str) -> None:
    """He et al. 2016, table 6: 0.27, 0.46, 0.66 and 0.85 million; identity shortcuts have none."""
    code = f"{COUNT[framework]}\n{PRINT}"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )

    assert done.returncode == 0, done.stderr
    residual, plain = json.loads(done.stdout)
    assert [round(count / 1e6, 2) for count in residual] == [0.27, 0.46, 0.66, 0.85]
    assert residual == plain
    assert residual[0] == 269_722


STEP = """
import json
import numpy as np
from training.config import make_config
from training.{module} import Trainer
config = make_config(framework={framework!r}, optimizer={optimizer!r}, threads=1)
generator = np.random.default_rng(0)
trainer = Trainer(config, 4, np.full(3, 128, "f4"), np.full(3, 64, "f4"))
pixels = generator.integers(0, 256, (32, 16, 16, 3), dtype=np.uint8)
labels = generator.integers(0, 4, 32)
losses = [trainer.train_step(pixels, labels, 0.3)[0] for _ in range(12)]
print(json.dumps(losses))
"""


@pytest.mark.parametrize("optimizer", ["muon", "sgd"])
def test_both_frameworks_learn_one_batch_by_heart(optimizer: str) -> None:
    losses = {}
    for framework, module in MODULES.items():
        code = STEP.format(module=module, framework=framework, optimizer=optimizer)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        losses[framework] = json.loads(done.stdout)

    for values in losses.values():
        assert 1 < values[0] < 3
        assert values[-1] < 0.3 * values[0]
