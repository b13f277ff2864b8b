"""The tree of errors that is drawn in the module's docstring is the one that the classes form."""

import inspect
import re

import pytest

from router import errors


def _drawn() -> dict[str, str]:
    """Each class's parent, as drawn."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"([│├└─ ]*)(\w+Error\b|[A-Z]\w+)", line)
        if not found or line.startswith("Errors"):
            continue
        depth = len(found[1]) // 4
        path = [*path[:depth], found[2]]
        if depth:
            parents[found[2]] = path[depth - 1]
    return parents


def test_drawn_tree_is_the_real_one() -> None:
    real = {
        name: kind.__mro__[1].__name__
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.HearthError) and kind is not errors.HearthError
    }
    assert _drawn() == real


@pytest.mark.parametrize("kind", errors.Refusal.__subclasses__())
def test_drawn_status_is_the_real_one(kind: type[errors.Refusal]) -> None:
    drawn = re.search(rf"{kind.__name__} +(\d+),", errors.__doc__ or "")
    assert drawn is not None
    assert kind.status == int(drawn[1])


def test_refusal_is_a_proper_exception() -> None:
    """Raised, hashed and shown like any other; two alike are still two."""
    one, other = errors.ModelFailed("no"), errors.ModelFailed("no")
    assert len({one, other}) == 2
    assert str(one) == "no"
    with pytest.raises(errors.HearthError, match="no"):
        raise one
