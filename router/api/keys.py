"""The keys' routes: an admin makes and ends keys, and everyone may look at their own."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Response
from pydantic import Field

from router.api.access import CallerHere, ServicesHere, admin_here
from router.api.key_views import KeysView, KeyView, NewSecretView
from router.api.protocol import KEYS_PATH
from router.scheduling.fairness import GREATEST_SHARE, HIGHEST_PRIORITY, SMALLEST_SHARE
from router.store.key_ring import Key, KeyLimits, caller_of_id

#: A key's name is part of an address and of the tables that people read.
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"
#: Seconds that a key may live, and an old secret still work: thirty years.
_LONGEST = 10**9


class NewKey(KeyLimits):
    """What a new key shall be. life: seconds until it expires; None: it does not."""

    priority: int = Field(0, ge=-HIGHEST_PRIORITY, le=HIGHEST_PRIORITY)
    share: float = Field(1.0, ge=SMALLEST_SHARE, le=GREATEST_SHARE)
    name: str = Field(pattern=_NAME)
    life: float | None = Field(None, gt=0, le=_LONGEST, allow_inf_nan=False)


_for_admins = [Depends(admin_here)]
routes = APIRouter()


@routes.get(KEYS_PATH)
async def read_own_key(services: ServicesHere, caller: CallerHere) -> KeysView:
    """The key that asks."""
    own = [key for key in await services.store.key_ring.all() if caller_of_id(key.id) == caller.key]
    if not own:
        raise HTTPException(404, "The admin key is not one of the keys that are made here; name one of those.")
    return await _shown(services, own)


@routes.get(f"{KEYS_PATH}s", dependencies=_for_admins)
async def list_keys(services: ServicesHere) -> KeysView:
    """All keys."""
    return await _shown(services, await services.store.key_ring.all())


@routes.post(f"{KEYS_PATH}s", dependencies=_for_admins)
async def create_key(services: ServicesHere, response: Response, asked: Annotated[NewKey, Query()]) -> NewSecretView:
    """A new key."""
    limits = KeyLimits(**asked.model_dump(exclude={"name", "life"}))
    secret = await services.store.key_ring.create(asked.name, limits, asked.life)
    if secret is None:
        taken = f"There is a key {asked.name!r} already; revoke it first, or rotate it for a new secret."
        raise HTTPException(409, taken)
    response.headers["Cache-Control"] = "no-store"
    return NewSecretView(name=asked.name, key=secret)


@routes.get(f"{KEYS_PATH}s/{{name}}", dependencies=_for_admins)
async def read_key(services: ServicesHere, name: str) -> KeysView:
    """One key."""
    found = [key for key in await services.store.key_ring.all() if key.name == name]
    if not found:
        raise _missing(name)
    return await _shown(services, found)


@routes.delete(f"{KEYS_PATH}s/{{name}}", dependencies=_for_admins)
async def revoke_key(services: ServicesHere, name: str) -> None:
    """Forget the key: it is refused from now on, also by requests that wait."""
    if not await services.store.key_ring.revoke(name):
        raise _missing(name)


@routes.post(f"{KEYS_PATH}s/{{name}}/rotate", dependencies=_for_admins)
async def rotate_key(
    services: ServicesHere,
    response: Response,
    name: str,
    grace: Annotated[float, Query(ge=0, le=_LONGEST, allow_inf_nan=False)] = 0.0,
) -> NewSecretView:
    """A new secret for the key; the old one works for `grace` more seconds."""
    secret = await services.store.key_ring.rotate(name, grace)
    if secret is None:
        raise _missing(name)
    response.headers["Cache-Control"] = "no-store"
    return NewSecretView(name=name, key=secret)


@routes.post(f"{KEYS_PATH}s/{{name}}/block", dependencies=_for_admins)
async def block_key(services: ServicesHere, name: str) -> None:
    """Refuse the key until it is unblocked."""
    if not await services.store.key_ring.block(name, blocked=True):
        raise _missing(name)


@routes.post(f"{KEYS_PATH}s/{{name}}/unblock", dependencies=_for_admins)
async def unblock_key(services: ServicesHere, name: str) -> None:
    """Let a blocked key be used again."""
    if not await services.store.key_ring.block(name, blocked=False):
        raise _missing(name)


async def _shown(services: ServicesHere, keys: list[Key]) -> KeysView:
    views = [
        KeyView(
            name=key.name,
            fingerprint=key.fingerprint,
            limits=key.limits,
            created=key.created,
            expires=key.expires,
            blocked=key.blocked,
            spend=key.spend,
            tokens=key.tokens,
            last_used=key.last_used,
        )
        for key in keys
    ]
    return KeysView(now=await services.store.now_ms() / 1000, keys=views)


def _missing(name: str) -> HTTPException:
    return HTTPException(404, f"There is no key {name!r}.")
