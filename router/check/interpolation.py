"""Compose's variables: `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME:?message}`, `${NAME:+other}`; `$$` is `$`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATORS = (":-", ":?", ":+", "-", "?", "+")


@dataclass(frozen=True, slots=True)
class Missing:
    """A variable that has no value and no default. message: what `:?` says of it; None where empty text is taken."""

    name: str
    message: str | None = None


def substitute(text: str, values: Mapping[str, str]) -> tuple[str, list[Missing]]:
    """`text` with its variables filled in, and those for which nothing was there. Raises ValueError for bad syntax."""
    missing: list[Missing] = []
    if "$" not in text:
        return text, missing
    result, _ = _expand(text, 0, values, missing, within=False)
    return result, missing


def _expand(text: str, at: int, values: Mapping[str, str], missing: list[Missing], *, within: bool) -> tuple[str, int]:
    """From `at` to the end, or to the brace that closes when `within` one; the second value is where it stopped."""
    parts: list[str] = []
    while at < len(text):
        letter = text[at]
        if within and letter == "}":
            return "".join(parts), at
        if letter != "$":
            parts.append(letter)
            at += 1
        elif text.startswith("$$", at):
            parts.append("$")
            at += 2
        elif text.startswith("${", at):
            value, at = _braced(text, at + 2, values, missing)
            parts.append(value)
        elif name := _NAME.match(text, at + 1):
            parts.append(_plain(name[0], values, missing))
            at = name.end()
        else:
            raise ValueError(f"{text!r}: a $ without a variable's name; a dollar sign itself is $$")
    if within:
        raise ValueError(f"{text!r}: a ${{ that is not closed")
    return "".join(parts), at


def _braced(text: str, at: int, values: Mapping[str, str], missing: list[Missing]) -> tuple[str, int]:
    name = _NAME.match(text, at)
    if name is None:
        raise ValueError(f"{text!r}: ${{ without a variable's name")
    at = name.end()
    if text.startswith("}", at):
        return _plain(name[0], values, missing), at + 1
    operator = next((operator for operator in _OPERATORS if text.startswith(operator, at)), None)
    if operator is None:
        raise ValueError(f"{text!r}: ${{{name[0]}... is neither closed nor followed by :-, :? or :+")
    inner: list[Missing] = []
    word, end = _expand(text, at + len(operator), values, inner, within=True)
    value = values.get(name[0])
    there = bool(value) if operator[0] == ":" else value is not None
    if operator[-1] == "+":
        missing.extend(inner if there else ())
        return (word if there else ""), end + 1
    if there:
        return value or "", end + 1
    if operator[-1] == "?":
        missing.append(Missing(name[0], word))
        return "", end + 1
    missing.extend(inner)
    return word, end + 1


def _plain(name: str, values: Mapping[str, str], missing: list[Missing]) -> str:
    if name not in values:
        missing.append(Missing(name))
    return values.get(name, "")
