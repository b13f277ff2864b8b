"""Compose's variables."""

from __future__ import annotations

import pytest

from router.check.interpolation import Missing, substitute

pytestmark = pytest.mark.unit

VALUES = {"SET": "value", "EMPTY": "", "OTHER": "other"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("$SET and ${SET}", "value and value"),
        ("$$SET costs $$5", "$SET costs $5"),
        ("${SET:-default}${SET-default}", "valuevalue"),
        ("${EMPTY:-default}", "default"),
        ("[${EMPTY-default}]", "[]"),
        ("${UNSET:-default}${UNSET-default}", "defaultdefault"),
        ("${UNSET:-a:b@c?d-e+f}", "a:b@c?d-e+f"),
        ("${UNSET:-${EMPTY:-${OTHER}}}", "other"),
        ("${UNSET-$$}", "$"),
        ("${SET:+there}${EMPTY:+there}[${EMPTY+there}]", "there[there]"),
        ("${SET:?must be}", "value"),
        ("${UNSET:-}", ""),
    ],
)
def test_variables_are_filled_in(text: str, result: str) -> None:
    assert substitute(text, VALUES) == (result, [])


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("$UNSET", [Missing("UNSET")]),
        ("${UNSET}x${ALSO}", [Missing("UNSET"), Missing("ALSO")]),
        ("${UNSET:?must be set}", [Missing("UNSET", "must be set")]),
        ("${EMPTY:?must not be empty}", [Missing("EMPTY", "must not be empty")]),
        ("${UNSET:-$ALSO}", [Missing("ALSO")]),
        ("${SET:-$ALSO}", []),  # not looked at
        ("${SET:+$ALSO}", [Missing("ALSO")]),
    ],
)
def test_what_is_missing_is_told(text: str, missing: list[Missing]) -> None:
    assert substitute(text, VALUES)[1] == missing


@pytest.mark.parametrize("text", ["$", "a $ b", "${", "${SET", "${SET:-", "${}", "${1}", "${SET!x}", "${UNSET:-${SET}"])
def test_what_compose_would_not_take_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\$"):
        substitute(text, VALUES)
