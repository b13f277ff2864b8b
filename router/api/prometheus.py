"""GET /metrics: what Prometheus reads, put together from the store, the gauges and what this router has counted."""

from __future__ import annotations

import time
from importlib.metadata import version

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from prometheus_client import ProcessCollector

from router.api.access import CallerHere, Services
from router.memory.gauge import free_now
from router.metrics.fleet import Fleet
from router.metrics.history import History
from router.metrics.page import CONTENT_TYPE, render


def prometheus_routes(services: Services) -> APIRouter:
    """The route. What happened before this call is not counted."""
    routes = APIRouter()
    history = History(services.store, services.config.models, time.time())
    process = ProcessCollector(registry=None)
    running = version("hearth")

    @routes.get("/metrics")
    async def read_metrics(_: CallerHere) -> PlainTextResponse:
        """Prometheus text format."""
        config, controller = services.config, services.controller
        state = await services.store.snapshot(list(config.models))
        await history.catch_up()
        fleet = Fleet(
            config,
            state,
            free=await free_now(services.gauge, config.settings.gpus),
            expected=controller.outlook(state).expected,
            trouble=controller.trouble if controller.lock.may_act else None,
            version=running,
        )
        text = render(fleet, history, controller.rounds.registry, process)
        return PlainTextResponse(text, media_type=CONTENT_TYPE)

    return routes
