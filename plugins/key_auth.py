"""Key check without a database: the master key, and nothing else. With a database, LiteLLM's own check rules.

LiteLLM alone answers a wrong key with 400 "No connected db." when it has no database; clients expect 401.
"""

from __future__ import annotations

import hmac

from fastapi import Request
from litellm.constants import LITELLM_PROXY_MASTER_KEY_ALIAS
from litellm.proxy import proxy_server
from litellm.proxy._types import LitellmUserRoles, ProxyException, UserAPIKeyAuth


async def check_key(request: Request, api_key: str) -> UserAPIKeyAuth:
    """LiteLLM's `custom_auth`. Raises ProxyException (401)."""
    master_key = proxy_server.master_key
    if master_key and hmac.compare_digest((api_key or "").encode(), master_key.encode()):
        return UserAPIKeyAuth(
            api_key=LITELLM_PROXY_MASTER_KEY_ALIAS,
            key_alias="master key",
            user_role=LitellmUserRoles.PROXY_ADMIN,
            user_id=proxy_server.litellm_proxy_admin_name,
        )
    raise ProxyException(
        message="This key is not known here. Send the server's key as: Authorization: Bearer KEY.",
        type="authentication_error",
        param="api_key",
        code=401,
    )
