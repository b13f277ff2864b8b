"""Arguments for a tool call: the simplest JSON value that a parameter schema accepts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_DEEPEST = 12
"""Levels after which a schema that refers to itself is cut off with an empty value."""


def arguments_for(schema: object) -> str:
    """A JSON text with every required parameter of `schema` (a JSON schema of type object) and nothing else."""
    root = schema if isinstance(schema, Mapping) else {}
    value = simplest(root, root)
    return json.dumps(value if isinstance(value, dict) else {})


def simplest(schema: object, root: Mapping[str, Any], depth: int = 0) -> Any:
    """A plain value that satisfies `schema`; `root` is where its `$ref` are looked up.

    Patterns and `not` are left aside: an engine that follows a schema by grammar has the same gaps.
    """
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return "value"
    schema = _resolved(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if "default" in schema:
        return schema["default"]
    for key in ("anyOf", "oneOf"):
        choices = [choice for choice in schema.get(key) or [] if choice != {"type": "null"}]
        if choices:
            return simplest({**_without(schema, key), **_mapping(choices[0])}, root, depth + 1)
    return _of_type(schema, root, depth)


def _of_type(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    if kind == "object" or (kind is None and "properties" in schema) or depth == 0:
        properties = _mapping(schema.get("properties"))
        required = [name for name in schema.get("required") or [] if isinstance(name, str)]
        return {name: simplest(properties.get(name, {}), root, depth + 1) for name in required}
    if kind == "array":
        return [simplest(schema.get("items"), root, depth + 1)] * _whole(schema.get("minItems"), 0)
    if kind in {"integer", "number"}:
        return _least(schema, whole=kind == "integer")
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    formats = {"date": "2025-01-01", "date-time": "2025-01-01T00:00:00Z", "time": "00:00:00Z",
               "email": "someone@example.com", "uri": "https://example.com/", "ipv4": "127.0.0.1",
               "uuid": "00000000-0000-4000-8000-000000000000"}  # fmt: skip
    text = formats.get(str(schema.get("format")), "value").ljust(_whole(schema.get("minLength"), 0), "x")
    return text[: _whole(schema.get("maxLength"), len(text))]


def _least(schema: Mapping[str, Any], *, whole: bool) -> float:
    step = 1 if whole else 0.5
    if isinstance(schema.get("minimum"), (int, float)):
        value = schema["minimum"]
    elif isinstance(schema.get("exclusiveMinimum"), (int, float)):
        value = schema["exclusiveMinimum"] + step
    else:
        tops = [schema[key] - (step if key == "exclusiveMaximum" else 0)
                for key in ("maximum", "exclusiveMaximum") if isinstance(schema.get(key), (int, float))]  # fmt: skip
        value = min([1, *tops])
    multiple = schema.get("multipleOf")
    if isinstance(multiple, (int, float)) and multiple > 0:
        value = -(-value // multiple) * multiple
    return int(-(-value // 1)) if whole else value


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    for _ in range(_DEEPEST):
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            break
        target: Any = root
        for step in reference.removeprefix("#").strip("/").split("/"):
            target = _mapping(target).get(step.replace("~1", "/").replace("~0", "~"))
        schema = {**_without(schema, "$ref"), **_mapping(target)}
    for part in schema.get("allOf") or []:
        inner = _resolved(_mapping(part), root)
        merged = {**_mapping(schema.get("properties")), **_mapping(inner.get("properties"))}
        required = [*(schema.get("required") or []), *(inner.get("required") or [])]
        schema = {**_without(schema, "allOf"), **inner}
        if merged:
            schema = {**schema, "properties": merged, "required": required}
    return schema


def _whole(value: object, default: int) -> int:
    return value if isinstance(value, int) and value >= 0 else default


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _without(schema: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}
