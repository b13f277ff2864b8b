"""Key check without a database: the master key and the keys of the ring. With a database, LiteLLM's own check rules.

LiteLLM enforces what it can for a key that did not come from its database: models, requests and tokens a minute, and
which addresses are for admins. The rest is ours: blocked, expired and (plugins/key_limits.py) parallel and the budget.
"""

from __future__ import annotations

import hmac
import time
from datetime import UTC, datetime

from fastapi import Request
from litellm.constants import LITELLM_PROXY_MASTER_KEY_ALIAS
from litellm.proxy import proxy_server
from litellm.proxy._types import LitellmUserRoles, ProxyException, UserAPIKeyAuth

from plugins.request_scope import current_scope
from router.errors import StoreUnavailable
from router.store.key_ring import Key
from router.store.known_keys import KnownKeys


class KeyCheck:
    """LiteLLM's `custom_auth`."""

    def __init__(self, keys: KnownKeys) -> None:
        self._keys = keys

    async def __call__(self, request: Request, api_key: str) -> UserAPIKeyAuth:
        """Who asks. Raises ProxyException (401, 403; 503 when the key cannot be checked)."""
        admin = _admin(api_key)
        if admin is not None:
            return admin
        try:
            key = await self._keys.find(api_key) if api_key else None
        except StoreUnavailable:
            raise ProxyException(
                message="Keys cannot be checked: Redis is away; try again in a moment.",
                type="service_unavailable",
                param="api_key",
                code=503,
                headers={"Retry-After": "2"},
            ) from None
        key = require_valid(key, time.time())
        if (scope := current_scope()) is not None:
            scope.key = key
        return _caller(key)


def ring_rules() -> bool:
    """Whether the ring's keys are those that count here."""
    return isinstance(proxy_server.user_custom_auth, KeyCheck)


async def check_key(request: Request, api_key: str) -> UserAPIKeyAuth:
    """The master key and nothing else, for a `custom_auth` of one's own to build on. Raises ProxyException (401)."""
    admin = _admin(api_key)
    if admin is None:
        raise _unknown()
    return admin


def require_valid(key: Key | None, now: float) -> Key:
    """The key. Raises ProxyException (401, 403) unless it may ask at all. now: unix seconds."""
    if key is None:
        raise _unknown()
    if key.expires is not None and key.expires <= now:
        at = datetime.fromtimestamp(key.expires, UTC).isoformat(timespec="seconds")
        raise ProxyException(
            message=f"The key {key.name!r} has expired ({at}). An admin can make a new one.",
            type="expired_key",
            param="api_key",
            code=401,
        )
    if key.blocked:
        raise ProxyException(
            message=f"The key {key.name!r} is blocked. An admin can unblock it.",
            type="key_blocked",
            param="api_key",
            code=403,
        )
    return key


def _admin(api_key: str | None) -> UserAPIKeyAuth | None:
    master_key = proxy_server.master_key
    if not master_key or not hmac.compare_digest((api_key or "").encode(), master_key.encode()):
        return None
    return UserAPIKeyAuth(
        api_key=LITELLM_PROXY_MASTER_KEY_ALIAS,
        key_alias="master key",
        user_role=LitellmUserRoles.PROXY_ADMIN,
        user_id=proxy_server.litellm_proxy_admin_name,
    )


def _caller(key: Key) -> UserAPIKeyAuth:
    """The key as LiteLLM knows keys. Its name there is its id, so that its limits outlive its secret."""
    limits = key.limits
    return UserAPIKeyAuth(
        api_key=key.id,
        key_alias=key.name,
        user_role=LitellmUserRoles.INTERNAL_USER,
        models=list(limits.models),
        rpm_limit=limits.rpm,
        tpm_limit=limits.tpm,
        metadata={"priority": limits.priority, "share": limits.share},
    )


def _unknown() -> ProxyException:
    return ProxyException(
        message="This key is not known here. Send the server's key as: Authorization: Bearer KEY.",
        type="authentication_error",
        param="api_key",
        code=401,
    )
