"""The gateway's counterpart in the comparison: stock LiteLLM under the same server with the same settings.

It reads LiteLLM's CONFIG_FILE_PATH and BENCHMARK_PORT. With BENCHMARK_SHORTCUT it also remembers, as the gateway does,
which of LiteLLM's modules cannot be imported. `python -m benchmarks.plain_litellm`
"""

from __future__ import annotations

import os

import uvicorn

from plugins.gateway import SHUTDOWN_GRACE


def main() -> None:
    # What the gateway sets before LiteLLM is imported, too.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOG", "WARNING")
    from litellm.proxy.proxy_server import app  # noqa: PLC0415

    if os.environ.get("BENCHMARK_SHORTCUT"):
        from plugins.litellm_settings import remember_that_tracing_is_missing  # noqa: PLC0415

        remember_that_tracing_is_missing()
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(os.environ["BENCHMARK_PORT"]),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_GRACE,
        lifespan="on",
    )


if __name__ == "__main__":
    main()
