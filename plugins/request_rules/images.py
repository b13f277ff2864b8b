"""Images for models that take text only: refused, since an answer that ignores them would look like a real one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from plugins.request_rules.request import IMAGE_PARTS, Request, parts_of
from router.errors import Unfit
from router.request_rules import RequestRules


def apply(request: Request, rules: RequestRules) -> Request:
    """Raises Unfit, with the message that has the first image."""
    if rules.images == "accept":
        return request
    for index, item in enumerate(request.conversation):
        if isinstance(item, dict) and any(part.get("type") in IMAGE_PARTS for part in _parts(item)):
            where = f"{request.where}[{index}]"
            raise Unfit(f"{where}: this model takes text only, and there is an image. Leave images out, or ask a model "
                        "that takes them.", param=where, code="unsupported_value")  # fmt: skip
    return request


def _parts(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Of a message, and of a tool's result among the items of an input."""
    yield from parts_of(item.get("content"))
    yield from parts_of(item.get("output"))
