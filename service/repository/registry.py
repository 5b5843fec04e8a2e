"""The models of the repository: which one serves a request, and whether the service is ready."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from bundle.format.repository import DEFAULT_FILE, IgnoredFolder
from service.errors import (
    Draining,
    ModelRefused,
    ModelUnavailable,
    NotReady,
    UnknownModel,
    UnknownVersion,
)
from service.models.model import SERVING, ServedModel
from service.models.refusal import refusal
from service.traffic import Traffic

# Of the ignored folders, in an error message; the log has all.
MAX_REASONS = 5
NO_TRAFFIC = Traffic()


class Registry:
    """The versions that are loaded, are being loaded, or were refused.

    `service.repository.lifecycle` adds and removes them.

    Args:
        models_dir: the repository. Its path is not for clients.
    """

    def __init__(self, models_dir: Path) -> None:
        self._models_dir = models_dir
        self.models: dict[str, dict[int, ServedModel]] = {}
        self.ignored: list[IgnoredFolder] = []
        # The model for requests that name none.
        self.default_name: str | None = None
        # Of models that have aliases.
        self.traffic: dict[str, Traffic] = {}
        # The version of each model that answered last as the stable one.
        self.last_stable: dict[str, int] = {}
        # What the last look at the repository could not use.
        self.error: str | None = None
        # What went wrong with copying it, where it lies elsewhere, and that it is being copied for
        # the first time.
        self.remote_error: str | None = None
        self.fetching: str | None = None
        # What is loaded at the start; the service is not ready before.
        self.first: list[ServedModel] = []
        # Models that an operator has unloaded; their bundles stay in the repository.
        self.unloaded: set[str] = set()
        self.draining = False
        # How often a bundle was refused, by the code of the reason.
        self.refusals: Counter[str] = Counter()

    def all(self) -> list[ServedModel]:
        """Every version, sorted by name and number."""
        return [
            self.models[name][version]
            for name in sorted(self.models)
            for version in sorted(self.models[name])
        ]

    @property
    def trouble(self) -> str | None:
        """What of the repository can't be read, copied or used."""
        return "; ".join(each for each in (self.error, self.remote_error) if each) or None

    def find(
        self, name: str | None, version: int | str | None, session: str | None = None
    ) -> ServedModel:
        """Find a version.

        Args:
            name: of the model; None: the default one.
            version: its number or alias; None: what its traffic says, or the newest that serves.
            session: id of the requests that should get the same version.

        Raises:
            UnknownModel, UnknownVersion: it does not exist; the text names those that do.
            ModelRefused: the folder of the model cannot be read.
            ModelUnavailable: an operator has unloaded it.
            NotReady: no model is requested, and there is no default one.
        """
        if name is None:
            name = self.default_name
            known = name in self.models or name in self.unloaded
            if not known and self.models and not self._refused_folder(name):
                raise NotReady(self._no_default)
        versions = self.models.get(name or "")
        if not versions:
            if name in self.unloaded:
                raise ModelUnavailable(_unloaded(name))
            if refused := self._refused_folder(name):
                raise refused
            names = sorted({*self.models, *self.unloaded})
            existing = ", ".join(names) or "none, for the model repository is empty"
            raise UnknownModel(
                f"There is no model of this name. Expected one of: {existing}. Received: {name!r}"
            )
        if version is None and len(versions) == 1:
            return next(iter(versions.values()))
        if not isinstance(version, int):
            version = self._by_traffic(name or "", versions, version, session)
        if version not in versions:
            existing = ", ".join(map(str, sorted(versions)))
            raise UnknownVersion(
                f"This version of {name} is not loaded (SERVICE_VERSIONS). "
                f"Expected one of: {existing}. Received: {version}"
            )
        return versions[version]

    def _by_traffic(
        self,
        name: str,
        versions: Mapping[int, ServedModel],
        alias: str | None,
        session: str | None,
    ) -> int | str:
        """The version behind an alias, or for a request that names none."""
        traffic = self.traffic.get(name, NO_TRAFFIC)
        if alias == "canary":
            return traffic.canary or alias
        ready = {model.version for model in versions.values() if model.state == "ready"}
        if alias is None and traffic.canary in ready and traffic.is_canary(name, session):
            return traffic.canary
        others = [model for model in versions.values() if model.version != traffic.canary]
        found = max(others or versions.values(), key=_preference).version
        if traffic.stable is not None:
            # Until the version that should be stable serves, the one that was answers.
            serving = {v for v, model in versions.items() if model.state in SERVING}
            both = (traffic.stable, self.last_stable.get(name))
            found = next((version for version in both if version in serving), found)
        self.last_stable[name] = found
        return found

    def check_ready(self) -> None:
        """Check that requests can be served.

        Raises:
            Draining: the service is shutting down.
            NotReady: models are loading, or the default one is not ready; the text says why.
        """
        if self.draining:
            raise Draining("The service is shutting down; it finishes what it has.")
        models = self.all()
        if self.default_name in self.unloaded:
            raise NotReady(_unloaded(self.default_name))
        if not models and self.fetching:
            raise NotReady(" ".join(each for each in (self.fetching, self.remote_error) if each))
        if not models:
            raise NotReady(
                "The model repository (SERVICE_MODELS_DIR) has no model. Expected "
                "<name>/<version>/manifest.json; put a bundle there." + self._ignored_folders
            )
        if loading := [f"{m.name}/{m.version}" for m in self.first if m.state == "loading"]:
            raise NotReady(f"Models are being loaded: {', '.join(loading)}.")
        if all(model.state == "refused" for model in models):
            reasons = "; ".join(f"{m.name}/{m.version}: {m.reason}" for m in models)
            raise NotReady(f"Every model is refused. {reasons}{self._ignored_folders}")
        name = self.default_name
        if name not in self.models:
            if refused := self._refused_folder(name):
                raise NotReady(f"The default model is not ready. {refused}")
            raise NotReady(self._no_default)
        default = self.find(name, None)
        if default.state != "ready":
            raise NotReady(
                f"The default model {name}, version {default.version}, is {default.state}: "
                f"{default.reason}"
            )

    def _refused_folder(self, name: str | None) -> ModelRefused | None:
        """The error for a model whose folder cannot be read; without a version it is in no list."""
        for folder in self.ignored:
            if folder.path == self._models_dir / (name or ""):
                return refusal(folder.path.name, f"Its folder is ignored: {folder.reason}")
        return None

    @property
    def _no_default(self) -> str:
        """Why there is no default model, and how to set one."""
        name, models = self.default_name, ", ".join(sorted(self.models))
        what = "There is no default model" if name is None else "The default model does not exist"
        return (
            f"{what}. Name a model in the request; or set SERVICE_DEFAULT_MODEL, or write a name "
            f"into the file `{DEFAULT_FILE}` of the model repository. "
            f"Expected one of: {models}. Received: {name!r}"
        )

    @property
    def _ignored_folders(self) -> str:
        """A sentence on the folders that are not models, if there are any."""
        reasons = [
            f"{folder.path.relative_to(self._models_dir)}: {folder.reason}"
            for folder in self.ignored[:MAX_REASONS]
        ]
        return f" Not models: {'; '.join(reasons)}." if reasons else ""


def _unloaded(name: str) -> str:
    return (
        f"The model {name} is unloaded. An administrator can load it again: "
        f"POST /v2/repository/models/{name}/load."
    )


def _preference(model: ServedModel) -> tuple[bool, bool, int]:
    """A version that is loaded comes first, then one that is being loaded, then the newest."""
    return model.state in SERVING, model.state == "loading", model.version
