"""Plain FastAPI: a sync endpoint in FastAPI's thread pool, without batching."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import uvicorn
from anyio.to_thread import current_default_thread_limiter
from fastapi import Body, FastAPI, Request
from fastapi.responses import JSONResponse

from benchmarks.peers.work import Classifier, options

OPTIONS = options()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the model before the port opens."""
    app.state.classifier = Classifier(OPTIONS)
    # The default is 40 threads; as many forward passes would compete for the cores.
    current_default_thread_limiter().total_tokens = OPTIONS.workers
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/ready")
async def ready() -> str:
    """Responds once the model is loaded."""
    return "ready"


@app.post("/predict")
def predict(
    jpeg: Annotated[bytes, Body(media_type="image/jpeg")], request: Request
) -> JSONResponse:
    """Classify the JPEG in the body."""
    return JSONResponse(request.app.state.classifier.predict([jpeg])[0])


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=OPTIONS.port, log_level="warning")
