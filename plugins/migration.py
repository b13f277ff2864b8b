"""Brings the tables of LiteLLM's database up to date: `python -m plugins.migration`, before the gateway starts."""

from __future__ import annotations

import os
import sys

from litellm_proxy_extras.utils import ProxyExtrasDBManager


def main() -> int:
    """Exit code 2 without a DATABASE_URL, 1 when a migration has failed; LiteLLM's log says which."""
    if not os.environ.get("DATABASE_URL"):
        print("DATABASE_URL is not set: there is no database to bring up to date.", file=sys.stderr)
        return 2
    # the newer of LiteLLM's two ways: it never guesses a schema's state from its differences
    return 0 if ProxyExtrasDBManager.setup_database(use_migrate=True, use_v2_resolver=True) else 1


if __name__ == "__main__":
    sys.exit(main())
