"""What is told in environment variables: to the SDKs, and to Open WebUI's container."""

from __future__ import annotations

import json
import shlex

from router.clients.offer import Offer


def sdk(offer: Offer, address: str) -> str:
    """Lines for a shell. OpenAI's and Anthropic's SDKs, and most of what is built on them, read these."""
    values = [
        ("OPENAI_BASE_URL", shlex.quote(f"{address}/v1")),
        ("OPENAI_API_KEY", '"$HEARTH_API_KEY"'),
        ("ANTHROPIC_BASE_URL", shlex.quote(address)),
        ("ANTHROPIC_API_KEY", '"$HEARTH_API_KEY"'),
    ]
    # the text is meant for `eval`: a name must not end its comment
    models = [f"# {' '.join(model.name.split())}{_limits(model.context, model.output)}" for model in offer.models]
    return "\n".join([*(f"export {name}={value}" for name, value in values), *models]) + "\n"


def open_webui(offer: Offer, address: str) -> str:
    """Lines for the `environment` of a Compose service. Compose fills in the key from its own environment."""
    values = {
        "OPENAI_API_BASE_URL": _literal(f"{address}/v1"),
        "OPENAI_API_KEY": "${HEARTH_API_KEY:?}",
        "ENABLE_OLLAMA_API": "false",
        "DEFAULT_MODELS": _literal(offer.default),
        "TASK_MODEL_EXTERNAL": _literal(offer.small),
    }
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in values.items())


def _literal(text: str) -> str:
    """Compose would take a dollar for the beginning of a variable."""
    return text.replace("$", "$$")


def _limits(context: int | None, output: int | None) -> str:
    return "" if context is None else f": {context} tokens, of them {output} for the answer"
