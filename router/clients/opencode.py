"""OpenCode's `opencode.json`: the provider entry and, where nobody has chosen yet, models and permissions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from router.clients.offer import Model, Offer
from router.clients.saved import SavedFile, as_json, object_in

#: What the entry is called, in `hearth/MODEL`.
PROVIDER = "hearth"
KEY_VARIABLE = "HEARTH_API_KEY"

#: Nothing is changed, run or fetched without a question. Reading is allowed, except what OpenCode itself keeps back.
_PERMISSIONS = {
    "edit": "ask",
    "bash": "ask",
    "webfetch": "ask",
    "websearch": "ask",
    "external_directory": "ask",
    "doom_loop": "ask",
}


def config_path(environment: Mapping[str, str], home: Path) -> Path:
    """The file that OpenCode reads for all projects."""
    if named := environment.get("OPENCODE_CONFIG"):
        return Path(named)
    base = environment.get("XDG_CONFIG_HOME")
    return (Path(base) if base else home / ".config") / "opencode" / "opencode.json"


def files(offer: Offer, address: str, path: Path, present: str | None) -> list[SavedFile]:
    """The file with our entry in it. present: what is in it now. The key stays in the environment.

    Raises NotOurs when what is there cannot be read as JSON.
    """
    document = {"$schema": "https://opencode.ai/config.json", **object_in(path, present)}
    document["provider"] = {**_part(document, "provider"), PROVIDER: _provider(offer, address)}
    for key, chosen in (("model", offer.default), ("small_model", offer.small)):
        now = document.get(key)
        if not isinstance(now, str) or now.startswith(f"{PROVIDER}/"):
            document[key] = f"{PROVIDER}/{chosen}"
    permission = document.get("permission")
    if not isinstance(permission, str):  # one word for everything is somebody's choice
        document["permission"] = {**_PERMISSIONS, **_part(document, "permission")}
    document.setdefault("share", "disabled")
    return [SavedFile(path, as_json(document))]


def _provider(offer: Offer, address: str) -> dict[str, Any]:
    return {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Hearth",
        "options": {"baseURL": f"{address}/v1", "apiKey": f"{{env:{KEY_VARIABLE}}}"},
        "models": {model.name: _entry(model) for model in offer.models},
    }


def _entry(model: Model) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": model.name,
        "tool_call": model.tools,
        "attachment": model.vision,
        "reasoning": model.reasoning,
        "modalities": {"input": ["text", "image"] if model.vision else ["text"], "output": ["text"]},
    }
    if model.context is not None and model.output is not None:
        entry["limit"] = {"context": model.context, "output": model.output}
    return entry


def _part(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = document.get(key)
    return dict(found) if isinstance(found, dict) else {}
