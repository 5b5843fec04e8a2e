"""Refusing under overload before the work of routing: what is refused must cost little, or the accepted pay for it.

A request that names no model and finds the queue of the default one full is answered here; any other refusal is the routes'.
Measured at four times the capacity in `benchmarks/`.
"""

from __future__ import annotations

from types import SimpleNamespace

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import QueueFull, ServiceError
from service.metrics import Metrics
from service.problems import problem_response
from service.registry import Registry

PATH = "/predict"
ROUTE = SimpleNamespace(path=PATH)  # as the router would leave it, for the metrics


class Shedding:
    """Answers 429 in the place of the application while the default model's queue is full."""

    def __init__(self, app: ASGIApp, service: FastAPI, metrics: Metrics) -> None:
        self.app = app
        self.service = service
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        ours = (
            scope["type"] == "http"
            and scope["path"] == PATH
            and scope["method"] == "POST"
            and not scope["query_string"]
            and self.service.state.cache is None  # what is kept is answered, however many wait
        )
        if ours and (refusal := self._refusal()) is not None:
            scope["route"] = ROUTE
            self.metrics.problem(refusal.code)
            await problem_response(refusal, scope["state"]["request_id"])(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _refusal(self) -> QueueFull | None:
        registry: Registry = self.service.state.registry
        try:
            with registry.find(None, None).admit(0):
                return None
        except QueueFull as exc:
            return exc
        except ServiceError:
            return None  # the routes say it
