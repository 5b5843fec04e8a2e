"""Which bundles are trusted, and what the processes that open them may do."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from bundle.sandbox import MODEL_MEMORY_MB


class IsolationOptions(BaseModel):
    """Which bundles are trusted, and what the processes that open them may do."""

    signers: Path | None = Field(
        default=None,
        description="File or folder of public keys, certificates or identities; a bundle signed by "
        "none of them is refused. Unset: bundles need no signature.",
    )

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

    @property
    def confined(self) -> bool:
        """Whether processes of models and decoders are confined as far as the system allows."""
        return self.sandbox != "off"
