"""The simulator's text, vectors and tool arguments."""

import json
from itertools import pairwise
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.engine_simulator.tokens import count_tokens, pieces, prose, similarity, token_ids, vector
from router.engine_simulator.tool_arguments import arguments_for


@given(st.text())
def test_pieces_are_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text
    assert len(pieces(text)) == count_tokens(text) == len(token_ids(text))


@given(st.text(), st.integers(0, 400))
def test_prose_has_the_length_asked_for_and_never_repeats_a_token_at_once(seed: str, length: int) -> None:
    tokens = list(prose(seed, length))
    assert len(tokens) == length
    assert all(left.strip(" .").lower() != right.strip(" .").lower() for left, right in pairwise(tokens))
    assert tokens == list(prose(seed, length))


def test_different_questions_get_different_answers() -> None:
    assert len({"".join(prose(str(number), 20)) for number in range(50)}) > 40


@given(st.text(), st.integers(1, 200))
def test_vectors_are_unit_vectors_that_depend_on_the_text(text: str, dimensions: int) -> None:
    found = vector(text, dimensions)
    assert len(found) == dimensions
    assert similarity(found, found) == pytest.approx(1.0)
    assert found == vector(text, dimensions)


def test_texts_with_words_in_common_are_closer() -> None:
    cat, kitten, tax = (vector(text, 64) for text in ("a small cat", "a small kitten", "yearly tax return"))
    assert similarity(cat, kitten) > similarity(cat, tax)


SCHEMAS: list[dict[str, Any]] = [
    {"type": "object"},
    {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a", "b"]},
    {"type": "object", "properties": {"a": {"type": "integer", "minimum": 7, "multipleOf": 5}}, "required": ["a"]},
    {"type": "object", "properties": {"a": {"type": "number", "exclusiveMaximum": 0}}, "required": ["a"]},
    {"type": "object", "properties": {"a": {"enum": ["x", "y"]}, "b": {"const": 4}}, "required": ["a", "b"]},
    {"type": "object", "properties": {"a": {"type": ["null", "boolean"]}}, "required": ["a"]},
    {"type": "object", "properties": {"a": {"anyOf": [{"type": "null"}, {"type": "integer"}]}}, "required": ["a"]},
    {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}, "minItems": 2}},
     "required": ["a"]},
    {"type": "object", "properties": {"a": {"type": "string", "minLength": 12, "maxLength": 14}}, "required": ["a"]},
    {"type": "object", "properties": {"a": {"type": "string", "maxLength": 2}}, "required": ["a"]},
    {"type": "object", "properties": {"a": {"$ref": "#/$defs/p"}}, "required": ["a"],
     "$defs": {"p": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}}},
    {"type": "object", "allOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]}],
     "properties": {"b": {"type": "boolean"}}, "required": ["b"]},
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS, ids=json.dumps)
def test_arguments_satisfy_the_schema(schema: dict[str, Any]) -> None:
    jsonschema.validate(json.loads(arguments_for(schema)), schema)


@pytest.mark.parametrize("schema", [None, 7, [], {}, {"type": "string"}, {"required": [4]}, {"properties": 3}])
def test_a_schema_that_is_none_still_gives_an_object(schema: object) -> None:
    assert isinstance(json.loads(arguments_for(schema)), dict)


def test_a_schema_that_refers_to_itself_comes_to_an_end() -> None:
    schema = {"$ref": "#/$defs/node", "$defs": {"node": {
        "type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "required": ["next"]}}}  # fmt: skip
    assert "next" in json.loads(arguments_for(schema))
