"""Heat maps and embeddings through the queue of a model, in batches with images without them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from bundle.format.repository import BundleRef
from bundle.worker.responses import Extras
from service.models.model import ServedModel
from service.models.queued import Classification
from service.settings import Settings
from tests.bundles import colour_picture
from tests.service.tasks import until
from tests.tiny_networks import LABELS

COUNT = 24
PIXELS = [colour_picture(LABELS[n % 3], (32, 32), seed=n) for n in range(COUNT)]
WANTED = [
    *(None, Extras(0), Extras(1), Extras(2), Extras(embedding=True), Extras(1, embedding=True)),
]


@pytest.mark.anyio
async def test_an_image_in_a_batch_gets_its_own_extras(quick_root: Path) -> None:
    settings = Settings(models_dir=quick_root, max_batch=8)
    model = ServedModel(BundleRef("tiny-torch", 1, quick_root / "tiny-torch" / "1"), settings)
    running = asyncio.create_task(model.run())
    await until(lambda: model.state == "ready")
    digest = model.target().manifest.digest

    async def submit(number: int) -> Classification:
        extras = WANTED[number % len(WANTED)]
        return await model.queue.submit(PIXELS[number], digest, extras=extras)

    with model.queue.admit(COUNT):
        found = await asyncio.gather(*map(submit, range(COUNT)))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert max(model.queue.batch_sizes) == 8, "they ran together"
    for number, each in enumerate(found):
        wanted = WANTED[number % len(WANTED)] or Extras()
        # Of the tiny network the embedding is a quarter of the logits, and the mean of the heat
        # map of a class its logit.
        assert each.logits.argmax() == number % 3
        assert (each.heatmap is None) == (wanted.class_index is None)
        assert (each.embedding is None) != wanted.embedding
        if each.heatmap is not None:
            assert np.isclose(each.heatmap.mean(), each.logits[wanted.class_index], atol=1e-4)
        if each.embedding is not None:
            np.testing.assert_allclose(4 * each.embedding, each.logits, atol=1e-4)
