"""The arguments of the application on Ray, and the identity of a bundle in the cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt, model_validator

from bundle.format.manifest import read_manifest
from bundle.format.repository import BundleRef
from service.options.address import Address
from service.settings import Settings, SettingsError, read_settings

OTHERS = "Others"
"""The deployment of the models that have none of their own; no model has a capital letter."""


class Options(BaseModel):
    """Arguments of `serve.yaml`; an unknown one is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Scale(Options):
    """How many replicas a deployment of models has, and what each of them reserves."""

    min_replicas: int = Field(default=1, ge=0)
    max_replicas: PositiveInt = 1
    # Batches at once in a replica, which Serve adds and removes replicas for.
    target_batches: float = Field(default=2, gt=0)
    # Cores; the model runs on as many threads, unless SERVICE_RUNTIME_THREADS says otherwise.
    num_cpus: NonNegativeFloat = 1
    # A fraction shares a GPU with other replicas.
    num_gpus: NonNegativeFloat = 0

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                "min_replicas is at most max_replicas. "
                f"Received: {self.min_replicas} and {self.max_replicas}"
            )
        return self

    @property
    def autoscaling(self) -> dict[str, Any]:
        """Of the deployment, as Serve names it."""
        return {
            "min_replicas": self.min_replicas,
            "max_replicas": self.max_replicas,
            "target_ongoing_requests": self.target_batches,
        }

    @property
    def resources(self) -> dict[str, Any]:
        """Of each replica, as Ray names them."""
        return {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus}


class Shared(Scale):
    """The replicas that hold, each, the models that were used last."""

    min_replicas: int = Field(default=0, ge=0)
    models_per_replica: PositiveInt = 8


class Args(Options):
    """Arguments of `deploy.ray.app:build`."""

    # Every node sees it under this path; None: SERVICE_MODELS_DIR.
    models_dir: Path | None = None
    # Web processes, one on a node at most, and what each reserves.
    ingress_replicas: PositiveInt = 1
    ingress_cpus: NonNegativeFloat = 1
    # Models with a deployment of their own; None: every one of the repository, as `own`.
    models: dict[str, Scale] | None = None
    own: Scale = Scale()
    others: Shared = Shared()

    def settings(self) -> Settings:
        """The settings of the service, from the environment of this process.

        Raises:
            SettingsError: one is invalid, or the models lie elsewhere than in a folder.
        """
        settings = read_settings()
        if self.models_dir is not None:
            settings = settings.model_copy(update={"models_dir": self.models_dir})
        if isinstance(settings.models_dir, Address):
            raise SettingsError(
                "models_dir: on Ray every node reads the models. Expected a folder that all nodes "
                f"see under the same path. Received: '{settings.models_dir}'"
            )
        return settings

    def scale(self, name: str | None) -> Scale:
        """Of a deployment, which is named after its model; None: the shared one."""
        if name is None:
            return self.others
        return self.own if self.models is None else self.models[name]


class Identity(NamedTuple):
    """A bundle and how it runs; processes with the same one are the same to a client."""

    name: str
    version: int
    digest: str
    runtime: str
    device: str
    threads: int | None

    @classmethod
    def read(cls, ref: BundleRef, settings: Settings, scale: Scale) -> Identity:
        """That of a bundle as it lies in the repository.

        Raises:
            BundleError: its manifest can't be read.
        """
        threads = settings.runtime_threads or round(scale.num_cpus) or None
        digest = read_manifest(ref.path).digest
        return cls(ref.name, ref.version, digest, settings.runtime, settings.device, threads)

    def __str__(self) -> str:
        """What Serve's router and its metrics know it by."""
        return "/".join(map(str, self))

    def settings(self, settings: Settings) -> Settings:
        """Those of the service with its own."""
        own = {"runtime": self.runtime, "device": self.device, "runtime_threads": self.threads}
        return settings.model_copy(update=own)

    def folder(self, settings: Settings) -> Path:
        """Where the bundle lies."""
        return settings.models_folder / self.name / str(self.version)
