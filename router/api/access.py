"""What the routes work with, and who may call them."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Header, HTTPException, Request

from router.api.protocol import CALLER_HEADER, ROLE_HEADER, TOKEN_HEADER
from router.config import Config
from router.controller import Controller
from router.memory.gauge import Gauges, MemoryGauge
from router.runtimes.base import Runtime
from router.store.fleet import FleetStore


@dataclass(frozen=True, slots=True)
class Services:
    """What the routes work with."""

    config: Config
    store: FleetStore
    controller: Controller
    runtime: Runtime
    gauge: MemoryGauge = field(default_factory=lambda: Gauges({}))


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the gateway says. key: the hash of their key."""

    key: str
    admin: bool


def services_here(request: Request) -> Services:
    """What this application's routes work with."""
    services: Services = request.app.state.services
    return services


async def caller_here(
    services: Annotated[Services, Depends(services_here)],
    token: Annotated[str, Header(alias=TOKEN_HEADER)] = "",
    role: Annotated[str, Header(alias=ROLE_HEADER)] = "",
    caller: Annotated[str, Header(alias=CALLER_HEADER)] = "",
) -> Caller:
    """Who asks. Raises HTTPException (403) unless the gateway does, and StoreUnavailable."""
    # the token is read each time: Redis may have lost it, and somebody else may have made a new one
    known = await services.store.api_token()
    if not hmac.compare_digest(token.encode(), known.encode()):
        raise HTTPException(403, "The router answers its gateway only; ask there.")
    return Caller(caller, role == "admin")


def admin_here(caller: Annotated[Caller, Depends(caller_here)]) -> Caller:
    """Who asks, an admin. Raises HTTPException (403) for others."""
    if not caller.admin:
        raise HTTPException(403, "This needs the admin key.")
    return caller


ServicesHere = Annotated[Services, Depends(services_here)]
CallerHere = Annotated[Caller, Depends(caller_here)]
AdminHere = Annotated[Caller, Depends(admin_here)]
