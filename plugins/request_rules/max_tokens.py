"""The limit on an answer's length: made valid, and kept within what the model and its context allow.

Clients send -1 or 0 for "no limit", text for numbers, and more than any model has. Engines answer 400 to all of that,
once they have been woken. A model without rules refuses the same, only earlier.
"""

from __future__ import annotations

from typing import Any

from plugins.request_rules.request import Request, Shape
from router.errors import Unfit
from router.request_rules import RequestRules

#: Where each shape has the limit. The first one is the one that engines go by when there are two.
LIMITS: dict[Shape, tuple[str, ...]] = {
    Shape.CHAT: ("max_completion_tokens", "max_tokens"),
    Shape.COMPLETION: ("max_tokens",),
    Shape.RESPONSES: ("max_output_tokens",),
    Shape.MESSAGES: ("max_tokens",),
}
#: The one that is set for a request without any.
_DEFAULT: dict[Shape, str] = {**{shape: names[0] for shape, names in LIMITS.items()}, Shape.CHAT: "max_tokens"}
#: More than this is nobody's context.
_MOST = 2**31


def check(request: Request) -> None:
    """For a model without rules. Raises Unfit for what is not a number of tokens."""
    for name in LIMITS[request.shape]:
        value = request.data.get(name)
        if value is None:
            continue
        if type(value) is not int:
            raise Unfit(f"{name}: is a whole number of tokens", param=name, code="invalid_type")
        if value < 0:
            raise Unfit(f"{name}: is not negative", param=name, code="integer_below_min_value")
        if value > _MOST:
            raise Unfit(f"{name}: is at most {_MOST}", param=name, code="integer_above_max_value")


def apply(request: Request, rules: RequestRules) -> Request:
    """Valid limits, none above `max_output_tokens`, and the default one where there is none.

    Raises Unfit for a limit that can be neither understood nor left out.
    """
    for name in LIMITS[request.shape]:
        if (value := request.data.get(name)) is not None and not _is_good(value, request.shape):
            request = _repaired(request, name, value, rules)
    if rules.default_max_tokens is not None and limit_of(request) is None:
        name = _DEFAULT[request.shape]
        request = request.changed(f"{name}={rules.default_max_tokens}", values={name: rules.default_max_tokens})
    if rules.max_output_tokens is not None:
        request = at_most(request, rules.max_output_tokens)
    return request


def at_most(request: Request, limit: int) -> Request:
    """The request with no limit above `limit`; one without any stays so."""
    for name in LIMITS[request.shape]:
        value = request.data.get(name)
        if isinstance(value, int) and value > limit:
            request = request.changed(f"{name}={limit}", values={name: limit})
    return request


def limit_of(request: Request) -> int | None:
    """The longest answer that the request asks for, in tokens; None when it is left to the engine."""
    return max(
        (value for name in LIMITS[request.shape] if isinstance(value := request.data.get(name), int)), default=None
    )


def _is_good(value: Any, shape: Shape) -> bool:
    # a bare completion of no tokens is a way to have the prompt's own probabilities
    return type(value) is int and (0 if shape is Shape.COMPLETION else 1) <= value <= _MOST


def _repaired(request: Request, name: str, value: Any, rules: RequestRules) -> Request:
    number = _number(value)
    if number is not None and 1 <= number <= _MOST:
        return request.changed(f"{name}={number}", values={name: number})
    if request.shape is not Shape.MESSAGES:  # where it is not optional
        return request.changed(f"{name} removed", without=[name])
    most = rules.default_max_tokens or rules.max_output_tokens or rules.context_length
    if most is None:
        raise Unfit(f"{name}: is a whole number of tokens, at least 1", param=name, code="invalid_type")
    return request.changed(f"{name}={most}", values={name: most})


def _number(value: Any) -> int | None:
    """The whole number that is meant by 12, 12.0 or "12"; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        return int(value)
    if isinstance(value, float) and abs(value) < _MOST and value.is_integer():
        return int(value)
    return value if type(value) is int else None
