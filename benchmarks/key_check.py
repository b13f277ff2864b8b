"""What the check of a key costs a request: LiteLLM's own function with Hearth's part in it, timed in this process.

Redis is a real one. Most checks do not ask it, since a key is remembered for a moment.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request

from benchmarks.outcome import Outcome, Row, options
from benchmarks.processes import Child, until
from benchmarks.samples import spread
from benchmarks.stack import MASTER_KEY, chat_body, clean_environment
from router.store.connection import connect
from router.store.key_ring import KeyLimits, KeyRing
from router.store.known_keys import KnownKeys
from router.supervisor.parts import redis_command

_MANY = 10**9
_EVERY_LIMIT = KeyLimits(models=("stub",), rpm=_MANY, tpm=_MANY, parallel=100, budget=1e6, priority=1)
#: Checks of one key before those of the next: what else the machine does meets all.
_TURN = 20
_GOAL_MS = 1.0


def _request(key: str) -> Request:
    """A chat as LiteLLM's check gets it."""
    body = json.dumps(chat_body("stub")).encode()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"authorization", f"Bearer {key}".encode()), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"", "headers": headers}
    return Request({**scope, "scheme": "http", "server": ("127.0.0.1", 80), "root_path": "", "app": None}, receive)


async def _measure(redis_url: str, checks: int) -> dict[str, list[float]]:
    """Milliseconds of each check."""
    # after the environment has been made for it
    from litellm.proxy import proxy_server  # noqa: PLC0415
    from litellm.proxy.auth.user_api_key_auth import user_api_key_auth  # noqa: PLC0415

    from plugins import litellm_settings  # noqa: PLC0415

    client, known = connect(redis_url), KnownKeys(redis_url)
    key = await KeyRing(client).create("ada", _EVERY_LIMIT)
    assert key is not None
    proxy_server.master_key = MASTER_KEY
    litellm_settings.remember_that_tracing_is_missing()
    litellm_settings.check_keys_unless_others_do(known)
    check = proxy_server.user_custom_auth
    nothing = dict.fromkeys(
        ("azure_api_key_header", "anthropic_api_key_header", "google_ai_studio_api_key_header", "azure_apim_header",
         "custom_litellm_key_header")
    )  # fmt: skip

    def whole(secret: str) -> Callable[[], Awaitable[Any]]:
        return lambda: user_api_key_auth(request=_request(secret), api_key=f"Bearer {secret}", **nothing)

    async def anew() -> None:
        known._forget()
        await check(None, key)

    sides = {"admin": whole(MASTER_KEY), "ring": whole(key), "ours": lambda: check(None, key), "ours anew": anew}
    found: dict[str, list[float]] = {name: [] for name in sides}
    await known.start()
    try:
        for turn in range(checks // _TURN + 1):
            for name, ask in sides.items():
                for _ in range(_TURN):
                    began = time.perf_counter()
                    await ask()
                    if turn:  # the first one warms up
                        found[name].append((time.perf_counter() - began) * 1000)
    finally:
        await known.close()
        await client.aclose()
    return found


def main() -> int:
    parser = options("key_check", __doc__)
    parser.add_argument("--checks", type=int, default=4000, help="of each kind")
    given = parser.parse_args()
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no download at its import
    with tempfile.TemporaryDirectory(prefix="hearth-benchmark-") as name:
        directory = Path(name)
        socket = directory / "redis.sock"
        redis = Child("redis", redis_command(socket, directory), clean_environment(), directory)
        try:
            until(socket.exists, "Redis listens")
            samples = asyncio.run(_measure(f"unix://{socket}", given.checks))
        finally:
            redis.stop()
    found = {kind: spread(each) for kind, each in samples.items()}
    rows = [
        Row.at_most("key check, a key with every limit: p50", found["ring"]["p50"], _GOAL_MS, "ms"),
        Row("the same, the admin key: p50", f"{found['admin']['p50']:.2f} ms"),
        Row("Hearth's part of it: p50", f"{found['ours']['p50']:.3f} ms"),
        Row("the same when Redis is asked: p50", f"{found['ours anew']['p50']:.3f} ms"),
    ]
    return Outcome("key_check", rows, {"milliseconds": found}).publish(given.out)


if __name__ == "__main__":
    sys.exit(main())
