"""What the processes that open bundles and images may do."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from bundle.sandbox import MODEL_MEMORY_MB


class IsolationOptions(BaseModel):
    """What the processes that open bundles and images may do."""

    sandbox: Literal["auto", "off"] = Field(
        default="auto",
        description="Confine the processes of models and decoders: no new privileges, no network, "
        "their own files only, a memory limit, each where the system allows it; off: nothing but "
        "the decoders' memory limit.",
    )
    worker_memory_mb: int = Field(
        default=MODEL_MEMORY_MB,
        ge=1024,
        description="Memory limit of a model's process in the sandbox, in MB; not on a GPU.",
    )
