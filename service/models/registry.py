"""The models of the repository: which one serves a request, and whether the service is ready."""

from __future__ import annotations

import asyncio
import logging

from bundle.format.repository import DEFAULT_FILE, default_model, scan
from service.errors import Draining, ModelRefused, NotReady, UnknownModel, UnknownVersion
from service.model_settings import FILE, read_model_settings
from service.models.model import ServedModel
from service.models.refusal import refusal
from service.settings import Settings

# Of the ignored folders, in an error message; the log has all.
MAX_REASONS = 5

log = logging.getLogger("service")


class Registry:
    """All versions in the model repository, each in its own process."""

    def __init__(self, settings: Settings) -> None:
        """Scan the repository; nothing is loaded yet."""
        bundles, self._ignored = scan(settings.models_dir)
        for folder in self._ignored:
            log.warning("ignored folder %s: %s", folder.path, folder.reason)
        self._settings = settings
        self._models: dict[str, dict[int, ServedModel]] = {}
        own = read_model_settings(settings)
        for name in own.keys() - {bundle.name for bundle in bundles}:
            log.warning("%s has settings of a model that does not exist: %s", FILE, name)
        for bundle in bundles:
            model = ServedModel(bundle, own.get(bundle.name, settings))
            self._models.setdefault(bundle.name, {})[bundle.version] = model
        self._tasks: list[asyncio.Task[None]] = []
        self.draining = False
        # The model for requests that name none.
        self.default_name = settings.default_model or self._written_default()

    def _written_default(self) -> str | None:
        """The default model that the repository names, or its only model."""
        try:
            if name := default_model(self._settings.models_dir):
                return name
        except (OSError, UnicodeDecodeError) as exc:
            log.warning("the file %s can't be read: %s", DEFAULT_FILE, exc)
        return next(iter(self._models)) if len(self._models) == 1 else None

    def start(self) -> None:
        """Load all models concurrently; their tasks run until `stop`."""
        self._tasks = [
            asyncio.create_task(model.run(), name=f"{model.name}/{model.version}")
            for model in self.all()
        ]
        for task in self._tasks:
            task.add_done_callback(_log_defect)

    async def stop(self) -> None:
        """End all processes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def all(self) -> list[ServedModel]:
        """Every version, sorted by name and number."""
        return [
            self._models[name][version]
            for name in sorted(self._models)
            for version in sorted(self._models[name])
        ]

    def find(self, name: str | None, version: int | None) -> ServedModel:
        """Find a version: the requested one, or the newest that is not refused.

        Raises:
            UnknownModel, UnknownVersion: it does not exist; the text names those that do.
            ModelRefused: the folder of the model cannot be read.
            NotReady: no model is requested, and there is no default one.
        """
        if name is None:
            name = self.default_name
            if name not in self._models and self._models and not self._refused_folder(name):
                raise NotReady(self._no_default)
        versions = self._models.get(name or "")
        if not versions:
            if refused := self._refused_folder(name):
                raise refused
            existing = (
                ", ".join(sorted(self._models)) or f"none, for {self._settings.models_dir} is empty"
            )
            raise UnknownModel(
                f"There is no model of this name. Expected one of: {existing}. Received: {name!r}"
            )
        if version is None:
            newest_first = sorted(versions, reverse=True)
            return versions[
                next((v for v in newest_first if versions[v].code is None), newest_first[0])
            ]
        if version not in versions:
            existing = ", ".join(map(str, sorted(versions)))
            raise UnknownVersion(
                f"{name} has no such version. Expected one of: {existing}. Received: {version}"
            )
        return versions[version]

    def check_ready(self) -> None:
        """Check that requests can be served.

        Raises:
            Draining: the service is shutting down.
            NotReady: models are loading, or the default one is not ready; the text says why.
        """
        if self.draining:
            raise Draining("The service is shutting down; it finishes what it has.")
        models = self.all()
        if not models:
            raise NotReady(
                f"The model repository has no model. Expected {self._settings.models_dir}/<name>/"
                "<version>/manifest.json; put a bundle there and restart the service."
                + self._ignored_folders
            )
        if loading := [f"{m.name}/{m.version}" for m in models if m.state == "loading"]:
            raise NotReady(f"Models are being loaded: {', '.join(loading)}.")
        if all(model.state == "refused" for model in models):
            reasons = "; ".join(f"{m.name}/{m.version}: {m.reason}" for m in models)
            raise NotReady(f"Every model is refused. {reasons}{self._ignored_folders}")
        name = self.default_name
        if name not in self._models:
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
        for folder in self._ignored:
            if folder.path == self._settings.models_dir / (name or ""):
                return refusal(folder.path.name, f"Its folder is ignored: {folder.reason}")
        return None

    @property
    def _no_default(self) -> str:
        """Why there is no default model, and how to set one."""
        name, models = self.default_name, ", ".join(sorted(self._models))
        file = self._settings.models_dir / DEFAULT_FILE
        what = "There is no default model" if name is None else "The default model does not exist"
        return (
            f"{what}. Name a model in the request; or set SERVICE_DEFAULT_MODEL, or write a name "
            f"into {file}, and restart the service. Expected one of: {models}. Received: {name!r}"
        )

    @property
    def _ignored_folders(self) -> str:
        """A sentence on the folders that are not models, if there are any."""
        reasons = [f"{folder.path}: {folder.reason}" for folder in self._ignored[:MAX_REASONS]]
        return f" Not models: {'; '.join(reasons)}." if reasons else ""


def _log_defect(task: asyncio.Task[None]) -> None:
    """Log the exception of a model's task; it ends otherwise if cancelled or refused."""
    if not task.cancelled() and task.exception() is not None:
        log.error("model %s has stopped serving", task.get_name(), exc_info=task.exception())
