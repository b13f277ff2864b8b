"""Cline's files, those of its CLI and of its editor extensions alike: the account with its model, and what it may do.

The entry is Cline's own `openai-compatible`: a provider of another name is listed, and refused when it is asked. It
holds one model and its context; what a models.json beside it says does not reach that entry (Cline 3.0.65).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from router.clients.offer import Offer
from router.clients.saved import SavedFile, as_json, object_in

PROVIDER = "openai-compatible"

ACCOUNTS, SETTINGS = "providers.json", "global-settings.json"


def settings_directory(environment: Mapping[str, str], home: Path) -> Path:
    """Where Cline keeps its settings."""
    base = environment.get("CLINE_DATA_DIR")
    return (Path(base) if base else home / ".cline" / "data") / "settings"


def files(
    offer: Offer, address: str, key: str, directory: Path, present: Mapping[str, str | None], at: str
) -> list[SavedFile]:
    """Two files. present: what is in each of them now. at: the time, as ISO 8601. Only the first holds the key, as it
    does where Cline writes it itself.

    Raises NotOurs when what is there cannot be read as JSON.
    """
    accounts, settings = (object_in(directory / name, present.get(name)) for name in (ACCOUNTS, SETTINGS))
    return [
        SavedFile(directory / ACCOUNTS, as_json(_accounts(accounts, offer, address, key, at)), secret=True),
        # Cline's own default is to run every tool unasked.
        SavedFile(directory / SETTINGS, as_json({"toolAutoApprove": False, **settings})),
    ]


def _accounts(document: Mapping[str, Any], offer: Offer, address: str, key: str, at: str) -> dict[str, Any]:
    model = offer.model(offer.default)
    settings: dict[str, Any] = {
        "provider": PROVIDER,
        "apiKey": key,
        "model": model.name,
        "baseUrl": f"{address}/v1",
    }
    if model.context is not None:
        settings["contextWindow"] = model.context
    account = {"settings": settings, "updatedAt": at, "tokenSource": "manual"}
    providers = document.get("providers")
    return {
        "modes": {},
        **document,
        "version": 1,
        "lastUsedProvider": PROVIDER,
        "providers": {**(providers if isinstance(providers, dict) else {}), PROVIDER: account},
    }
