"""The limit on an answer's length: what is repaired, clamped, dropped and refused."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.request_rules import max_tokens
from plugins.request_rules.request import Request, Shape
from router.errors import Unfit
from router.request_rules import RequestRules

WHERE = [
    (Shape.CHAT, "max_tokens"),
    (Shape.CHAT, "max_completion_tokens"),
    (Shape.COMPLETION, "max_tokens"),
    (Shape.RESPONSES, "max_output_tokens"),
    (Shape.MESSAGES, "max_tokens"),
]
NONSENSE: list[Any] = [-1, "many", "", "-5", "1.5", 1.5, True, False, [], {}, [5], float("inf"), 1e30, 2**40, -(2**70)]


def applied(shape: Shape, name: str, value: Any, **rules: Any) -> tuple[Any, tuple[str, ...]]:
    request = max_tokens.apply(Request(shape, {"model": "m", name: value}), RequestRules(**rules))
    return request.data.get(name), request.changes


@pytest.mark.parametrize(("shape", "name"), WHERE)
def test_a_good_limit_is_left_alone(shape: Shape, name: str) -> None:
    request = Request(shape, {name: 5})
    assert max_tokens.apply(request, RequestRules(max_output_tokens=5)) is request


@pytest.mark.parametrize(("shape", "name"), WHERE)
def test_a_limit_above_the_models_is_clamped(shape: Shape, name: str) -> None:
    assert applied(shape, name, 6000, max_output_tokens=4096) == (4096, (f"{name}=4096",))
    assert applied(shape, name, 4097, max_output_tokens=4096)[0] == 4096


@pytest.mark.parametrize("value", NONSENSE)
@pytest.mark.parametrize(("shape", "name"), [pair for pair in WHERE if pair[0] is not Shape.MESSAGES])
def test_nonsense_is_dropped(shape: Shape, name: str, value: Any) -> None:
    assert applied(shape, name, value, max_output_tokens=9) == (None, (f"{name} removed",))


@pytest.mark.parametrize("value", [*NONSENSE, 0])
def test_nonsense_becomes_the_most_there_is_where_a_limit_is_required(value: Any) -> None:
    assert applied(Shape.MESSAGES, "max_tokens", value, context_length=100)[0] == 100
    assert applied(Shape.MESSAGES, "max_tokens", value, context_length=100, max_output_tokens=50)[0] == 50
    assert applied(Shape.MESSAGES, "max_tokens", value, max_output_tokens=50, default_max_tokens=20)[0] == 20
    with pytest.raises(Unfit, match="max_tokens"):
        applied(Shape.MESSAGES, "max_tokens", value)


@pytest.mark.parametrize("value", [12.0, "12", 12])
@pytest.mark.parametrize(("shape", "name"), WHERE)
def test_a_number_is_understood(shape: Shape, name: str, value: Any) -> None:
    assert applied(shape, name, value)[0] == 12


@pytest.mark.parametrize(("shape", "name"), [*WHERE[:2], WHERE[3]])
def test_none_at_all_is_no_limit(shape: Shape, name: str) -> None:
    assert applied(shape, name, 0)[0] is None


def test_a_bare_completion_may_have_no_tokens() -> None:
    assert applied(Shape.COMPLETION, "max_tokens", 0) == (0, ())


@pytest.mark.parametrize(("shape", "name"), [(Shape.CHAT, "max_tokens"), *WHERE[2:]])
def test_the_default_is_for_requests_without_a_limit(shape: Shape, name: str) -> None:
    rules = RequestRules(default_max_tokens=7)
    assert max_tokens.apply(Request(shape, {}), rules).data == {name: 7}
    assert applied(shape, name, 3, default_max_tokens=7) == (3, ())
    assert max_tokens.apply(Request(Shape.CHAT, {"max_completion_tokens": 3}), rules).changes == ()


def test_no_limit_stays_no_limit() -> None:
    request = Request(Shape.CHAT, {"max_tokens": None})
    assert max_tokens.apply(request, RequestRules(max_output_tokens=5, context_length=10)) is request


def test_both_limits_are_clamped() -> None:
    request = Request(Shape.CHAT, {"max_tokens": 10, "max_completion_tokens": 20})
    assert max_tokens.limit_of(request) == 20
    assert max_tokens.at_most(request, 15).data == {"max_tokens": 10, "max_completion_tokens": 15}


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (-1, "integer_below_min_value"),
        (2**40, "integer_above_max_value"),
        ("12", "invalid_type"),
        (1.5, "invalid_type"),
        (True, "invalid_type"),
        ([], "invalid_type"),
    ],
)
def test_without_rules_nonsense_is_refused_as_openai_does(value: Any, code: str) -> None:
    for shape, name in WHERE:
        with pytest.raises(Unfit) as caught:
            max_tokens.check(Request(shape, {name: value}))
        assert (caught.value.param, caught.value.code, caught.value.status) == (name, code, 400)


@pytest.mark.parametrize("value", [None, 0, 1, 2**31])
def test_without_rules_numbers_pass(value: Any) -> None:
    for shape, name in WHERE:
        max_tokens.check(Request(shape, {name: value}))
